//! What a job is asked to do: the call of its task, which never changes.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{after::After, ids::JobId, unique::Unique};
use crate::model::json::Json;

/// The part of a job that never changes: which task is called, how, and with what. Times are kept to the millisecond.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobCall {
    /// The name of the job in its store.
    pub id: JobId,
    /// The name of the task that the job calls.
    pub task: String,
    /// The queue that the job was enqueued under.
    pub queue: String,
    /// Of the jobs that are due, those with a higher priority are leased first.
    pub priority: i16,
    /// The arguments, as an object by parameter name.
    pub args: Json,
    /// How long one attempt may last. Without it the task decides.
    pub max_time: Option<Duration>,
    /// When the job was enqueued.
    pub enqueued: Timestamp,
    /// How long after it was due the job is still started for the first time. Later it ends as cancelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Duration>,
    /// The span that enqueued the job, as a W3C `traceparent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
    /// The key of which there is one job of the task at a time, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The jobs that it waits for, if there are some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Box<After>>,
}

/// A call of a task, ready to be enqueued.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NewJob {
    /// The part of the job that never changes.
    pub call: JobCall,
    /// The time from which the job may be leased. Stores keep only the latest such time, so it is not part of the call.
    pub due: Timestamp,
    /// How the job holds the key of its call, if that has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unique: Option<Box<Unique>>,
}

impl NewJob {
    /// The name of the task and the key, if it is to be the only job of its key, and how it is to hold that.
    pub(crate) fn keyed(&self) -> Option<((&str, &str), &Unique)> {
        Some(((&self.call.task, self.call.key.as_deref()?), self.unique.as_deref()?))
    }
}

/// A call that is due as soon as it is enqueued.
impl From<JobCall> for NewJob {
    fn from(call: JobCall) -> Self {
        Self { due: call.enqueued, call, unique: None }
    }
}
