//! What the log comes to: the jobs as they are.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
};

use jiff::Timestamp;
use qtasks::{
    job::{Attempt, Job, JobId, Lease, Memo, State, StateKind, Step, WorkerId},
    store::{
        Budget, Find, JobCounts, Lane, LaneCounts, Note, Order, Page, Presence, Rate, RateNumbers, RateSpan, search,
        trim_attempts,
    },
};
use serde::{Deserialize, Serialize};

/// Something that a call changed.
#[derive(Serialize, Deserialize)]
pub(crate) enum Change {
    /// The job, new or known, is like this from now on.
    Job(Job),
    Step(JobId, Step),
    Memo(JobId, Memo),
    /// An attempt has ended.
    Attempt(JobId, Attempt),
    /// The job is deleted with all that belongs to it.
    Pruned(JobId),
    /// This job has taken the key of a task, and holds it until this time at least.
    Key((String, String), JobId, Option<Timestamp>),
    /// The note, new or known, is like this from now on.
    Note(Note),
    /// The note of this kind and name is deleted.
    NoteDeleted(String, String),
    /// This happened besides.
    Rate(Rate),
    /// What happened in minutes and hours before these times is deleted.
    RatesPruned(Timestamp, Timestamp),
}

#[derive(Default)]
pub(crate) struct Table {
    jobs: BTreeMap<JobId, Entry>,
    notes: BTreeMap<(String, String), Note>,
    keys: BTreeMap<(String, String), (JobId, Option<Timestamp>)>,
    waiting_for_others: BTreeSet<JobId>,
    rates: HashMap<(RateSpan, Timestamp, Lane), RateNumbers>,
    /// That is not in the log: of workers of another process nothing is heard.
    workers: HashMap<WorkerId, Known>,
}

/// What is known of a worker.
#[derive(PartialEq)]
enum Known {
    /// The number of its last renewal.
    Beat(u64),
    Left,
}

/// A job with all that belongs to it.
pub(crate) struct Entry {
    pub(crate) job: Job,
    pub(crate) steps: Vec<Step>,
    pub(crate) memos: Vec<Memo>,
    pub(crate) attempts: Vec<Attempt>,
}

