//! Pauses and resumes queues, tasks, schedules, or everything.

use std::{future::IntoFuture, sync::Arc, time::Duration};

use futures::{FutureExt as _, future::BoxFuture};
use jiff::Timestamp;

use super::app::QueueTasks;
use crate::{
    environment::{
        App,
        notes::{delete, kind, write},
        patience::patiently,
        schedules::timetable,
    },
    error::{Error, Result},
    model::{
        limits::check_name,
        pause::{Pause, Scope},
        schedule::saved::{SavedPause, SavedSchedule},
    },
    runtime::alarm::sleep,
};

impl QueueTasks {
    /// Pauses a queue, a task or everything: when the answer is there, no further job of it is started, on any machine, from one
    /// second later on. Jobs that run go on, new ones are taken in, and nothing fails. What is paused already is paused anew.
    ///
    /// A schedule that is paused does not fire: ticks until the end of its pause are neither fired nor missed.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use qtasks::{Scope, prelude::*};
    ///
    /// # #[tokio::main]
    /// # async fn main() -> qtasks::Result<()> {
    /// let app = QueueTasks::open("memory:").await?;
    /// app.pause(Scope::Queue("mail")).lasting(Duration::from_secs(3600)).because("the provider is down").by("ann").await?;
    /// assert_eq!(app.pauses().await?.len(), 1);
    /// assert!(app.resume(Scope::Queue("mail")).await?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::OverLimit`] for what is no name of a queue, task or schedule, [`Error::NoSuchSchedule`], [`Error::Misuse`] for a
    /// schedule whose jobs are to [stop](Pausing::stop), and [`Error::Store`] when the store does not answer.
    ///
    /// # Cancel safety
    ///
    /// It may be paused although the future was dropped.
    pub fn pause(&self, scope: Scope<'_>) -> Pausing {
        let app = self.app();
        let pause = Pause::new(scope, app.now());
        let checked = check_scope(scope);
        Pausing { app, pause: checked.map(|()| pause) }
    }

    /// Resumes what was paused; gives whether it was. Another scope that covers the same jobs stays paused.
    ///
    /// # Errors
    ///
    /// Those of [`pause`](Self::pause).
    pub async fn resume(&self, scope: Scope<'_>) -> Result<bool> {
        check_scope(scope)?;
        let app = self.app();
        match scope {
            Scope::Schedule(name) => resume_schedule(&app, name).await,
            _ => app.change_note(kind::PAUSE, &scope.to_string(), |found| Ok(found.map(delete))).await,
        }
    }

    /// All that is paused at this time.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] when the store does not answer.
    pub async fn pauses(&self) -> Result<Vec<Pause>> {
        let app = self.app();
        let mut pauses = pauses(&app).await?;
        let schedules = app.found_schedules().await?;
        let of_schedules = schedules.iter().filter_map(|found| Some(found.saved.pause.as_ref()?.pause(found.name())));
        pauses.extend(of_schedules.filter(|pause| pause.holds(app.now())));
        Ok(pauses)
    }
}

/// All queues and tasks that are paused at this time.
pub(crate) async fn pauses(app: &Arc<App>) -> Result<Vec<Pause>> {
    let (notes, now) = (app.notes(kind::PAUSE).await?, app.now());
    let pauses = notes.iter().filter_map(|note| Pause::read(&note.name, &note.value, note.until));
    Ok(pauses.filter(|pause| pause.holds(now)).collect())
}

async fn pause_schedule(app: &Arc<App>, name: &str, pause: &Pause) -> Result<()> {
    if pause.stops {
        return Err(Error::Misuse("a schedule runs no jobs that could stop: pause the task or the queue of its jobs"));
    }
    let paused = |saved: &SavedSchedule| {
        // An earlier pause that has ended by itself has had its end.
        let has_ended = saved.pause.as_ref().is_some_and(|earlier| !earlier.pause(name).holds(pause.since));
        let before = if has_ended { resumed(name, saved, pause.since)? } else { None };
        Ok(SavedSchedule { pause: Some(SavedPause::new(pause)), ..before.unwrap_or_else(|| saved.clone()) })
    };
    if app.change_schedule(name, |saved| saved.map(paused).transpose()).await? {
        return Ok(());
    }
    Err(Error::NoSuchSchedule { name: name.to_owned() })
}

