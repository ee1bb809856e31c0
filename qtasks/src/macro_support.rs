//! What the code that `#[qtask]` makes refers to. Not for use by hand, and free to change.

pub use inventory;
pub use serde;
pub use serde_json;

/// What a module has that a task with `yield_!` stands in: the macro, for those that did not import it.
pub mod fallback {
    pub use crate::yield_;
}

pub use crate::{
    __kind_of as kind_of,
    execution::{
        drive::{
            Attempt, Collecting as Into, Fail, Failure, Fallible, NoResult, Outcome, Returned, Running, Skip, generate,
            generate_blocking,
        },
        handler::{
            Identity, Kind, Probe, ProbeLater, ProbeLaterTry, ProbeNow, ProbeNowTry, Takes, TakesReference, TakesValue,
        },
        state::Need,
    },
    model::{
        json::{Json, Undecodable},
        retry::Retry,
    },
    schema::collect::{Declared, Untyped},
    task::{
        Argument, Arguments, Awaits, CallOfATask, Checkpoint, Generating, NotStored, OnError, Resume, Task,
        TaskExecSchema, is_argument, registry::Registration,
    },
};
