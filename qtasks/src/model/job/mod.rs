//! A job and what belongs to it: its state, its steps, the attempts made at it.

mod after;
mod attempt;
mod call;
mod ids;
mod standing;
mod state;
mod steps;
mod unique;

pub use self::{
    after::{After, AfterFailure, Beginning, Parents},
    attempt::{Attempt, Ending, Lease},
    call::{JobCall, NewJob},
    ids::{JobId, ParseJobIdError, Version, WorkerId},
    standing::{Counts, Job, Standing, Suspect},
    state::{NextState, Output, Shape, State, StateKind},
    steps::{Memo, Progress, Reply, Step},
    unique::{Duplicate, Unique},
};
