//! The names that the expansion of `#[qtask]` refers to. They are not for use by hand, and may change in any version.

pub use inventory;
pub use serde;
pub use serde_json;

/// The expansion of a task that says `yield_!` imports all of this: so the macro is there for modules without an import of
/// their own.
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
        schedule::{Missed, Overlap, ScheduleOptions},
        unique::Duplicate,
    },
    schema::{
        Checkpoint, Generating, OnError, Resume, ScheduleSchema, TaskExecSchema, UniqueSchema,
        collect::{Declared, Untyped},
        need::Need,
        returns::{Failure, Fallible, NoResult, Returned},
    },
    task::{Argument, Arguments, Awaits, CallOfATask, NotStored, Task, is_argument, registry::Registration},
};
