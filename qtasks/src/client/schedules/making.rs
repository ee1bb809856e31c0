//! Makes, changes and removes schedules.

use std::{future::IntoFuture, sync::Arc, time::Duration};

use futures::{FutureExt as _, future::BoxFuture};
use jiff::Timestamp;

use super::handle::Schedule;
use crate::{
    client::app::QueueTasks,
    environment::{
        App,
        holders::Holders,
        notes::{delete, kind},
        schedules::timetable,
    },
    error::{Error, Result},
    model::{
        limits::{Limits, check_name},
        schedule::{
            Missed, Overlap, ScheduleOptions,
            definition::{CodeSchedule, Definition},
            saved::{SavedSchedule, Source},
        },
    },
    task::call::CallOptions,
};

/// How many bytes of arguments a schedule has at most: they stand in its note, which all workers read.
const ARGS: usize = 32 << 10;
/// The time zone of a schedule that names none.
const UTC: &str = "UTC";

impl QueueTasks {
    /// Has a call enqueued again and again, on a cron expression such as `30 6 * * *` or `every 15m`: once for each tick, on
    /// however many workers. The schedule stands in the store until it is [removed](Self::unschedule). A schedule of this name
    /// becomes this one: it goes on from its next tick after now.
    ///
    /// A schedule that belongs to a program stands in its code instead: in `#[qtask(schedule = "..")]`, or in
    /// [`Builder::schedule`](crate::Builder::schedule).
    ///
    /// ```
    /// use qtasks::{Missed, prelude::*};
    ///
    /// #[qtask]
    /// async fn accounts_of(tenant: String) {}
    ///
    /// # #[tokio::main]
    /// # async fn main() -> qtasks::Result<()> {
    /// let app = QueueTasks::open("memory:").await?;
    /// let accounts = app
    ///     .schedule("accounts-42", accounts_of("acme".into()), "30 6 * * MON-FRI")
    ///     .timezone("Asia/Tokyo")
    ///     .missed(Missed::Once)
    ///     .await?;
    /// println!("{}: next at {:?}", accounts.description(), accounts.next(3));
    /// assert!(app.unschedule("accounts-42").await?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Schedule`] for a wrong expression or time zone; [`Error::OverLimit`] and [`Error::Encode`] when the arguments, of
    /// 32 KiB at most, or the name do not fit; [`Error::Misuse`] for a call with an id or a due time, which differ from tick to tick;
    /// [`Error::Store`] when the store does not answer.
    ///
    /// # Cancel safety
    ///
    /// The schedule may be there although the future was dropped. To make it again does no harm.
    pub fn schedule<C: CallOptions>(&self, name: &str, call: C, expression: &str) -> Scheduling {
        let app = self.app();
        let schedule = code_schedule(&app.limits, name, call, (expression, UTC));
        Scheduling { app, schedule }
    }

    /// Removes a schedule from the store; gives whether it was there. Its jobs stay. One that has been put in the place of a
    /// schedule in the code gives way to that again.
    ///
    /// # Errors
    ///
    /// [`Error::InCode`] when it stands in the code of a running worker; [`Error::Store`] when the store does not answer.
    pub async fn unschedule(&self, name: &str) -> Result<bool> {
        check_name("schedule", name)?;
        let app = self.app();
        let found = app.found_schedules().await?.into_iter().find(|found| found.name() == name);
        if found.is_some_and(|found| found.saved.source == Source::Code)
            && Holders::read(&app).await?.last_started(name).is_some()
        {
            return Err(Error::InCode { name: name.to_owned() });
        }
        app.change_note(kind::SCHEDULE, name, |found| Ok(found.map(delete))).await
    }
}

/// A schedule of this call.
pub(crate) fn code_schedule<C: CallOptions>(
    limits: &Limits,
    name: &str,
    call: C,
    (expression, timezone): (&str, &str),
) -> Result<CodeSchedule> {
    check_name("schedule", name)?;
    // The time at which a job is enqueued, and with it what is due then, is told by this.
    let made = Timestamp::UNIX_EPOCH;
    let limits = Limits { args: limits.args.min(ARGS), ..*limits };
    let job = call.into_call().prepare(&limits, made)?;
    if job.has_own_id || job.due != made && job.unique.as_ref().is_none_or(|unique| unique.put_off.is_none()) {
        return Err(Error::Misuse(
            "a scheduled call has no `id`, `delay` or `at` of its own: each tick enqueues another job, due at the tick",
        ));
    }
    if job.after.is_some() {
        return Err(Error::Misuse("a scheduled call waits for its ticks, and for no other jobs"));
    }
    let definition = Definition {
        task: job.task.into_owned(),
        queue: job.queue.into_owned(),
        priority: job.priority,
        args: job.args,
        max_time: job.max_time,
        expires: job.expires,
        unique: job.unique,
        expression: expression.to_owned(),
        timezone: timezone.to_owned(),
        options: ScheduleOptions::default(),
    };
    Ok(CodeSchedule { name: name.to_owned(), definition })
}

/// A schedule that is to be made: by `.await`.
#[must_use = "nothing is scheduled until this is awaited"]
pub struct Scheduling {
    app: Arc<App>,
    schedule: Result<CodeSchedule>,
}

impl Scheduling {
    /// The zone in which its times are meant, as `Europe/Moscow`; `UTC` without this.
    pub fn timezone(self, timezone: &str) -> Self {
        self.with(|definition| definition.timezone = timezone.to_owned())
    }

    /// What becomes of ticks at which no worker ran; [`Missed::Skip`] without this.
    pub fn missed(self, missed: Missed) -> Self {
        self.with(|definition| definition.options.missed = missed)
    }

    /// What becomes of a tick while the last job lives; [`Overlap::Allow`] without this.
    pub fn overlap(self, overlap: Overlap) -> Self {
        self.with(|definition| definition.options.overlap = overlap)
    }

    /// Spreads the jobs of different schedules and ticks over so long a time: each is due that much later than its tick at most.
    pub fn jitter(self, jitter: Duration) -> Self {
        self.with(|definition| definition.options.jitter = jitter)
    }

    fn with(mut self, change: impl FnOnce(&mut Definition)) -> Self {
        if let Ok(schedule) = &mut self.schedule {
            change(&mut schedule.definition);
        }
        self
    }
}

impl IntoFuture for Scheduling {
    type Output = Result<Schedule>;
    type IntoFuture = BoxFuture<'static, Result<Schedule>>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { app, schedule } = self;
        async move {
            let CodeSchedule { name, definition } = schedule?;
            let timetable = timetable(&name, &definition)?;
            let now = app.now();
            let becomes = |found: Option<&SavedSchedule>| match found {
                None => Some(SavedSchedule::new(definition.clone(), &timetable, Source::Store, now)),
                Some(found) if found.source == Source::Store && found.definition == definition => None,
                Some(found) => Some(found.redefined(&definition, &timetable, Source::Store, now)),
            };
            app.change_schedule(&name, |found| Ok(becomes(found))).await?;
            Schedule::read(&app, &name).await?.ok_or(Error::NoSuchSchedule { name })
        }
        .boxed()
    }
}
