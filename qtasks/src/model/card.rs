//! Cards: what workers and tasks leave in the store, for programs that know of them only what stands there.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What a worker says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct WorkerCard {
    /// The name of its machine, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The number of its process on that machine.
    pub process: u32,
    /// The name of the program that it is part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
    /// When it was started.
    pub started: Timestamp,
    /// The queues that it listens to.
    pub queues: Vec<String>,
    /// The tasks that it runs.
    pub tasks: Vec<String>,
    /// The schedules in its code.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub schedules: Vec<String>,
    /// How many jobs it runs at once.
    pub concurrency: usize,
    /// The version of its qtasks.
    pub version: String,
}

/// What a program that knows a task says of it, for programs that do not: a call that names no queue or priority gets these.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TaskCard {
    /// The name of the task.
    #[serde(skip)]
    pub name: String,
    /// The queue of its jobs.
    pub queue: String,
    /// The priority of its jobs.
    pub priority: i16,
    /// How long after they were due its jobs are still started for the first time.
    #[serde(default, with = "seconds", skip_serializing_if = "Option::is_none")]
    pub expires: Option<Duration>,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Words to find it by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
}

/// A time in seconds, as the options in SQL have it.
mod seconds {
    use std::time::Duration;

    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    #[expect(clippy::ref_option, reason = "serde calls it so")]
    pub(super) fn serialize<S: Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        time.map(|time| time.as_secs_f64()).serialize(serializer)
    }

    pub(super) fn deserialize<'d, D: Deserializer<'d>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        let seconds = Option::<f64>::deserialize(deserializer)?;
        Ok(seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()))
    }
}
