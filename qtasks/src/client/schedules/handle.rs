//! The schedules of a store: when they fire, what they have done, and jobs of theirs out of turn.

use std::{fmt, ops::Range, sync::Arc};

use jiff::{SignedDuration, Timestamp};

use crate::{
    client::{app::QueueTasks, enqueuing::enqueue, handle::JobHandle},
    environment::{
        App,
        schedules::{FoundSchedule, timetable},
    },
    error::Result,
    model::{
        job::JobId,
        limits::check_name,
        pause::Pause,
        schedule::{
            ScheduleOptions,
            definition::Definition,
            saved::{SavedSchedule, Source},
            tick,
            timetable::Timetable,
        },
    },
    task::prepared::Prepared,
};

/// How many jobs a call of a backfill enqueues.
const BATCH: usize = 1_000;

impl QueueTasks {
    /// All schedules that the store has, by name. Those of the code are written by the first worker that has them.
    ///
    /// # Errors
    ///
    /// [`Error::Store`](crate::Error::Store) when the store cannot be read.
    pub async fn schedules(&self) -> Result<Vec<Schedule>> {
        let app = self.app();
        let found = app.found_schedules().await?;
        Ok(found.into_iter().map(|found| Schedule::new(app.clone(), found)).collect())
    }

    /// The schedule of this name. That of a task which names one in its attribute has the name of the task.
    ///
    /// # Errors
    ///
    /// [`Error::OverLimit`](crate::Error::OverLimit) for what is no name, and [`Error::Store`](crate::Error::Store) when the
    /// store cannot be read.
    pub async fn find_schedule(&self, name: &str) -> Result<Option<Schedule>> {
        check_name("schedule", name)?;
        Schedule::read(&self.app(), name).await
    }
}

/// A schedule, as the store had it when it was read.
#[derive(Clone)]
pub struct Schedule {
    app: Arc<App>,
    name: String,
    saved: SavedSchedule,
    /// There is none where this program does not understand the expression or the time zone.
    timetable: Option<Timetable>,
}

impl Schedule {
    fn new(app: Arc<App>, FoundSchedule { note, saved }: FoundSchedule) -> Self {
        let timetable = saved.definition.timetable().ok();
        Self { app, name: note.name, saved, timetable }
    }