/// Resumes a schedule; gives whether it was paused.
async fn resume_schedule(app: &Arc<App>, name: &str) -> Result<bool> {
    app.change_schedule(name, |saved| saved.map_or(Ok(None), |saved| resumed(name, saved, app.now()))).await
}

/// A schedule whose pause ends now, or has ended by itself before.
fn resumed(name: &str, saved: &SavedSchedule, now: Timestamp) -> Result<Option<SavedSchedule>> {
    let Some(pause) = &saved.pause else { return Ok(None) };
    let end = pause.pause(name).until.map_or(now, |until| until.min(now));
    Ok(Some(saved.resumed(&timetable(name, &saved.definition)?, end)))
}

fn check_scope(scope: Scope<'_>) -> Result<()> {
    match scope {
        Scope::All => {}
        Scope::Queue(name) => check_name("queue", name)?,
        Scope::Task(name) => check_name("task", name)?,
        Scope::Schedule(name) => check_name("schedule", name)?,
    }
    Ok(())
}

/// A pause that is to be made: by `.await`.
#[must_use = "nothing is paused until this is awaited"]
pub struct Pausing {
    app: Arc<App>,
    pause: Result<Pause>,
}

impl Pausing {
    /// It ends by itself at this time.
    pub fn until(self, time: Timestamp) -> Self {
        self.with(|pause| pause.until = Some(time))
    }

    /// It ends by itself after this time.
    pub fn lasting(self, time: Duration) -> Self {
        self.with(|pause| pause.until = Some(pause.since.checked_add(time).unwrap_or(Timestamp::MAX)))
    }

    /// Why: what `why` says of a job that waits for its end.
    pub fn because(self, reason: impl Into<String>) -> Self {
        self.with(|pause| pause.because = Some(reason.into()))
    }

    /// Who pauses it.
    pub fn by(self, name: impl Into<String>) -> Self {
        self.with(|pause| pause.by = Some(name.into()))
    }

    /// Has jobs that run given back too, without a failure: generators at their next yield, others when the
    /// [grace](crate::WorkerBuilder::grace) of their worker is over.
    pub fn stop(self) -> Self {
        self.with(|pause| pause.stops = true)
    }

    fn with(mut self, change: impl FnOnce(&mut Pause)) -> Self {
        if let Ok(pause) = &mut self.pause {
            change(pause);
        }
        self
    }

    /// Pauses it, and waits until no job of it runs.
    ///
    /// # Errors
    ///
    /// Those of [`QueueTasks::pause`], and [`Error::Misuse`] for a schedule.
    ///
    /// # Cancel safety
    ///
    /// It stays paused when the future is dropped.
    pub async fn drain(self) -> Result<Pause> {
        if self.pause.as_ref().is_ok_and(|pause| matches!(pause.scope(), Scope::Schedule(_))) {
            return Err(Error::Misuse("a schedule runs no jobs: drain the task or the queue of its jobs"));
        }
        let app = self.app.clone();
        let pause = self.await?;
        // No job is started later than this.
        sleep(Duration::from_secs(1)).await;
        while runs(&app, pause.scope()).await? > 0 {
            sleep(Duration::from_millis(100)).await;
        }
        Ok(pause)
    }
}

/// How many jobs run that the scope covers.
async fn runs(app: &Arc<App>, scope: Scope<'_>) -> Result<u64> {
    let (store, now) = (&*app.store, app.now());
    let counts = patiently(store, || store.counts(now)).await?;
    let covered = counts.iter().filter(|counts| scope.covers(&counts.lane.queue, &counts.lane.task));
    Ok(covered.map(|counts| counts.jobs.running).sum())
}

impl IntoFuture for Pausing {
    type Output = Result<Pause>;
    type IntoFuture = BoxFuture<'static, Result<Pause>>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { app, pause } = self;
        async move {
            let pause = pause?;
            if let Scope::Schedule(name) = pause.scope() {
                pause_schedule(&app, name, &pause).await?;
                return Ok(pause);
            }
            let encode = |source: serde_json::Error| Error::Encode { what: "the pause".into(), source: source.into() };
            let value = pause.value().map_err(encode)?;
            let name = pause.scope().to_string();
            app.change_note(kind::PAUSE, &name, |found| {
                Ok(Some(write(kind::PAUSE, &name, value.clone(), pause.until, found)))
            })
            .await?;
            Ok(pause)
        }
        .boxed()
    }
}
