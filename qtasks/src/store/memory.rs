//! Jobs in memory: for tests, for `memory:` URLs, and to say what every other store must answer.

use std::{
    cmp::{Ordering, Reverse},
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    ops::{Bound, RangeBounds},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;

use super::{
    Ask, Bell, Filter, GAP, Hold, Leased, Presence, Record, Renewed, Scheme, Settlement, Store, Written, trim_attempts,
};
use crate::{
    error::{Error, Result},
    model::job::{Attempt, Job, JobId, Lease, Memo, NewJob, State, Step, Suspect, WorkerId},
};

inventory::submit! {
    Scheme { name: "memory", form: "memory:", open: |_url| Box::pin(async { Ok(Arc::new(Memory::new()) as Arc<dyn Store>) }) }
}

/// A store that lives and dies with the process.
#[derive(Default)]
pub struct Memory {
    contents: Mutex<Contents>,
    bell: Bell,
}

impl Memory {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn contents(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").field("jobs", &self.contents().jobs.len()).finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for Memory {
    async fn enqueue(&self, jobs: Vec<NewJob>) -> Result<()> {
        self.contents().enqueue(jobs);
        self.bell.ring_work();
        Ok(())
    }

    async fn lease(&self, ask: Ask) -> Result<Leased> {
        Ok(self.contents().lease(&ask))
    }

    async fn renew(&self, worker: WorkerId, beat: u64) -> Result<Renewed> {
        let mut contents = self.contents();
        contents.workers.insert(worker, Known::Beat(beat));
        let leases = contents.held(worker).filter_map(Job::lease).collect();
        Ok(Renewed { leases, now: None })
    }

    async fn leave(&self, worker: WorkerId) -> Result<()> {
        if self.contents().leave(worker) {
            self.bell.ring_lost();
        }
        Ok(())
    }

    async fn workers(&self) -> Result<Vec<Presence>> {
        Ok(self.contents().workers())
    }

    async fn held(&self, worker: WorkerId, limit: usize) -> Result<Vec<Job>> {
        Ok(self.contents().held(worker).take(limit).cloned().collect())
    }

    async fn forget(&self, worker: WorkerId, beat: Option<u64>) -> Result<()> {
        let mut contents = self.contents();
        if contents.beat(worker) == beat && !contents.index.held.contains_key(&worker) {
            contents.workers.remove(&worker);
        }
        Ok(())
    }

    async fn record(&self, records: Vec<Record>) -> Result<Vec<Written>> {
        let ids: Vec<_> = records.iter().map(|record| record.lease.job).collect();
        let enqueued = records.iter().any(|record| !record.jobs.is_empty());
        let written = self.contents().record(records)?;
        self.bell.ring_jobs(ids);
        if enqueued {
            self.bell.ring_work();
        }
        Ok(written)
    }

    async fn settle(&self, settlements: Vec<Settlement>) -> Result<Vec<Written>> {
        if settlements.iter().any(|settlement| settlement.next.name() == "running") {
            return Err(Error::Misuse("a job comes to run by a lease, not by a settlement"));
        }
        let due_again = settlements.iter().any(|settlement| settlement.next.name() == "waiting");
        let ids: Vec<_> = settlements.iter().map(|settlement| settlement.job).collect();
        let ended = settlements.iter().filter(|settlement| settlement.next.is_ended());
        let ended: Vec<_> = ended.map(|settlement| settlement.job).collect();
        let mut contents = self.contents();
        let written = settlements.into_iter().map(|settlement| contents.settle(settlement)).collect();
        drop(contents);
        self.bell.ring_jobs(ids);
        self.bell.ring_ends(ended);
        if due_again {
            self.bell.ring_work();
        }
        Ok(written)
    }

    async fn job(&self, id: JobId) -> Result<Option<Job>> {
        Ok(self.contents().jobs.get(&id).map(|entry| entry.job.clone()))
    }

    async fn jobs(&self, filter: Filter, after: Option<JobId>, limit: usize) -> Result<Vec<Job>> {
        let contents = self.contents();
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let jobs = contents.jobs.range((from, Bound::Unbounded)).map(|(_, entry)| &entry.job);
        Ok(jobs.filter(|job| filter.passes(job)).take(limit).cloned().collect())
    }

    async fn due_lanes(&self, now: Timestamp) -> Result<Vec<super::Lane>> {
        let contents = self.contents();
        let lanes = contents.index.lanes.iter().flat_map(|(queue, tasks)| tasks.iter().map(move |task| (queue, task)));
        let due =
            lanes.filter(|(_, (_, lanes))| lanes.iter().any(|lane| lane.first_due().is_some_and(|due| due <= now)));
        Ok(due.map(|(queue, (task, _))| super::Lane { queue: queue.clone(), task: task.clone() }).collect())
    }

    async fn steps(&self, id: JobId, from: u64, limit: usize) -> Result<Vec<Step>> {
        let contents = self.contents();
        let Some(entry) = contents.jobs.get(&id) else { return Ok(Vec::new()) };
        let from = usize::try_from(from).unwrap_or(usize::MAX);
        Ok(entry.steps.iter().skip(from).take(limit).cloned().collect())
    }

    async fn last_step(&self, id: JobId) -> Result<Option<Step>> {
        let contents = self.contents();
        let Some(entry) = contents.jobs.get(&id) else { return Ok(None) };
        Ok(entry.steps.iter().rfind(|step| !step.reply.is_skipped()).cloned())
    }

    async fn memos(&self, id: JobId, step: Option<u64>, from: u64, limit: usize) -> Result<Vec<Memo>> {
        let contents = self.contents();
        let Some(entry) = contents.jobs.get(&id) else { return Ok(Vec::new()) };
        let asked = entry.memos.iter().filter(|memo| memo.step == step && memo.number >= from);
        Ok(asked.take(limit).cloned().collect())
    }

    async fn attempts(&self, id: JobId) -> Result<Vec<Attempt>> {
        Ok(self.contents().jobs.get(&id).map(|entry| entry.attempts.clone()).unwrap_or_default())
    }

    async fn prune(&self, finished: Timestamp, dead: Timestamp, limit: usize) -> Result<usize> {
        Ok(self.contents().prune(to_millisecond(finished), to_millisecond(dead), limit))
    }

    fn bell(&self) -> &Bell {
        &self.bell
    }
}

/// Times are kept to the millisecond in every store.
fn to_millisecond(time: Timestamp) -> Timestamp {
    // Not by way of `Timestamp::from_millisecond`, which refuses the last second there is.
    let nanosecond = time.subsec_nanosecond() / 1_000_000 * 1_000_000;
    Timestamp::new(time.as_second(), nanosecond).expect("what is nearer to 1970 than a timestamp is one too")
}

#[derive(Default)]
struct Contents {
    jobs: BTreeMap<JobId, Entry>,
    index: Index,
    workers: HashMap<WorkerId, Known>,
}

/// What is known of a worker.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Known {
    /// The number of its last renewal.
    Beat(u64),
    /// It has left, and held jobs.
    Left,
}

/// A job with all that belongs to it.
struct Entry {
    job: Job,
    steps: Vec<Step>,
    memos: Vec<Memo>,
    attempts: Vec<Attempt>,
    /// When it came to its state, where that was by a settlement.
    settled: Timestamp,
}

impl Contents {
    fn enqueue(&mut self, jobs: Vec<NewJob>) {
        for new in jobs {
            self.jobs.entry(new.id).or_insert_with(|| {
                let entry = Entry::new(new);
                self.index.add(&entry);
                entry
            });
        }
    }

    fn lease(&mut self, ask: &Ask) -> Leased {
        let now = to_millisecond(ask.now);
        let mut leased = Leased::default();
        let (mut heads, mut suspects) = (BTreeSet::new(), BTreeSet::new());
        let places = ask.queues.iter().flat_map(|queue| ask.tasks.iter().map(move |&task| (queue, task)));
        for place @ (queue, task) in places {
            for is_suspect in [false, true] {
                let Some(lane) = self.index.lane(queue, task, is_suspect) else { continue };
                lane.turn_to(now);
                let waiting = if is_suspect { &mut suspects } else { &mut heads };
                waiting.extend(lane.head().map(|urgency| (urgency, place)));
                leased.next_due = leased.next_due.into_iter().chain(lane.next_due()).min();
            }
        }
        // The one that has survived least, at the place of its priority among the others.
        let mut suspect = suspects.first().copied().filter(|_| ask.suspects.allow_one());
        while leased.jobs.len() < ask.limit {
            let is_first = |(_, rank, id): Urgency| heads.first().is_none_or(|((_, r, i), _)| (rank, id) < (*r, *i));
            if let Some(((_, _, id), place)) = suspect.take_if(|(urgency, _)| is_first(*urgency)) {
                leased.jobs.push(self.run(id, ask));
                let taken = |(other, _): &(Urgency, _)| other.2 != id;
                suspects.retain(taken);
                let next = self.index.lane(place.0, place.1, true).and_then(|lane| lane.head());
                suspects.extend(next.map(|urgency| (urgency, place)));
                continue;
            }
            let Some(((_, _, id), place)) = heads.pop_first() else { break };
            leased.jobs.push(self.run(id, ask));
            let next = self.index.lane(place.0, place.1, false).and_then(|lane| lane.head());
            heads.extend(next.map(|urgency| (urgency, place)));
        }
        leased.suspects = !suspects.is_empty();
        leased
    }

    fn run(&mut self, id: JobId, ask: &Ask) -> Job {
        let entry = self.jobs.get_mut(&id).expect("what stands in an index is there");
        self.index.remove(entry);
        entry.job.state = State::Running { worker: ask.worker };
        entry.job.attempt += 1;
        if let Some(suspect) = &mut entry.job.suspect {
            suspect.leased = Some(to_millisecond(ask.now));
            suspect.liable = ask.suspects.liable();
        }
        self.index.add(entry);
        entry.job.clone()
    }

    /// Gives whether the worker held jobs.
    fn leave(&mut self, worker: WorkerId) -> bool {
        let holds = self.index.held.contains_key(&worker);
        if holds {
            self.workers.insert(worker, Known::Left);
        } else {
            self.workers.remove(&worker);
        }
        holds
    }

    fn workers(&self) -> Vec<Presence> {
        let known: BTreeSet<_> = self.workers.keys().chain(self.index.held.keys()).copied().collect();
        let presence = |worker| Presence {
            worker,
            beat: self.beat(worker),
            holds: self.index.held.contains_key(&worker),
            gone: self.workers.get(&worker) == Some(&Known::Left),
        };
        known.into_iter().map(presence).collect()
    }

    fn beat(&self, worker: WorkerId) -> Option<u64> {
        match self.workers.get(&worker) {
            Some(Known::Beat(beat)) => Some(*beat),
            Some(Known::Left) | None => None,
        }
    }

    fn record(&mut self, records: Vec<Record>) -> Result<Vec<Written>> {
        let written = self.check(&records)?;
        for (record, _) in records.into_iter().zip(&written).filter(|(_, written)| **written == Written::Yes) {
            let entry = self.jobs.get_mut(&record.lease.job).expect("a job that is leased is there");
            for step in record.steps {
                if step.seq == entry.job.steps {
                    entry.job.steps += 1;
                    entry.job.skipped += u64::from(step.reply.is_skipped());
                    entry.job.failures = 0;
                    if let Some(suspect) = &mut entry.job.suspect {
                        (suspect.losses, suspect.liable) = (0, false);
                    }
                    entry.steps.push(step);
                }
            }
            for memo in record.memos {
                if memo.number == entry.job.memos {
                    entry.job.memos += 1;
                    entry.memos.push(memo);
                }
            }
            entry.job.progress = record.progress.or(entry.job.progress);
            if let Some(suspect) = entry.job.suspect.as_mut().filter(|_| record.passed) {
                suspect.liable = false;
            }
            self.enqueue(record.jobs);
        }
        Ok(written)
    }

    /// Says what becomes of each record, before anything is written: then one with a gap leaves no half behind.
    fn check(&self, records: &[Record]) -> Result<Vec<Written>> {
        let mut next_numbers = HashMap::new();
        let check = |record: &Record| {
            let entry = self.jobs.get(&record.lease.job);
            let Some(entry) = entry.filter(|entry| self.holds(entry, Hold::Lease(record.lease))) else {
                return Ok(Written::Fenced);
            };
            let (step, memo) = next_numbers.entry(entry.job.id).or_insert((entry.job.steps, entry.job.memos));
            let follow = follow(step, record.steps.iter().map(|step| step.seq))
                && follow(memo, record.memos.iter().map(|memo| memo.number));
            if follow { Ok(Written::Yes) } else { Err(Error::Misuse(GAP)) }
        };
        records.iter().map(check).collect()
    }

    fn settle(&mut self, settlement: Settlement) -> Written {
        let entry = self.jobs.get(&settlement.job);
        let is_whole = |entry: &Entry| settlement.steps.is_none_or(|steps| steps == entry.job.steps);
        if !entry.is_some_and(|entry| self.holds(entry, settlement.hold) && is_whole(entry)) {
            return Written::Fenced;
        }
        let entry = self.jobs.get_mut(&settlement.job).expect("a job that is held is there");
        self.index.remove(entry);
        entry.job.state = match settlement.next {
            State::Waiting { due } => State::Waiting { due: to_millisecond(due) },
            next => next,
        };
        entry.job.failures = settlement.failures;
        entry.job.suspect = settlement.suspect.map(|suspect| Suspect {
            survived: Duration::from_millis(suspect.survived.as_millis().try_into().unwrap_or(u64::MAX)),
            losses: suspect.losses,
            ..Suspect::default()
        });
        entry.settled = to_millisecond(settlement.now);
        entry.attempts.extend(settlement.attempt.map(|attempt| Attempt {
            started: attempt.started.map(to_millisecond),
            ended: to_millisecond(attempt.ended),
            ..attempt
        }));
        trim_attempts(&mut entry.attempts);
        self.index.add(entry);
        Written::Yes
    }

    fn holds(&self, entry: &Entry, hold: Hold) -> bool {
        let job = &entry.job;
        match (hold, &job.state) {
            (Hold::Lease(lease), State::Running { worker }) => {
                lease == Lease { job: job.id, attempt: job.attempt, worker: *worker }
            }
            (Hold::Silent { lease, beat }, State::Running { .. }) => {
                job.lease() == Some(lease) && self.beat(lease.worker) == beat
            }
            (Hold::Seen { state, attempt }, seen) => state == seen.name() && attempt == job.attempt,
            (Hold::Lease(_) | Hold::Silent { .. }, _) => false,
        }
    }

    fn held(&self, worker: WorkerId) -> impl Iterator<Item = &Job> {
        let ids = self.index.held.get(&worker).into_iter().flatten();
        ids.filter_map(|id| self.jobs.get(id)).map(|entry| &entry.job)
    }

    fn prune(&mut self, finished: Timestamp, dead: Timestamp, limit: usize) -> usize {
        let ended = [(&self.index.finished, finished), (&self.index.dead, dead)];
        let old = ended.into_iter().flat_map(|(ended, before)| ended.iter().take_while(move |(at, _)| *at < before));
        let old: Vec<_> = old.map(|(_, id)| *id).take(limit).collect();
        for id in &old {
            let entry = self.jobs.remove(id).expect("what stands in an index is there");
            self.index.remove(&entry);
        }
        old.len()
    }
}

/// Whether `numbers` go on from `next` without a gap; those before it do not count.
fn follow(next: &mut u64, numbers: impl IntoIterator<Item = u64>) -> bool {
    numbers.into_iter().all(|number| {
        *next += u64::from(number == *next);
        number < *next
    })
}

impl Entry {
    fn new(new: NewJob) -> Self {
        let (due, enqueued) = (to_millisecond(new.due), to_millisecond(new.enqueued));
        let job = Job::from(NewJob { due, enqueued, ..new });
        Self { job, steps: Vec::new(), memos: Vec::new(), attempts: Vec::new(), settled: enqueued }
    }

    fn urgency(&self) -> Urgency {
        let survived = self.job.suspect.map(|suspect| suspect.survived).unwrap_or_default();
        (survived, Reverse(self.job.priority), self.job.id)
    }
}

/// Where a job stands among others, as its state has it; so that no search looks at every job.
#[derive(Default)]
struct Index {
    /// Waiting jobs by queue, then by task; those that are no suspects, and those that are.
    lanes: HashMap<String, HashMap<String, [Lane; 2]>>,
    /// Running jobs by worker.
    held: HashMap<WorkerId, BTreeSet<JobId>>,
    /// Dead jobs by the time of their end.
    dead: BTreeSet<(Timestamp, JobId)>,
    /// Jobs that are done or cancelled by the time of their end.
    finished: BTreeSet<(Timestamp, JobId)>,
}

impl Index {
    fn add(&mut self, entry: &Entry) {
        let job = &entry.job;
        match job.state {
            State::Waiting { due } => {
                let lanes = self.lanes.entry(job.queue.clone()).or_default();
                let lanes = lanes.entry(job.task.clone()).or_default();
                lanes[usize::from(job.suspect.is_some())].add(due, entry.urgency());
            }
            State::Running { worker } => {
                self.held.entry(worker).or_default().insert(job.id);
            }
            State::Dead { .. } => {
                self.dead.insert((entry.settled, job.id));
            }
            State::Done { .. } | State::Cancelled { .. } => {
                self.finished.insert((entry.settled, job.id));
            }
        }
    }

    fn remove(&mut self, entry: &Entry) {
        let job = &entry.job;
        match job.state {
            State::Waiting { due } => {
                let lane =
                    self.lane(&job.queue, &job.task, job.suspect.is_some()).expect("a job that waits has a lane");
                lane.remove(due, entry.urgency());
            }
            State::Running { worker } => {
                let held = self.held.get_mut(&worker).expect("a worker whose job runs holds it");
                held.remove(&job.id);
                if held.is_empty() {
                    self.held.remove(&worker);
                }
            }
            State::Dead { .. } => {
                self.dead.remove(&(entry.settled, job.id));
            }
            State::Done { .. } | State::Cancelled { .. } => {
                self.finished.remove(&(entry.settled, job.id));
            }
        }
    }

    fn lane(&mut self, queue: &str, task: &str, suspect: bool) -> Option<&mut Lane> {
        Some(&mut self.lanes.get_mut(queue)?.get_mut(task)?[usize::from(suspect)])
    }
}

/// The less, the more urgent: suspects by what they have survived, then by priority, the highest first, then by age.
type Urgency = (Duration, Reverse<i16>, JobId);

/// Waiting jobs of one task in one queue.
struct Lane {
    /// All of them, by the time when they are due.
    waiting: BTreeSet<(Timestamp, Urgency)>,
    /// Those that are due at `now`.
    due: BTreeSet<Urgency>,
    now: Timestamp,
}

impl Lane {
    fn add(&mut self, due: Timestamp, urgency: Urgency) {
        self.waiting.insert((due, urgency));
        if due <= self.now {
            self.due.insert(urgency);
        }
    }

    fn remove(&mut self, due: Timestamp, urgency: Urgency) {
        self.waiting.remove(&(due, urgency));
        self.due.remove(&urgency);
    }

    /// Sets the time, which may also go back: workers read their clocks before they come here.
    fn turn_to(&mut self, now: Timestamp) {
        match now.cmp(&self.now) {
            Ordering::Greater => {
                self.due.extend(self.waiting.range(between(self.now, now)).map(|(_, urgency)| urgency))
            }
            Ordering::Less => {
                for (_, urgency) in self.waiting.range(between(now, self.now)) {
                    self.due.remove(urgency);
                }
            }
            Ordering::Equal => {}
        }
        self.now = now;
    }

    fn first_due(&self) -> Option<Timestamp> {
        self.waiting.first().map(|(due, _)| *due)
    }

    fn head(&self) -> Option<Urgency> {
        self.due.first().copied()
    }

    fn next_due(&self) -> Option<Timestamp> {
        self.waiting.range(between(self.now, Timestamp::MAX)).next().map(|(due, _)| *due)
    }
}

impl Default for Lane {
    fn default() -> Self {
        Self { waiting: BTreeSet::new(), due: BTreeSet::new(), now: Timestamp::MIN }
    }
}

/// What is due after `past`, but not after `now`.
fn between(past: Timestamp, now: Timestamp) -> impl RangeBounds<(Timestamp, Urgency)> {
    const LAST: Urgency = (Duration::MAX, Reverse(i16::MIN), JobId::from_bytes([u8::MAX; 16]));
    (Bound::Excluded((past, LAST)), Bound::Included((now, LAST)))
}