    pub(super) async fn read(app: &Arc<App>, name: &str) -> Result<Option<Self>> {
        let found = app.found_schedules().await?.into_iter().find(|found| found.name() == name);
        Ok(found.map(|found| Self::new(app.clone(), found)))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The task that it calls.
    pub fn task(&self) -> &str {
        &self.definition().task
    }

    /// The queue of its jobs.
    pub fn queue(&self) -> &str {
        &self.definition().queue
    }

    /// When it fires, as it was written.
    pub fn expression(&self) -> &str {
        &self.definition().expression
    }

    /// The zone in which its times are meant.
    pub fn timezone(&self) -> &str {
        &self.definition().timezone
    }

    /// When it fires, in English: `at 09:00, Monday to Friday`.
    pub fn description(&self) -> String {
        self.timetable.as_ref().map_or_else(|| self.expression().to_owned(), Timetable::describe)
    }

    /// What becomes of ticks that are missed or overlap, and its jitter.
    pub fn options(&self) -> ScheduleOptions {
        self.definition().options
    }

    /// The next `count` ticks; fewer where it comes to an end or does not fire: while it is paused without an end, and when it
    /// has [left the code](Self::left).
    pub fn next(&self, count: usize) -> Vec<Timestamp> {
        let Some(timetable) = self.timetable.as_ref().filter(|_| self.saved.left.is_none()) else { return Vec::new() };
        let saved = match (&self.saved.pause, self.saved.due()) {
            (Some(_), Some(end)) => &self.saved.resumed(timetable, end),
            (Some(_), None) => return Vec::new(),
            (None, _) => &self.saved,
        };
        std::iter::successors(saved.next, |tick| timetable.next_after(*tick)).take(count).collect()
    }

    /// The last tick that fired, and its job.
    pub fn last(&self) -> Option<(Timestamp, JobId)> {
        self.saved.last.map(|last| (last.tick, last.job))
    }

    /// How many ticks were missed: no worker ran that could have fired them, and they were found too late.
    pub fn missed(&self) -> u64 {
        self.saved.missed.count
    }

    /// The last tick that was missed.
    pub fn last_missed(&self) -> Option<Timestamp> {
        self.saved.missed.last
    }

    /// How many ticks were passed over since the last job still lived.
    pub fn overlapped(&self) -> u64 {
        self.saved.overlapped.count
    }

    /// How it is paused, if it is.
    pub fn pause(&self) -> Option<Pause> {
        let pause = self.saved.pause.as_ref()?.pause(&self.name);
        pause.holds(self.app.now()).then_some(pause)
    }

    /// Whether it stands in the code of programs, rather than in the store alone.
    pub fn is_in_code(&self) -> bool {
        self.saved.source == Source::Code
    }

    /// Since when no running worker has it in its code any more, where that is so. It does not fire then, and is forgotten after
    /// seven days.
    pub fn left(&self) -> Option<Timestamp> {
        self.saved.left
    }

    pub(super) fn app(&self) -> &Arc<App> {
        &self.app
    }

    pub(super) fn definition(&self) -> &Definition {
        &self.saved.definition
    }

    /// Enqueues its call now, beside its ticks. [`tick`](crate::TaskContext::tick) of the job is the time of this call, to the
    /// millisecond.
    ///
    /// # Errors
    ///
    /// Those of [`QueueTasks::enqueue`].
    ///
    /// # Cancel safety
    ///
    /// The job may be enqueued although the future was dropped.
    pub async fn run_now(&self) -> Result<JobHandle<serde_json::Value>> {
        let now = self.app.now();
        let job = self.app.job_of_tick(&self.name, self.definition(), now, now)?;
        let job = Prepared { id: tick::by_hand(&self.name, now, fastrand::u16(..)), due: now, ..job };
        let joined = enqueue(&*self.app.store, std::slice::from_ref(&job)).await?;
        Ok(JobHandle::of_call(job.found(&joined), job.id, self.app.clone()))
    }

    /// The ticks from a time on and before another.
    ///
    /// # Errors
    ///
    /// [`Error::Schedule`](crate::Error::Schedule) where this program does not know its expression or time zone.
    pub fn ticks(&self, times: Range<Timestamp>) -> Result<impl Iterator<Item = Timestamp> + use<>> {
        let timetable = timetable(&self.name, self.definition())?;
        let before = times.start.checked_sub(SignedDuration::from_nanos(1)).unwrap_or(Timestamp::MIN);
        let first = timetable.next_after(before);
        let ticks = std::iter::successors(first, move |tick| timetable.next_after(*tick));
        Ok(ticks.take_while(move |tick| *tick < times.end))
    }

    /// Enqueues a job for each tick from a time on and before another, the oldest first, a thousand in a commit, and gives how
    /// many ticks there are. The jobs are due at once.
    ///
    /// The id of each job is made of the tick. So a tick that has a job gets no second one, and a backfill can be done again
    /// where it was cut short; but only until its jobs are pruned. By their ids these jobs are older than all that wait, so they
    /// are leased before others of their priority.
    ///
    /// # Errors
    ///
    /// Those of [`ticks`](Self::ticks) and [`QueueTasks::enqueue`]. Earlier thousands are enqueued then.
    ///
    /// # Cancel safety
    ///
    /// Some of the jobs may be enqueued although the future was dropped.
    pub async fn backfill(&self, times: Range<Timestamp>) -> Result<u64> {
        let (mut ticks, mut count) = (self.ticks(times)?.peekable(), 0);
        while ticks.peek().is_some() {
            let now = self.app.now();
            let job = |tick| {
                let job = self.app.job_of_tick(&self.name, self.definition(), tick, now)?;
                Ok(Prepared { due: now, ..job })
            };
            let jobs = ticks.by_ref().take(BATCH).map(job).collect::<Result<Vec<_>>>()?;
            enqueue(&*self.app.store, &jobs).await?;
            count += jobs.len() as u64;
        }
        Ok(count)
    }
}

/// ``digest: at 09:00, Monday to Friday (Europe/Moscow)``
impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({})", self.name, self.description(), self.timezone())
    }
}

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
