//! The parameters of a handler after the value.

use crate::{
    execution::{attempt::Attempt, context::TaskContext, state::State},
    schema::need::Need,
};

/// What a handler may take after the value.
#[diagnostic::on_unimplemented(
    message = "a handler cannot take a `{Self}` after the value",
    label = "neither `State<T>` nor `TaskContext`"
)]
pub trait Inject: Sized {
    /// What the application must have for this parameter.
    fn need() -> Option<Need>;
    /// Takes the value of the parameter from the attempt.
    fn inject(attempt: &Attempt) -> Self;
}

impl<T: Send + Sync + 'static> Inject for State<T> {
    fn need() -> Option<Need> {
        Some(Need::of::<T>())
    }

    fn inject(attempt: &Attempt) -> Self {
        attempt.state()
    }
}

impl Inject for TaskContext {
    fn need() -> Option<Need> {
        None
    }

    fn inject(attempt: &Attempt) -> Self {
        attempt.context()
    }
}
