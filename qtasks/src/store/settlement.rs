//! What becomes of a job, and which of its attempts are kept.

use jiff::Timestamp;

use crate::model::{
    job::{Attempt, Job, JobId, Lease, StateKind},
    lifecycle::{self, Outcome, Verdict},
    retry::Retry,
};

/// What becomes of a job, and on what condition.
#[derive(Clone, Debug)]
pub struct Settlement {
    /// The job, and what must still be so of it for the change to be made.
    pub hold: Hold,
    /// What becomes of it.
    pub outcome: Outcome,
    /// How many steps the job must have for the change to be made, if that matters: a server that has lost its last seconds,
    /// in a power cut or to a replica that came too late, may know of the lease and no longer of all steps.
    pub steps: Option<u64>,
    /// The attempt that ends with this, for the history.
    pub attempt: Option<Attempt>,
    /// When the change is made.
    pub now: Timestamp,
}

impl Settlement {
    /// The job.
    pub const fn job(&self) -> JobId {
        self.hold.job()
    }

    /// Gives back a job that was leased and not started.
    pub(crate) fn given_back(job: &Job, lease: Lease, now: Timestamp) -> Self {
        let (outcome, _) = lifecycle::settle(&job.standing, Verdict::Released, false, &Retry::DEFAULT, 0.0, now);
        Self { hold: Hold::Lease(lease), outcome, steps: None, attempt: None, now }
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
    /// The job is in this state, at this attempt.
    Seen {
        /// The job.
        job: JobId,
        /// The state.
        state: StateKind,
        /// The attempt.
        attempt: u32,
    },
}

impl Hold {
    /// The job that it speaks of.
    pub const fn job(&self) -> JobId {
        match self {
            Self::Lease(lease) | Self::Silent { lease, .. } => lease.job,
            Self::Seen { job, .. } => *job,
        }
    }

    /// The latest attempt at the job.
    pub const fn attempt(&self) -> u32 {
        match self {
            Self::Lease(lease) | Self::Silent { lease, .. } => lease.attempt,
            Self::Seen { attempt, .. } => *attempt,
        }
    }
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

/// How many of the first attempts at a job are kept.
pub const FIRST_ATTEMPTS: usize = 10;
/// How many of the last attempts at a job are kept.
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
