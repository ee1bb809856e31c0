//! What is counted and timed of jobs, for the features `metrics` and `opentelemetry`. Without them this does nothing.

mod event;
#[cfg(feature = "metrics")]
mod facade;
#[cfg(feature = "opentelemetry")]
mod messaging;
#[allow(dead_code, reason = "it stands in for what a feature brings")]
mod nothing;

use std::time::{Duration, Instant};

pub(crate) use self::event::{Called, EndOfAttempt, Event, Lane, OTHER, Operation, Stored};
#[cfg(not(feature = "metrics"))]
use self::nothing as facade;
#[cfg(not(feature = "opentelemetry"))]
use self::nothing as messaging;

/// Counts or times an event.
#[inline]
pub(crate) fn note(event: &Event<'_>) {
    facade::note(event);
    messaging::note(event);
}

/// Whether anything is counted or timed.
pub(crate) const IS_ON: bool = facade::IS_ON || messaging::IS_ON;

/// Whether the jobs of the whole store are counted.
pub(crate) const COUNTS_LANES: bool = facade::IS_ON;

/// The time since something began; without the features the clock is not read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timer(Option<Instant>);

impl Timer {
    #[inline]
    pub(crate) fn start() -> Self {
        Self(IS_ON.then(Instant::now))
    }

    /// A timer of one value among many: of the first, and then of each so-many-th, since to read the clock takes longer than
    /// most values.
    #[inline]
    pub(crate) fn of_value(handled: u64) -> Option<Self> {
        const ALL: u64 = 64;
        (COUNTS_LANES && (handled < ALL || handled.is_multiple_of(ALL))).then(Self::start)
    }

    pub(crate) fn elapsed(self) -> Duration {
        self.0.map_or(Duration::ZERO, |began| began.elapsed())
    }
}
