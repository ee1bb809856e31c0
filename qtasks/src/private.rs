//! What the code that `#[qtask]` makes refers to. Not for use by hand, and free to change.

pub use inventory;
pub use serde;

pub use crate::{
    __kind_of as kind_of,
    collect::{Declared, Untyped},
    executor::{
        Attempt, Collecting as Into, Fail, Fallible, NoResult, Outcome, Returned, Running, Skip, generate,
        generate_blocking,
    },
    handler::{Identity, Kind, Probe, ProbeLater, ProbeLaterTry, ProbeNow, ProbeNowTry, needs_of},
    registry::Registration,
    retry::Retry,
    state::Need,
    task::{Checkpoint, Generating, OnError, Resume, Task, TaskExecSchema},
};
