//! Jobs that were not added, for another is the job of their call.

use crate::model::job::JobId;

/// A job that was not added, for another one holds its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The job that was to be added.
    pub job: JobId,
    /// The job that is there.
    pub holder: JobId,
}
