//! Which jobs are where: by lane, by worker, by the time of their end.

use std::{
    cmp::{Ordering, Reverse},
    collections::{BTreeSet, HashMap},
    ops::{Bound, RangeBounds},
    time::Duration,
};

use jiff::Timestamp;

use super::entry::{Entry, Urgency};
use crate::{
    model::job::{Job, JobId, State, WorkerId},
    store::{JobCounts, Lane},
};

/// Where a job stands among others, as its state has it; so that no search looks at every job.
#[derive(Default)]
pub(super) struct Index {
    /// Waiting jobs by queue, then by task; those that are no suspects, and those that are.
    pub(super) lanes: HashMap<String, HashMap<String, [Line; 2]>>,
    /// Running jobs by worker.
    pub(super) held: HashMap<WorkerId, BTreeSet<JobId>>,
    /// Dead jobs by the time of their end.
    pub(super) dead: BTreeSet<(Timestamp, JobId)>,
    /// Jobs that are done or cancelled by the time of their end.
    pub(super) finished: BTreeSet<(Timestamp, JobId)>,
    /// How many jobs each lane has.
    pub(super) counts: HashMap<Lane, JobCounts>,
}

impl Index {
    pub(super) fn add(&mut self, entry: &Entry) {
        let job = &entry.job;
        *self.count_of(job) += 1;
        match job.standing.state {
            // No lane has it that waits for other jobs.
            State::Waiting { parents: 1.., .. } => {}
            State::Waiting { due, .. } => {
                let lanes = self.lanes.entry(job.call.queue.clone()).or_default();
                let lanes = lanes.entry(job.call.task.clone()).or_default();
                lanes[usize::from(job.standing.suspect.is_some())].add(due, entry.urgency());
            }
            State::Running { worker, .. } => {
                self.held.entry(worker).or_default().insert(job.call.id);
            }
            State::Dead { .. } => {
                self.dead.insert((entry.ended(), job.call.id));
            }
            State::Done { .. } | State::Cancelled { .. } => {
                self.finished.insert((entry.ended(), job.call.id));
            }
        }
    }

    pub(super) fn remove(&mut self, entry: &Entry) {
        let job = &entry.job;
        *self.count_of(job) -= 1;
        match job.standing.state {
            // No lane has it that waits for other jobs.
            State::Waiting { parents: 1.., .. } => {}
            State::Waiting { due, .. } => {
                let lane = self
                    .lane(&job.call.queue, &job.call.task, job.standing.suspect.is_some())
                    .expect("a job that waits has a lane");
                lane.remove(due, entry.urgency());
            }
            State::Running { worker, .. } => {
                let held = self.held.get_mut(&worker).expect("a worker whose job runs holds it");
                held.remove(&job.call.id);
                if held.is_empty() {
                    self.held.remove(&worker);
                }
            }
            State::Dead { .. } => {
                self.dead.remove(&(entry.ended(), job.call.id));
            }
            State::Done { .. } | State::Cancelled { .. } => {
                self.finished.remove(&(entry.ended(), job.call.id));
            }
        }
    }

    fn count_of(&mut self, job: &Job) -> &mut u64 {
        let lane = Lane { queue: job.call.queue.clone(), task: job.call.task.clone() };
        self.counts.entry(lane).or_default().of_mut(job.standing.state.kind())
    }

    pub(super) fn lane(&mut self, queue: &str, task: &str, suspect: bool) -> Option<&mut Line> {
        Some(&mut self.lanes.get_mut(queue)?.get_mut(task)?[usize::from(suspect)])
    }
}

/// Waiting jobs of one task in one queue.
pub(super) struct Line {
    /// All of them, by the time when they are due.
    waiting: BTreeSet<(Timestamp, Urgency)>,
    /// Those that are due at `now`.
    due: BTreeSet<Urgency>,
    now: Timestamp,
}

impl Line {
    pub(super) fn add(&mut self, due: Timestamp, urgency: Urgency) {
        self.waiting.insert((due, urgency));
        if due <= self.now {
            self.due.insert(urgency);
        }
    }

    pub(super) fn remove(&mut self, due: Timestamp, urgency: Urgency) {
        self.waiting.remove(&(due, urgency));
        self.due.remove(&urgency);
    }

    /// Sets the time, which may also go back: workers read their clocks before they come here.
    pub(super) fn turn_to(&mut self, now: Timestamp) {
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

    pub(super) fn first_due(&self) -> Option<Timestamp> {
        self.waiting.first().map(|(due, _)| *due)
    }

    pub(super) fn head(&self) -> Option<Urgency> {
        self.due.first().copied()
    }

    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.waiting.range(between(self.now, Timestamp::MAX)).next().map(|(due, _)| *due)
    }
}

impl Default for Line {
    fn default() -> Self {
        Self { waiting: BTreeSet::new(), due: BTreeSet::new(), now: Timestamp::MIN }
    }
}

/// What is due after `past`, but not after `now`.
fn between(past: Timestamp, now: Timestamp) -> impl RangeBounds<(Timestamp, Urgency)> {
    const LAST: Urgency = (Duration::MAX, Reverse(i16::MIN), JobId::from_bytes([u8::MAX; 16]));
    (Bound::Excluded((past, LAST)), Bound::Included((now, LAST)))
}
