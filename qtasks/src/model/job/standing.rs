//! A job as its store knows it: the call, how it stands, and how much there is of it.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

#[cfg(any(feature = "postgres", feature = "sqlite"))]
use super::ids::WorkerId;
use super::{
    attempt::Lease,
    call::{JobCall, NewJob},
    ids::JobId,
    state::State,
    steps::Progress,
};

/// A job as its store knows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// The part that never changes.
    pub call: JobCall,
    /// How the job stands, which changes when it is leased or settled.
    pub standing: Standing,
    /// How many steps and memos the job has, which grows with each record.
    pub counts: Counts,
    /// When the job ended, by the `now` of the settlement that ended it; none while it has not ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
}

impl Job {
    /// The lease that the job runs under, if it runs.
    pub const fn lease(&self) -> Option<Lease> {
        self.standing.lease(self.call.id)
    }
}

/// The job that a call becomes when it is enqueued: it waits, and no attempt has been made yet.
impl From<NewJob> for Job {
    fn from(NewJob { call, due, .. }: NewJob) -> Self {
        Self { call, standing: Standing::waiting(due), counts: Counts::default(), ended: None }
    }
}

impl NewJob {
    /// The job that it becomes when it is leased to `worker` at the moment it is enqueued.
    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    pub(crate) fn leased_to(self, worker: WorkerId) -> Job {
        let state = State::Running { worker, due: self.due };
        let standing = Standing { state, attempt: 1, ..Standing::waiting(self.due) };
        Job { call: self.call, standing, counts: Counts::default(), ended: None }
    }
}

/// How a job stands. Leasing and settling change it, and a new step forgives the failures and losses before it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    /// Whether the job waits, runs or has ended.
    pub state: State,
    /// The number of the latest attempt, which is 0 before the first one.
    pub attempt: u32,
    /// How many attempts have failed in a row, without a new step between them.
    pub failures: u32,
    /// What is known of the job as a suspect. It is set when the job is lost with its worker, and stays until the job ends.
    pub suspect: Option<Suspect>,
}

impl Standing {
    /// How a job stands that waits for its first attempt.
    pub const fn waiting(due: Timestamp) -> Self {
        Self { state: State::waiting(due), attempt: 0, failures: 0, suspect: None }
    }

    /// The lease that `job` runs under if it stands so and runs.
    pub const fn lease(&self, job: JobId) -> Option<Lease> {
        match self.state.worker() {
            Some(worker) => Some(Lease { job, attempt: self.attempt, worker }),
            None => None,
        }
    }
}

/// How many steps and memos a job has, and how far it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// The number of durable steps, and so the number of the next one.
    pub steps: u64,
    /// The number of steps that were skipped.
    pub skipped: u64,
    /// The number of memos, and so the number of the next one.
    pub memos: u64,
    /// The progress that the task last reported.
    pub progress: Option<Progress>,
}

/// What is known of a job that was lost with its worker, and so may be what killed the worker. Times are kept to the
/// millisecond.
///
/// An application starts suspects one at a time, first those that have survived least. A suspect has the [turn](Self::turn)
/// until it ends, makes a step, or has lived so long that it does not look like a killer any more. If its worker is lost
/// while a suspect has the turn and no other suspect runs beside it, the loss counts as a failure of this job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspect {
    /// The longest time that the job had run when its worker was lost.
    pub survived: Duration,
    /// How often the job was lost since its last step.
    pub losses: u32,
    /// When the job was leased, while it runs.
    pub leased: Option<Timestamp>,
    /// Whether the loss of its worker would count as a failure of the job.
    pub liable: bool,
}

impl Suspect {
    /// The shortest turn.
    const SHORTEST: Duration = Duration::from_secs(5);

    /// How long the body of the job may run before the next suspect is started beside it: twice as long as it has survived,
    /// and at least 5 s, doubled with each further loss since its last step.
    pub fn turn(&self) -> Duration {
        let doubled = 1_u32.checked_shl(self.losses.saturating_sub(1)).unwrap_or(u32::MAX);
        Self::SHORTEST.saturating_mul(doubled).max(self.survived.saturating_mul(2))
    }
}
