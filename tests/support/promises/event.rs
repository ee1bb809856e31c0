//! What happens in a run, for all to be judged alike.

use qtasks::job::{JobId, Reply, WorkerId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Something that happened. All events of a run stand in one order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)] // The fields are the words of the design.
pub enum Event {
    /// An enqueue was acknowledged.
    Enqueued { job: JobId },
    /// The store gave the job to a worker: from now on, this attempt exists. Where that was not seen, an attempt begins with
    /// its first handler call.
    Leased { job: JobId, attempt: u32, worker: WorkerId },
    /// A handler was called.
    Begun { job: JobId, seq: u64, attempt: u32, value: Value },
    /// It returned.
    Returned { job: JobId, seq: u64, attempt: u32 },
    /// A step is durable; written by this attempt, where that was seen.
    Durable { job: JobId, seq: u64, attempt: Option<u32> },
    /// The store moved the job to the state of this name; on behalf of the attempt, where it was one that ended itself.
    Settled { job: JobId, attempt: Option<u32>, state: String },
    /// A cancel was acknowledged.
    Cancelled { job: JobId },
    /// A cancel was refused, because the job had come to the state of this name.
    CancelRefused { job: JobId, state: String },
    /// A user's retry was made, or may have been.
    Retried { job: JobId },
    /// A stream was opened at a number.
    Opened { stream: u64, job: JobId, from: u64 },
    /// It gave an item.
    Item { stream: u64, item: Item },
    /// The stream gave its last item, or its reader has stopped.
    Closed { stream: u64, end: End },
    /// Waiting for a result gave this.
    Result { job: JobId, result: Value },
    /// A graceful stop began,
    StopBegun { worker: WorkerId },
    /// and ended, well or with an error, when the worker still held these jobs.
    StopEnded { worker: WorkerId, well: bool, holds: Vec<JobId> },
    /// A worker was killed: nothing that it does from now on is an event.
    Killed { worker: WorkerId },
    /// A worker was frozen,
    Frozen { worker: WorkerId },
    /// and thawed.
    Resumed { worker: WorkerId },
}

/// What a stream gives for a step, and what a step holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Item {
    /// The handler's reply.
    Value(Value),
    /// The handler's error, of a step that was skipped.
    Skipped(String),
}

/// How a stream ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// With the end of the job, in the state of this name.
    Job(String),
    /// The store could not be read; a reader that wants more opens another stream.
    Trouble,
    /// The reader has stopped.
    Dropped,
}

impl From<Reply> for Item {
    fn from(reply: Reply) -> Self {
        match reply {
            Reply::Value(json) => Self::Value(json.decode().expect("what is stored is JSON")),
            Reply::Skipped(error) => Self::Skipped(error),
        }
    }
}
