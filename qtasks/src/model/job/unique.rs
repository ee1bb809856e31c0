//! How a job holds a key of which there is one job at a time.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What becomes of a call whose key another job holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Duplicate {
    /// The job that is there is that of the call too.
    #[default]
    Join,
    /// The job that is there gets the arguments, the time and the priority of the call, if it was never started; else it is that
    /// of the call as it is.
    Replace,
    /// The call is refused.
    Refuse,
}

/// How a job holds its [key](super::JobCall::key), which it does until it has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unique {
    /// What becomes of the call while another job holds the key.
    pub on_duplicate: Duplicate,
    /// Until when the job holds the key at least, even if it has ended by then.
    pub until: Option<Timestamp>,
    /// How long after it was enqueued a job may be put off at most, by calls that replace it.
    pub put_off: Option<Duration>,
}
