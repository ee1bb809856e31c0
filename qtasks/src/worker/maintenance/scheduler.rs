//! Fires schedules: at each tick one of all workers enqueues the job, in the commit that moves the schedule on.
//!
//! No worker leads. All that may fire a schedule wait for its tick, and the store lets one of them write. So that they do not all
//! try at once, the one that fired last goes first, and each of the others a little later, by its place.

use std::{collections::HashMap, mem, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use tokio::time::sleep;

use super::declaring::{declare, is_in_force};
use crate::{
    environment::{App, notes::kind, outage::FailingCaller, schedules::FoundSchedule},
    error::Result,
    model::{
        job::WorkerId,
        schedule::{
            Overlap,
            saved::{Fired, SavedSchedule, Source},
            tick::place,
            timetable::Timetable,
        },
    },
    store::{Note, Written},
    task::prepared::Prepared,
    telemetry,
    worker::shared::WorkerShared,
};

/// What was read counts for so long at least, whatever a notification says: on SQLite each write of another process is one.
const REST: Duration = Duration::from_millis(200);
/// The pause after a look that failed, or that left something due.
const AGAIN: SignedDuration = SignedDuration::from_secs(1);
/// How much later each place goes than the one before it.
const TURN: SignedDuration = SignedDuration::from_millis(20);
/// How many places there are. The last one goes half a second after the tick.
const PLACES: u32 = 25;
/// How many schedules are moved on in one call.
const BATCH: usize = 100;
/// After so many jobs no further schedule is moved on in the same call.
const JOBS: usize = 1_000;
/// How often a look goes through what is due. Of ticks that were missed, each round fires a thousand.
const ROUNDS: usize = 100;

/// Fires schedules until the worker is to stop.
pub(crate) async fn run(shared: Arc<WorkerShared>) {
    let app = &shared.app;
    let mut scheduler = Scheduler { app, worker: shared.id, entries: Vec::new() };
    let mut notes = app.store.notifier().notes();
    let mut failing = None;
    loop {
        let wake = match scheduler.look().await {
            Ok(wake) => {
                if let Some(failing) = failing.take() {
                    FailingCaller::answered(failing);
                }
                wake
            }
            Err(error) => {
                app.outage.failed(&mut failing, "fire schedules", &error);
                Some(app.now() + AGAIN)
            }
        };
        let notified = async {
            sleep(REST).await;
            notes.notification().await;
        };
        tokio::select! {
            () = shared.stopping.cancelled() => return,
            () = until(app, wake) => {}
            () = notified => {}
        }
    }
}

async fn until(app: &App, wake: Option<Timestamp>) {
    match wake {
        Some(wake) => app.clock.sleep_until(wake).await,
        None => std::future::pending().await,
    }
}

/// The part of a worker that fires schedules.
struct Scheduler<'w> {
    app: &'w Arc<App>,
    worker: WorkerId,
    /// All schedules, as they were read last.
    entries: Vec<Entry>,
}

/// A schedule that was read.
struct Entry {
    found: FoundSchedule,
    /// When its ticks are, if this worker may fire it.
    timetable: Option<Timetable>,
}

