//! What a program with tasks needs at hand: `use qtasks::prelude::*;`.

pub use futures::StreamExt;

pub use crate::{CallOptions, Co, JobHandle, JobId, QueueTasks, State, TaskContext, TaskError, qtask, yield_};
