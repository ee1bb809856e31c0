//! What time it is: read by the processes only, passed to everything below them.

use jiff::Timestamp;
use tokio::time::Instant;

/// Where an application reads the time.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub enum Clock {
    /// From the system.
    #[default]
    System,
    /// From tokio, counted from a given time on: a test that pauses tokio's clock need not wait for delays to pass.
    Tokio {
        /// The time at which counting began.
        start: Timestamp,
        /// Tokio's time then.
        origin: Instant,
    },
}

impl Clock {
    /// Tokio's clock, which stands at the system's time now.
    pub fn tokio() -> Self {
        Self::Tokio { start: Timestamp::now(), origin: Instant::now() }
    }

    /// The time by a clock that is never set.
    pub(crate) fn instant(&self) -> std::time::Instant {
        match self {
            Self::System => std::time::Instant::now(),
            Self::Tokio { .. } => Instant::now().into_std(),
        }
    }

    /// The same, never behind it and up to thirty milliseconds ahead, in a fraction of the time: for what is asked before
    /// each value.
    pub(crate) fn soon(&self) -> std::time::Instant {
        match self {
            Self::System => ticks::now() + ticks::LAG,
            Self::Tokio { .. } => self.instant(),
        }
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        match self {
            Self::System => Timestamp::now(),
            Self::Tokio { start, origin } => crate::lifecycle::later(*start, origin.elapsed()),
        }
    }
}

/// The system's clock as of its last tick, which the kernel leaves where a process can read it: `CLOCK_MONOTONIC_COARSE` of
/// <https://man7.org/linux/man-pages/man2/clock_gettime.2.html>.
#[cfg(target_os = "linux")]
mod ticks {
    use std::{
        sync::LazyLock,
        time::{Duration, Instant},
    };

    use rustix::time::{ClockId, clock_gettime};

    /// Between two ticks there are ten milliseconds at most.
    pub(super) const LAG: Duration = Duration::from_millis(20);

    /// One moment by both clocks: `Instant` does not say when its time began.
    static ANCHOR: LazyLock<(Instant, Duration)> = LazyLock::new(|| (Instant::now(), read()));

    pub(super) fn now() -> Instant {
        let (instant, read_then) = *ANCHOR;
        instant + read().saturating_sub(read_then)
    }

    fn read() -> Duration {
        clock_gettime(ClockId::MonotonicCoarse).try_into().unwrap_or_default()
    }
}

#[cfg(not(target_os = "linux"))]
mod ticks {
    use std::time::{Duration, Instant};

    pub(super) const LAG: Duration = Duration::ZERO;

    pub(super) fn now() -> Instant {
        Instant::now()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_read_faster_is_never_behind() {
        let clock = Clock::System;
        let begun = clock.instant();
        while begun.elapsed() < Duration::from_millis(50) {
            let (before, soon, after) = (clock.instant(), clock.soon(), clock.instant());
            assert!(soon >= before);
            assert!(soon <= after + Duration::from_millis(30), "{:?} ahead", soon - after);
        }
    }
}
