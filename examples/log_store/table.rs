//! What the log comes to: the jobs as they are.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;
use qtasks::{
    job::{Attempt, Job, JobId, Lease, Memo, State, Step, WorkerId},
    store::{Filter, Presence, trim_attempts},
};
use serde::{Deserialize, Serialize};

/// Something that a call changed.
#[derive(Serialize, Deserialize)]
pub(crate) enum Change {
    /// The job, new or known, is like this from now on.
    Job(Job),
    Step(JobId, Step),
    Memo(JobId, Memo),
    /// When it came to its state, and the attempt that ended with that.
    Settled(JobId, Timestamp, Option<Attempt>),
    /// It is deleted with all that belongs to it.
    Pruned(JobId),
}

#[derive(Default)]
pub(crate) struct Table {
    jobs: BTreeMap<JobId, Entry>,
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
    settled: Timestamp,
}

impl Table {
    pub(crate) fn apply(&mut self, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Job(job) => match self.jobs.get_mut(&job.call.id) {
                    Some(entry) => entry.job = job,
                    None => {
                        self.jobs.insert(job.call.id, Entry::new(job));
                    }
                },
                Change::Step(id, step) => self.known(id).steps.push(step),
                Change::Memo(id, memo) => self.known(id).memos.push(memo),
                Change::Settled(id, now, attempt) => {
                    let entry = self.known(id);
                    entry.settled = now;
                    entry.attempts.extend(attempt);
                    trim_attempts(&mut entry.attempts);
                }
                Change::Pruned(id) => {
                    self.jobs.remove(&id);
                }
            }
        }
    }

    fn known(&mut self, id: JobId) -> &mut Entry {
        self.jobs.get_mut(&id).expect("a change of a job comes after the job")
    }

    pub(crate) fn entry(&self, id: JobId) -> Option<&Entry> {
        self.jobs.get(&id)
    }

    /// All jobs, oldest first.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Job> {
        self.jobs.values().map(|entry| &entry.job)
    }

    pub(crate) fn page(&self, filter: &Filter, after: Option<JobId>, limit: usize) -> Vec<Job> {
        let passing = self.all().filter(|job| after.is_none_or(|after| job.call.id > after) && filter.passes(job));
        passing.take(limit).cloned().collect()
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
        let old = move |entry: &&Entry| match entry.job.standing.state {
            State::Dead { .. } => entry.settled < dead,
            State::Done { .. } | State::Cancelled { .. } => entry.settled < finished,
            State::Waiting { .. } | State::Running { .. } => false,
        };
        self.jobs.values().filter(old).map(|entry| entry.job.call.id)
    }
}

impl Entry {
    fn new(job: Job) -> Self {
        let settled = job.call.enqueued;
        Self { job, steps: Vec::new(), memos: Vec::new(), attempts: Vec::new(), settled }
    }
}
