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

    /// The time.
    pub fn now(&self) -> Timestamp {
        match self {
            Self::System => Timestamp::now(),
            Self::Tokio { start, origin } => crate::lifecycle::later(*start, origin.elapsed()),
        }
    }
}
