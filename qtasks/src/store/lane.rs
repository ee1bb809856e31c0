//! Lanes, and how many jobs are in them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::job::StateKind;

/// A task in a queue: jobs of one lane wait in one order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Lane {
    /// The queue that the jobs wait in.
    pub queue: String,
    /// The task that the jobs are calls of.
    pub task: String,
}

/// How many jobs a lane has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneCounts {
    /// The lane.
    pub lane: Lane,
    /// How many jobs are in each state.
    pub jobs: JobCounts,
    /// Since when the job has been due that is next in line; or when the next job will be due, where none is. Suspects do not
    /// count. It is that of the job which has waited longest where all jobs of the lane have one priority and none was delayed.
    pub oldest_due: Option<Timestamp>,
}

/// How many jobs are in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct JobCounts {
    /// Jobs that wait, whether they are due or not.
    pub waiting: u64,
    /// Jobs that a worker holds.
    pub running: u64,
    /// Jobs that ended well.
    pub done: u64,
    /// Jobs that ended in an error.
    pub dead: u64,
    /// Jobs that were called off.
    pub cancelled: u64,
}

impl JobCounts {
    /// How many jobs are in this state.
    pub const fn of(&self, state: StateKind) -> u64 {
        match state {
            StateKind::Waiting => self.waiting,
            StateKind::Running => self.running,
            StateKind::Done => self.done,
            StateKind::Dead => self.dead,
            StateKind::Cancelled => self.cancelled,
        }
    }

    /// The count of this state, to be changed.
    pub const fn of_mut(&mut self, state: StateKind) -> &mut u64 {
        match state {
            StateKind::Waiting => &mut self.waiting,
            StateKind::Running => &mut self.running,
            StateKind::Done => &mut self.done,
            StateKind::Dead => &mut self.dead,
            StateKind::Cancelled => &mut self.cancelled,
        }
    }

    /// How many jobs there are.
    pub const fn total(&self) -> u64 {
        self.waiting + self.running + self.done + self.dead + self.cancelled
    }
}

impl std::ops::AddAssign for JobCounts {
    fn add_assign(&mut self, more: Self) {
        self.waiting += more.waiting;
        self.running += more.running;
        self.done += more.done;
        self.dead += more.dead;
        self.cancelled += more.cancelled;
    }
}
