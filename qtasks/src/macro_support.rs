//! What the code that `#[qtask]` makes refers to. Not for use by hand, and free to change.

pub use inventory;
pub use serde;
pub use serde_json;

/// What a module has that a task with `yield_!` stands in: the macro, for those that did not import it.
pub mod fallback {
    pub use crate::yield_;
}

pub use crate::{
    __kind_of as kind_of, __stored_arguments as stored_arguments,
    execution::{
        attempt::Attempt,
        body::{Outcome, Running},
        drive::Generator,
        handler::{
            Identity, Takes, TakesReference, TakesValue,
            probe::{Kind, Probe, ProbeLater, ProbeLaterTry, ProbeNow, ProbeNowTry},
        },
        on_error::{Fail, Skip},
    },
    model::{
        json::{Json, Undecodable},
        retry::Retry,
    },
    schema::{
        Checkpoint, Generating, OnError, Resume, TaskExecSchema,
        collect::{Declared, Untyped},
        need::Need,
        returns::{Failure, Fallible, NoResult, Returned},
    },
    task::{Argument, Arguments, Awaits, CallOfATask, NotStored, Task, is_argument, registry::Registration},
};
