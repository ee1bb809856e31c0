//! What is appended to a job that runs.

use crate::model::job::{Lease, Memo, NewJob, Progress, Step};

/// What to append to a job; all of it is written, or nothing.
#[derive(Clone, Debug)]
pub struct Record {
    /// The lease that gives the right to write.
    pub lease: Lease,
    /// The steps to append. Their numbers go on without a gap.
    pub steps: Vec<Step>,
    /// The memos to append. Their numbers go on without a gap.
    pub memos: Vec<Memo>,
    /// The jobs that the task has enqueued.
    pub jobs: Vec<NewJob>,
    /// The progress that the task reports, where it has changed.
    pub progress: Option<Progress>,
    /// Whether the job, a [suspect](crate::job::Standing::suspect), has had its turn. From then on it is not
    /// [liable](crate::job::Suspect::liable).
    pub passed: bool,
}

/// What [`Store::record`] says of a record that no store can write.
pub(crate) const GAP: &str = "the steps or memos to record leave a gap in their numbers";

/// How far handlers came that ran in a transaction. All that is reported as recorded is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "handlers may have failed, or not have run"]
pub enum Transacted {
    /// The steps before this number are recorded, and no handler failed. The other values are for another call.
    Upto(u64),
    /// The steps before this number are recorded. The handler of this one failed and left nothing behind; none ran after
    /// it.
    Failed(u64),
    /// The steps before this number are recorded. The handler of this one ran in a transaction that was not committed, and
    /// cannot be run again.
    Spent(u64),
    /// The lease does not hold. If handlers have run, nothing of what they wrote is there.
    Fenced,
}
