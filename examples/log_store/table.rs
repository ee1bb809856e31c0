//! What the log comes to: the jobs as they are.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use qtasks::{
    job::{Attempt, Job, JobId, Lease, Memo, State, Step, WorkerId},
    store::Filter,
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
    /// Until when each worker keeps its leases. That is not in the log: workers of another process are gone.
    workers: HashMap<WorkerId, Timestamp>,
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
                Change::Job(job) => match self.jobs.get_mut(&job.id) {
                    Some(entry) => entry.job = job,
                    None => {
                        self.jobs.insert(job.id, Entry::new(job));
                    }
                },
                Change::Step(id, step) => self.known(id).steps.push(step),
                Change::Memo(id, memo) => self.known(id).memos.push(memo),
                Change::Settled(id, now, attempt) => {
                    let entry = self.known(id);
                    entry.settled = now;
                    entry.attempts.extend(attempt);
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
        let passing = self.all().filter(|job| after.is_none_or(|after| job.id > after) && filter.passes(job));
        passing.take(limit).cloned().collect()
    }

    pub(crate) fn renew(&mut self, worker: WorkerId, until: Timestamp) -> Vec<Lease> {
        self.workers.insert(worker, until);
        self.all().filter_map(Job::lease).filter(|lease| lease.worker == worker).collect()
    }

    pub(crate) fn leave(&mut self, worker: WorkerId) {
        self.workers.remove(&worker);
    }

    pub(crate) fn is_gone(&self, worker: WorkerId, now: Timestamp) -> bool {
        self.workers.get(&worker).is_none_or(|until| *until < now)
    }

    pub(crate) fn expired(&self, now: Timestamp, limit: usize) -> Vec<Job> {
        let lost = self.all().filter(|job| job.lease().is_some_and(|lease| self.is_gone(lease.worker, now)));
        lost.take(limit).cloned().collect()
    }

    /// Jobs that ended so long ago that nobody wants to know.
    pub(crate) fn old(&self, finished: Timestamp, dead: Timestamp) -> impl Iterator<Item = JobId> {
        let old = move |entry: &&Entry| match entry.job.state {
            State::Dead { .. } => entry.settled < dead,
            State::Done { .. } | State::Cancelled { .. } => entry.settled < finished,
            State::Waiting { .. } | State::Running { .. } => false,
        };
        self.jobs.values().filter(old).map(|entry| entry.job.id)
    }
}

impl Entry {
    fn new(job: Job) -> Self {
        let settled = job.enqueued;
        Self { job, steps: Vec::new(), memos: Vec::new(), attempts: Vec::new(), settled }
    }
}
