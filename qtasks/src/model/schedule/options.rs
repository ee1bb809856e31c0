//! What becomes of ticks that are missed or overlap.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What becomes of ticks at which no worker ran. One that is found at most five minutes late, and before the next one, fires in
/// any case: a deploy at nine does not lose the run of nine o'clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Missed {
    /// None of them fires.
    #[default]
    Skip,
    /// The latest one fires.
    Once,
    /// All fire, the oldest first.
    All,
}

/// What becomes of a tick while the job of the last one has not ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Overlap {
    /// It fires.
    #[default]
    Allow,
    /// It is passed over.
    Skip,
}

/// The options of a schedule beside its expression and its time zone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ScheduleOptions {
    /// What becomes of ticks at which no worker ran.
    pub missed: Missed,
    /// What becomes of a tick while the job of the last one has not ended.
    pub overlap: Overlap,
    /// How much later than its tick a job is due at most. By how much is made of the schedule's name and the tick, so that it is
    /// the same on all machines.
    pub jitter: Duration,
}

impl ScheduleOptions {
    /// Misses and overlaps as they are by default, and no jitter.
    pub const DEFAULT: Self = Self { missed: Missed::Skip, overlap: Overlap::Allow, jitter: Duration::ZERO };

    /// Another way with ticks at which no worker ran.
    pub const fn missed(self, missed: Missed) -> Self {
        Self { missed, ..self }
    }

    /// Another way with ticks while the job of the last one has not ended.
    pub const fn overlap(self, overlap: Overlap) -> Self {
        Self { overlap, ..self }
    }

    /// Jobs are due up to this time after their ticks.
    pub const fn jitter(self, jitter: Duration) -> Self {
        Self { jitter, ..self }
    }
}