impl Scheduler<'_> {
    /// Writes what is to be written of the schedules in the code, and fires what is due. Gives when to look again.
    async fn look(&mut self) -> Result<Option<Timestamp>> {
        self.read().await?;
        if declare(self.app, self.worker, self.entries.iter().map(|entry| &entry.found)).await? {
            self.read().await?;
        }
        for _ in 0..ROUNDS {
            let now = self.app.now();
            let is_due = |entry: &Entry| turn(entry, self.worker).is_some_and(|turn| turn <= now);
            let due: Vec<_> = (0..self.entries.len()).filter(|at| is_due(&self.entries[*at])).take(BATCH).collect();
            if due.is_empty() {
                return Ok(self.next());
            }
            if !self.fire(&due, now).await? {
                self.read().await?;
            }
        }
        Ok(self.next().map(|next| next.max(self.app.now() + AGAIN)))
    }

    /// When this worker has something to do next.
    fn next(&self) -> Option<Timestamp> {
        self.entries.iter().filter_map(|entry| turn(entry, self.worker)).min()
    }

    /// Reads all schedules. Those that have not changed are not decoded again.
    async fn read(&mut self) -> Result<()> {
        let mut known: HashMap<_, _> =
            mem::take(&mut self.entries).into_iter().map(|entry| (entry.found.note.version, entry)).collect();
        let notes = self.app.notes(kind::SCHEDULE).await?;
        let entry = |note: Note| known.remove(&note.version).or_else(|| self.entry(note));
        self.entries = notes.into_iter().filter_map(entry).collect();
        self.app.schedule_names.learn(self.entries.iter().map(|entry| entry.found.name()));
        Ok(())
    }

    fn entry(&self, note: Note) -> Option<Entry> {
        let found = FoundSchedule::read(note)?;
        if !self.may_fire(&found) {
            return Some(Entry { found, timetable: None });
        }
        let timetable = found.saved.definition.timetable();
        if let Err(error) = &timetable {
            telemetry::schedule_unreadable(found.name(), error);
        }
        Some(Entry { found, timetable: timetable.ok() })
    }

    fn may_fire(&self, found: &FoundSchedule) -> bool {
        match found.saved.source {
            Source::Store => self.app.registry.get(&found.saved.definition.task).is_some(),
            Source::Code => is_in_force(self.app, found),
        }
    }

    /// Moves these schedules on and enqueues their jobs, in one commit; or each by itself, where another worker has been faster
    /// with one of them, or the store refuses a job. Gives whether what was read of them still holds.
    async fn fire(&mut self, due: &[usize], now: Timestamp) -> Result<bool> {
        let (mut firings, mut jobs) = (Vec::new(), 0);
        for &at in due {
            let firing = self.firing(&self.entries[at], now).await?;
            jobs += firing.jobs.len();
            firings.push((at, firing));
            if jobs >= JOBS {
                break;
            }
        }
        match self.write(&firings).await {
            Ok(true) => return Ok(true),
            Err(error) if error.is_store_trouble() => return Err(error),
            Ok(false) | Err(_) => {}
        }
        let mut holds = true;
        for firing in firings {
            holds &= self.write_alone(firing).await?;
        }
        Ok(holds)
    }

    /// What the schedule does now.
    async fn firing(&self, Entry { found, timetable }: &Entry, now: Timestamp) -> Result<Firing> {
        let (name, saved) = (found.name(), &found.saved);
        let lives = saved.definition.options.overlap == Overlap::Skip && self.lives(found).await?;
        let fired = timetable.as_ref().and_then(|timetable| saved.fire(name, timetable, lives, now, self.worker));
        let Some(Fired { becomes, ticks }) = fired else {
            return Ok(Firing { becomes: found.clone(), jobs: Vec::new(), tick: None });
        };
        let mut jobs = Vec::with_capacity(ticks.len());
        for &tick in &ticks {
            match self.app.job_of_tick(name, &saved.definition, tick, now) {
                Ok(job) => jobs.push(job),
                Err(error) => telemetry::tick_refused(name, tick, &error),
            }
        }
        let firing = Firing { becomes: found.becoming(becomes)?, jobs, tick: ticks.last().copied() };
        if firing.jobs.is_empty() { firing.without_jobs(found) } else { Ok(firing) }
    }

    /// Whether the last job of the schedule has not ended.
    async fn lives(&self, found: &FoundSchedule) -> Result<bool> {
        let Some(last) = found.saved.last else { return Ok(false) };
        let standing = self.app.store.standing(last.job).await?;
        Ok(standing.is_some_and(|(standing, _)| !standing.state.is_ended()))
    }

    /// Writes what one schedule has become. Where the store refuses its jobs for good, the schedule goes on without them.
    async fn write_alone(&mut self, (at, firing): (usize, Firing)) -> Result<bool> {
        let error = match self.write(&[(at, firing)]).await {
            Err(error) if !error.is_store_trouble() => error,
            written => return written,
        };
        let found = &self.entries[at].found;
        telemetry::tick_refused(found.name(), self.app.now(), &error);
        let firing = self.firing(&self.entries[at], self.app.now()).await?.without_jobs(found)?;
        self.write(&[(at, firing)]).await
    }

    /// Writes what schedules have become, with their jobs. Gives whether it was written.
    async fn write(&mut self, firings: &[(usize, Firing)]) -> Result<bool> {
        let change = |(at, firing): &(usize, Firing)| firing.becomes.change_from(&self.entries[*at].found);
        let changes = firings.iter().map(change).collect();
        let jobs = firings.iter().flat_map(|(_, firing)| &firing.jobs).map(Prepared::job).collect();
        if self.app.store.note(changes, jobs).await? == Written::Fenced {
            return Ok(false);
        }
        for (at, firing) in firings {
            let entry = &mut self.entries[*at];
            firing.tell(&entry.found, self.app.now());
            entry.found = firing.becomes.clone();
        }
        Ok(true)
    }
}

/// When this worker turns to the schedule, if it may fire it.
fn turn(Entry { found, timetable }: &Entry, worker: WorkerId) -> Option<Timestamp> {
    let due = found.saved.due().filter(|_| timetable.is_some())?;
    let is_first = found.saved.last.is_none_or(|last| last.by == worker);
    let places = if is_first { 0 } else { 1 + place(found.name(), worker, PLACES) };
    Some(due.checked_add(TURN * places.cast_signed()).unwrap_or(Timestamp::MAX))
}

/// What a schedule becomes, and the jobs that it enqueues.
struct Firing {
    becomes: FoundSchedule,
    jobs: Vec<Prepared>,
    /// The last tick among those that fire.
    tick: Option<Timestamp>,
}

impl Firing {
    /// The same, where no tick gets a job.
    fn without_jobs(self, before: &FoundSchedule) -> Result<Self> {
        let becomes = SavedSchedule { last: before.saved.last, ..self.becomes.saved };
        Ok(Self { becomes: before.becoming(becomes)?, jobs: Vec::new(), tick: None })
    }

    /// Says what has been written.
    fn tell(&self, before: &FoundSchedule, now: Timestamp) {
        self.jobs.iter().for_each(|job| telemetry::enqueued(&job.queue, &job.task));
        let name = self.becomes.name();
        if let Some(tick) = self.tick {
            telemetry::schedule_fired(name, tick, now);
        }
        let missed = self.becomes.saved.missed;
        if missed.count > before.saved.missed.count {
            telemetry::schedule_missed(name, missed.count - before.saved.missed.count, missed.last);
        }
    }
}
