//! What becomes of a job, and which of its attempts are kept.

use jiff::Timestamp;

#[cfg(any(feature = "postgres", feature = "sqlite"))]
use super::codec::millis;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
use crate::model::job::{Ending, NextState};
use crate::model::{
    job::{Attempt, Job, JobId, Lease, StateKind},
    lifecycle::{self, Outcome, Verdict},
    retry::Retry,
};

/// What becomes of a job, and on what condition.
#[derive(Clone, Debug)]
pub struct Settlement {
    /// The job, and the condition that it must still meet for the change to be made.
    pub hold: Hold,
    /// What becomes of the job.
    pub outcome: Outcome,
    /// How many steps the job must have for the change to be made, if that matters. A server that has lost its last seconds, in
    /// a power cut or by a switch to a replica that was behind, may still know the lease and not all steps.
    pub steps: Option<u64>,
    /// The attempt that ends with this, for the history.
    pub attempt: Option<Attempt>,
    /// When the change is made.
    pub now: Timestamp,
}

impl Settlement {
    /// The job that is settled.
    pub const fn job(&self) -> JobId {
        self.hold.job()
    }

    /// The attempt that ends with this, if it ends the job well and the row of the job holds all facts of it: then it needs no row of
    /// its own.
    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    pub(crate) fn attempt_in_job(&self) -> Option<&Attempt> {
        self.attempt.as_ref().filter(|Attempt { number, worker, ended, ending, .. }| {
            self.outcome.next.kind() == StateKind::Done
                && *ending == Ending::Done
                && *number <= KEPT_ATTEMPTS
                && millis(*ended) == millis(self.now)
                && matches!(self.hold, Hold::Lease(lease) if (lease.attempt, lease.worker) == (*number, *worker))
        })
    }

    /// When the job is due that is to wait although no attempt at it has ended: it was not started, or is tried again by hand. Its time to
    /// expire begins anew then.
    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    pub(crate) fn due_unstarted(&self) -> Option<Timestamp> {
        match self.outcome.next {
            NextState::Waiting { due } if self.attempt.is_none() => Some(due),
            _ => None,
        }
    }

    /// Gives back a job that was leased and not started.
    pub(crate) fn given_back(job: &Job, lease: Lease, now: Timestamp) -> Self {
        let (outcome, _) = lifecycle::settle(&job.standing, Verdict::GivenBack, false, &Retry::DEFAULT, 0.0, now);
        Self { hold: Hold::Lease(lease), outcome, steps: None, attempt: None, now }
    }
}

/// What must still be so for a settlement to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// The job runs under this lease, whether or not the lease has run out.
    Lease(Lease),
    /// The job runs under this lease, and its worker has not renewed since: this is still its [beat](super::Presence::beat).
    Silent {
        /// The lease that the job runs under.
        lease: Lease,
        /// The last beat that was seen of the worker that holds the lease.
        beat: Option<u64>,
    },
    /// The job is in this state, at this attempt.
    Seen {
        /// The job that was seen.
        job: JobId,
        /// The state that the job was seen in.
        state: StateKind,
        /// The latest attempt when the job was seen.
        attempt: u32,
    },
}

impl Hold {
    /// The job that the condition is about.
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
    /// The change was written.
    Yes,
    /// The change was not written: its condition is no longer met.
    Fenced,
}

/// How many of the first attempts at a job are kept.
pub const FIRST_ATTEMPTS: usize = 10;
/// How many of the last attempts at a job are kept.
pub const LAST_ATTEMPTS: usize = 90;
/// A job with no more attempts has all of them kept.
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub(crate) const KEPT_ATTEMPTS: u32 = (FIRST_ATTEMPTS + LAST_ATTEMPTS) as u32;

/// Removes the attempts of a job, oldest first, that are not kept.
pub fn trim_attempts(attempts: &mut Vec<Attempt>) {
    let from_last = attempts.len().saturating_sub(LAST_ATTEMPTS);
    if from_last > FIRST_ATTEMPTS {
        attempts.drain(FIRST_ATTEMPTS..from_last);
    }
}
