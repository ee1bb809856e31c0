//! What is appended to a job that runs.

use crate::model::job::{Lease, Memo, NewJob, Progress, Step};

/// What to append to a job; all of it is written, or nothing.
#[derive(Clone, Debug)]
pub struct Record {
    /// What gives the right to write.
    pub lease: Lease,
    /// The steps, their numbers going on without a gap.
    pub steps: Vec<Step>,
    /// The memos, their numbers going on without a gap.
    pub memos: Vec<Memo>,
    /// Jobs that the task has enqueued.
    pub jobs: Vec<NewJob>,
    /// What the task says of its progress, where that is new.
    pub progress: Option<Progress>,
    /// Whether the job, a [suspect](crate::job::Standing::suspect), has had its turn: it is [liable](crate::job::Suspect::liable) no more.
    pub passed: bool,
}

/// What [`Store::record`] says of a record that no store can write.
pub(crate) const GAP: &str = "the steps or memos to record leave a gap in their numbers";

/// How far handlers came that ran in a transaction. What is told of is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "handlers may have failed, or not have run"]
pub enum Transacted {
    /// The steps before this number are recorded, and none has failed; the others are for another call.
    Upto(u64),
    /// The steps before this number are recorded. The handler of this one failed and left nothing behind; none ran after
    /// it.
    Failed(u64),
    /// The steps before this number are recorded. The handler of this one ran in a transaction that was not committed, and
    /// cannot be run again.
    Spent(u64),
    /// The lease does not hold. Of handlers that may have run nothing is there.
    Fenced,
}
