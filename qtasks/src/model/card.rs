//! Cards: what workers and tasks leave in the store, for programs that know of them only what stands there.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    json::Json,
    unique::{Duplicate, KeyedCall, key},
};

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
    /// Of what there is one of its jobs at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unique: Option<UniqueCard>,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Words to find it by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
}

/// Of what there is one job of a task at a time: what a card says of that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct UniqueCard {
    /// The arguments by which calls are told apart; without them all are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Vec<String>>,
    /// What becomes of a call while another job holds its key.
    pub on_duplicate: Duplicate,
    /// For how long after its enqueue a job holds its key at least.
    #[serde(default, with = "seconds", skip_serializing_if = "Option::is_none")]
    pub lasting: Option<Duration>,
    /// How long each further call puts the job off.
    #[serde(default, with = "seconds", skip_serializing_if = "Option::is_none")]
    pub quiet: Option<Duration>,
    /// How long after its enqueue the job is put off at most.
    #[serde(default, with = "seconds", skip_serializing_if = "Option::is_none")]
    pub put_off: Option<Duration>,
}

impl UniqueCard {
    /// The key of a call with these arguments, and how its job is to hold that.
    pub(crate) fn of_args(&self, args: &Json) -> Result<Box<KeyedCall>, serde_json::Error> {
        let by: Option<Vec<&str>> = self.by.as_ref().map(|names| names.iter().map(String::as_str).collect());
        let key = key::of_args(args, by.as_deref())?;
        let Self { on_duplicate, lasting, put_off, .. } = self;
        Ok(Box::new(KeyedCall { key, on_duplicate: *on_duplicate, lasting: *lasting, put_off: *put_off }))
    }
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
