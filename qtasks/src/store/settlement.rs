//! What becomes of a job, and which of its attempts are kept.

use jiff::Timestamp;

use crate::model::{
    job::{Attempt, Job, JobId, Lease, State, Suspect},
    lifecycle::{self, Verdict},
    retry::Retry,
};

/// A job's next state.
#[derive(Clone, Debug)]
pub struct Settlement {
    /// The job.
    pub job: JobId,
    /// What must still be so for the change to be made,
    pub hold: Hold,
    /// and how many steps the job must have, if that matters: a server that has lost its last seconds, in a power cut or to
    /// a replica that came too late, may know of the lease and no longer of all steps.
    pub steps: Option<u64>,
    /// The state from then on; never running.
    pub next: State,
    /// The failures in a row from then on.
    pub failures: u32,
    /// Whether the job is a [suspect](Job::suspect) from then on. It does not run any more, so that it is neither leased nor
    /// liable.
    pub suspect: Option<Suspect>,
    /// The attempt that ends with this, for the history.
    pub attempt: Option<Attempt>,
    /// When the change is made.
    pub now: Timestamp,
}

impl Settlement {
    /// Gives back a job that was leased and not started.
    pub(crate) fn given_back(job: &Job, lease: Lease, now: Timestamp) -> Self {
        let outcome = lifecycle::settle(job, Verdict::Released, false, &Retry::DEFAULT, 0.0, now);
        Self {
            job: lease.job,
            hold: Hold::Lease(lease),
            steps: None,
            next: outcome.next,
            failures: outcome.failures,
            suspect: outcome.suspect,
            attempt: None,
            now,
        }
    }
}

/// What must still be so for a settlement to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// The job runs under this lease, run out or not.
    Lease(Lease),
    /// The job runs under this lease, and its worker has not renewed since: this is still its [beat](super::Presence::beat).
    Silent {
        /// The lease.
        lease: Lease,
        /// The last beat that was seen of its worker.
        beat: Option<u64>,
    },
    /// The job is in the state of this [name](State::name), at this attempt.
    Seen {
        /// The name of the state.
        state: &'static str,
        /// The attempt.
        attempt: u32,
    },
}

/// Whether something was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a write that was fenced off did not happen"]
pub enum Written {
    /// It was.
    Yes,
    /// It was not: what the write relied on is no longer so.
    Fenced,
}

/// Of the attempts of a job so many of the first are kept,
pub const FIRST_ATTEMPTS: usize = 10;
/// and so many of the last.
pub const LAST_ATTEMPTS: usize = 90;
/// A job with no more attempts has all of them kept.
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub(crate) const KEPT_ATTEMPTS: u32 = (FIRST_ATTEMPTS + LAST_ATTEMPTS) as u32;

/// Leaves of the attempts of a job, oldest first, those that are kept.
pub fn trim_attempts(attempts: &mut Vec<Attempt>) {
    let from_last = attempts.len().saturating_sub(LAST_ATTEMPTS);
    if from_last > FIRST_ATTEMPTS {
        attempts.drain(FIRST_ATTEMPTS..from_last);
    }
}
