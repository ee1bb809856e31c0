//! What a task does with a value whose handler fails.

use super::stopped::{Diverged, Stopped};
use crate::{
    error::{self, Error},
    schema::{OnError, returns::Reply},
};

/// What an error of the handler does to a value's reply.
pub trait Lenience: Send + Sync + 'static {
    /// The type in which the body gets a reply.
    type Reply<R: Reply>: Send;
    /// The same choice, for the schema.
    const ON_ERROR: OnError;

    /// What the body gets for a value that was handled.
    fn replied<R: Reply>(reply: R) -> Self::Reply<R>;
    /// What the body gets for a value that was skipped.
    fn skipped<R: Reply>(seq: u64, error: String) -> Result<Self::Reply<R>, Stopped>;
}

/// An error of the handler ends the attempt.
#[derive(Clone, Copy, Debug)]
pub struct Fail;

impl Lenience for Fail {
    type Reply<R: Reply> = R;
    const ON_ERROR: OnError = OnError::Fail;

    fn replied<R: Reply>(reply: R) -> R {
        reply
    }

    // A record with a skipped step comes from another version of the task, which skipped.
    fn skipped<R: Reply>(seq: u64, _error: String) -> Result<R, Stopped> {
        Err(Stopped::Diverged(Diverged::Value { seq }))
    }
}

/// An error of the handler is recorded in the value's place.
#[derive(Clone, Copy, Debug)]
pub struct Skip;

impl Lenience for Skip {
    type Reply<R: Reply> = error::Result<R>;
    const ON_ERROR: OnError = OnError::Skip;

    fn replied<R: Reply>(reply: R) -> error::Result<R> {
        Ok(reply)
    }

    fn skipped<R: Reply>(seq: u64, error: String) -> Result<error::Result<R>, Stopped> {
        Ok(Err(Error::Skipped { seq, error }))
    }
}
