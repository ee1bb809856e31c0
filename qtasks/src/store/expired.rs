//! Jobs that were not started in time.

#[cfg(any(feature = "sqlite", test))]
use std::time::Duration;

#[cfg(any(feature = "sqlite", test))]
use jiff::Timestamp;

use crate::model::job::Job;
#[cfg(any(feature = "sqlite", test))]
use crate::model::{
    job::State,
    lifecycle::{expire, later},
};

/// What a look for jobs that have expired came to.
#[derive(Clone, Debug, Default)]
pub struct Expired {
    /// The jobs that have expired.
    pub jobs: Vec<Job>,
    /// Whether there are others to look at.
    pub more: bool,
}

/// When a job expires.
#[cfg(any(feature = "sqlite", test))]
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Expiry {
    /// It has expired.
    Come,
    /// That is to be looked at again at this time.
    At(Timestamp),
    /// It does not expire any more.
    Never,
}

#[cfg(any(feature = "sqlite", test))]
impl Expiry {
    /// The expiry of a job as it is `now`. One that is held and was not started may be given back.
    pub(crate) fn of(job: &Job, was_started: bool, now: Timestamp) -> Self {
        const AGAIN: Duration = Duration::from_secs(1);
        let Some(expires) = job.call.expires.filter(|_| !was_started) else { return Self::Never };
        match job.standing.state {
            // Its time begins when the last of the others has ended.
            State::Waiting { parents: 1.., .. } => Self::Never,
            State::Waiting { due, .. } if expire(Some(expires), due, now).is_some() => Self::Come,
            State::Waiting { due, .. } => Self::At(later(due, expires)),
            State::Running { .. } => Self::At(later(now, AGAIN)),
            State::Done { .. } | State::Dead { .. } | State::Cancelled { .. } => Self::Never,
        }
    }
}