impl Table {
    pub(crate) fn apply(&mut self, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Job(job) => self.set(job),
                Change::Step(id, step) => self.known(id).steps.push(step),
                Change::Memo(id, memo) => self.known(id).memos.push(memo),
                Change::Attempt(id, attempt) => {
                    let entry = self.known(id);
                    entry.attempts.push(attempt);
                    trim_attempts(&mut entry.attempts);
                }
                Change::Pruned(id) => {
                    self.jobs.remove(&id);
                    self.keys.retain(|_, (job, until)| *job != id || until.is_some());
                }
                Change::Key(key, job, until) => {
                    self.keys.insert(key, (job, until));
                }
                Change::Note(note) => {
                    self.notes.insert((note.kind.clone(), note.name.clone()), note);
                }
                Change::NoteDeleted(kind, name) => {
                    self.notes.remove(&(kind, name));
                }
                Change::Rate(Rate { span, from, lane, numbers }) => {
                    *self.rates.entry((span, from, lane)).or_default() += numbers;
                }
                Change::RatesPruned(minutes, hours) => self.rates.retain(|(span, from, _), _| match span {
                    RateSpan::Minute => *from >= minutes,
                    RateSpan::Hour => *from >= hours,
                }),
            }
        }
    }

    fn set(&mut self, job: Job) {
        let id = job.call.id;
        if matches!(job.standing.state, State::Waiting { parents: 1.., .. }) {
            self.waiting_for_others.insert(id);
        } else {
            self.waiting_for_others.remove(&id);
        }
        match self.jobs.get_mut(&id) {
            Some(entry) => entry.job = job,
            None => _ = self.jobs.insert(id, Entry::new(job)),
        }
    }

    fn known(&mut self, id: JobId) -> &mut Entry {
        self.jobs.get_mut(&id).expect("a change of a job comes after the job")
    }

    pub(crate) fn entry(&self, id: JobId) -> Option<&Entry> {
        self.jobs.get(&id)
    }

    pub(crate) fn waiting_for_others(&self) -> impl Iterator<Item = JobId> {
        self.waiting_for_others.iter().copied()
    }

    /// The job that has taken a key last.
    pub(crate) fn taken(&self, key: &(String, String)) -> Option<(JobId, Option<Timestamp>)> {
        self.keys.get(key).copied()
    }

    /// All jobs, oldest first.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Job> {
        self.jobs.values().map(|entry| &entry.job)
    }

    pub(crate) fn find(&self, find: &Find, after: Option<JobId>, budget: Budget) -> Page {
        let ids = |job: &&Job| find.id.as_ref().is_none_or(|prefix| prefix.ids().contains(&job.call.id));
        let dead = |job: &&Job| find.states != [StateKind::Dead] || matches!(job.standing.state, State::Dead { .. });
        let jobs = self.all().filter(ids).filter(dead);
        match find.order {
            Order::Oldest => search(jobs.filter(|job| after.is_none_or(|after| job.call.id > after)), find, budget),
            Order::Newest => {
                let newest_first: Vec<_> = jobs.filter(|job| after.is_none_or(|after| job.call.id < after)).collect();
                search(newest_first.into_iter().rev(), find, budget)
            }
        }
    }

    pub(crate) fn counts(&self, now: Timestamp) -> Vec<LaneCounts> {
        let mut lanes = BTreeMap::<Lane, Vec<&Job>>::new();
        for job in self.all() {
            let lane = Lane { queue: job.call.queue.clone(), task: job.call.task.clone() };
            lanes.entry(lane).or_default().push(job);
        }
        let counts = lanes.into_iter().map(|(lane, of_lane)| {
            let mut jobs = JobCounts::default();
            of_lane.iter().for_each(|job| *jobs.of_mut(job.standing.state.kind()) += 1);
            LaneCounts { lane, jobs, oldest_due: oldest_due(&of_lane, now) }
        });
        counts.collect()
    }

    pub(crate) fn rates(&self, span: RateSpan, from: Timestamp, to: Timestamp) -> Vec<Rate> {
        let asked = self.rates.iter().filter(|((of, begun, _), _)| *of == span && (from..to).contains(begun));
        let rate = |((_, from, lane), numbers): (&(RateSpan, Timestamp, Lane), &RateNumbers)| Rate {
            span,
            from: *from,
            lane: lane.clone(),
            numbers: *numbers,
        };
        asked.map(rate).collect()
    }

    pub(crate) fn note(&self, kind: &str, name: &str) -> Option<&Note> {
        self.notes.get(&(kind.to_owned(), name.to_owned()))
    }

    pub(crate) fn notes(&self, kind: &str) -> Vec<Note> {
        self.notes.values().filter(|note| note.kind == kind).cloned().collect()
    }

    pub(crate) fn renew(&mut self, worker: WorkerId, beat: u64) -> Vec<Lease> {
        self.workers.insert(worker, Known::Beat(beat));
        self.held(worker).filter_map(Job::lease).collect()
    }

    pub(crate) fn leave(&mut self, worker: WorkerId) {
        self.workers.insert(worker, Known::Left);
        self.forget(worker, None);
    }

    pub(crate) fn workers(&self) -> Vec<Presence> {
        let holders = self.all().filter_map(Job::lease).map(|lease| lease.worker);
        let known: BTreeSet<_> = holders.chain(self.workers.keys().copied()).collect();
        let presence = |worker| Presence {
            worker,
            beat: self.beat(worker),
            holds: self.held(worker).next().is_some(),
            gone: self.workers.get(&worker) == Some(&Known::Left),
        };
        known.into_iter().map(presence).collect()
    }

    pub(crate) fn held(&self, worker: WorkerId) -> impl Iterator<Item = &Job> {
        self.all().filter(move |job| job.lease().is_some_and(|lease| lease.worker == worker))
    }

    pub(crate) fn beat(&self, worker: WorkerId) -> Option<u64> {
        match self.workers.get(&worker)? {
            Known::Beat(beat) => Some(*beat),
            Known::Left => None,
        }
    }

    pub(crate) fn forget(&mut self, worker: WorkerId, beat: Option<u64>) {
        if self.beat(worker) == beat && self.held(worker).next().is_none() {
            self.workers.remove(&worker);
        }
    }

    /// Jobs that ended so long ago that they need not be kept.
    pub(crate) fn old(&self, finished: Timestamp, dead: Timestamp) -> impl Iterator<Item = JobId> {
        let old = move |entry: &&Entry| {
            let before = if matches!(entry.job.standing.state, State::Dead { .. }) { dead } else { finished };
            entry.job.ended.is_some_and(|ended| ended < before)
        };
        self.jobs.values().filter(old).map(|entry| entry.job.call.id)
    }
}

impl Entry {
    fn new(job: Job) -> Self {
        Self { job, steps: Vec::new(), memos: Vec::new(), attempts: Vec::new() }
    }
}

/// Since when the next job in line is due, or when the next one will be.
fn oldest_due(jobs: &[&Job], now: Timestamp) -> Option<Timestamp> {
    let waiting = jobs.iter().filter(|job| job.standing.suspect.is_none()).filter_map(|job| match job.standing.state {
        State::Waiting { due, parents: 0 } => {
            Some((due > now, if due > now { Some(due) } else { None }, Reverse(job.call.priority), job.call.id, due))
        }
        _ => None,
    });
    waiting.min().map(|(.., due)| due)
}
