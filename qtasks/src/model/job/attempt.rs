//! The attempts at a job: the lease that one is made under, and how it ended.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::ids::{JobId, WorkerId};

/// A worker's claim on a job. The attempt number fences the claim: a worker whose lease has passed on holds an older number,
/// and its writes fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Lease {
    /// The job that the worker holds.
    pub job: JobId,
    /// The attempt that the lease is for.
    pub attempt: u32,
    /// The worker that holds the job.
    pub worker: WorkerId,
}

/// An attempt that has ended: when, where and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// The number of the attempt, from 1.
    pub number: u32,
    /// The worker that the attempt ran on.
    pub worker: WorkerId,
    /// When the body was started. It is not known of an attempt whose worker was lost.
    pub started: Option<Timestamp>,
    /// When the attempt ended.
    pub ended: Timestamp,
    /// Why the attempt ended.
    pub ending: Ending,
    /// How many steps the job had then: so it is known which attempt made which steps. The store fills this in, and has none for
    /// attempts that an older qtasks has written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<u64>,
}

/// Why an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Ending {
    /// The body came to its end.
    Done,
    /// The body ended in an error or a panic, or `max_time` passed.
    Failed {
        /// The text of the error.
        error: String,
    },
    /// The task asked to go on later.
    Snoozed,
    /// The task or a user called the job off.
    Cancelled {
        /// Why the job was called off.
        reason: String,
    },
    /// The task gave the job up.
    Discarded {
        /// Why the task gave up.
        reason: String,
    },
    /// The worker stopped and gave the job back.
    Released,
    /// The worker's lease ran out, or the worker was killed.
    Lost,
}
