//! Where and when a job waits.

use jiff::Timestamp;

use crate::model::job::JobId;

/// What is to change of a job that waits for its first attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The job.
    pub job: JobId,
    /// The queue that it goes into, if that is to change.
    pub queue: Option<String>,
    /// Its new priority, if that is to change.
    pub priority: Option<i16>,
    /// When it will be due, if that is to change.
    pub due: Option<Timestamp>,
}
