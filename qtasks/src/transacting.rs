//! What surrounds a handler that runs in the store's own transaction: its context, and what becomes of its reply.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    error::BoxError,
    executor::{self, Attempt},
    failure::Stopped,
    handler::Reply,
    job,
    task::OnError,
};

/// A value that is about to be handled in a transaction.
pub struct Handling<R> {
    attempt: Attempt,
    on_error: OnError,
    failure: Slot<Stopped>,
    reply: Option<Slot<Replied<R>>>,
}

/// Where one side leaves something for the other.
pub(crate) type Slot<T> = Arc<Mutex<Option<T>>>;

/// A reply, or the text of the error under `on_error = "skip"`.
pub(crate) type Replied<R> = Result<R, String>;

/// Takes what the other side left.
pub(crate) fn take<T>(slot: &Slot<T>) -> Option<T> {
    slot.lock().unwrap_or_else(PoisonError::into_inner).take()
}

fn leave<T>(slot: &Slot<T>, thing: T) {
    *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(thing);
}

impl<R: Reply> Handling<R> {
    /// Leaves what ends the attempt in `failure`, and the reply in `reply`, if somebody waits for it.
    pub(crate) fn new(
        attempt: Attempt,
        on_error: OnError,
        failure: Slot<Stopped>,
        reply: Option<Slot<Replied<R>>>,
    ) -> Self {
        Self { attempt, on_error, failure, reply }
    }

    /// What the handler's parameters after the value are taken from.
    pub fn attempt(&self) -> &Attempt {
        &self.attempt
    }

    /// Calls the handler; gives what to record. Without that, nothing that the handler wrote may stay.
    pub fn handle(&self, handler: impl FnOnce() -> Result<R, BoxError>) -> Option<job::Reply> {
        let context = self.attempt.context();
        let handle = || self.keep(context.clone().sync_scope(handler));
        let handled = catch_unwind(AssertUnwindSafe(handle));
        let handled = handled.unwrap_or_else(|panic| Err(executor::panicked(&context, &*panic)));
        handled.map_err(|stopped| leave(&self.failure, stopped)).ok()
    }

    fn keep(&self, replied: Result<R, BoxError>) -> Result<job::Reply, Stopped> {
        let (kept, replied) = match replied {
            Ok(reply) => (self.attempt.encode(&reply)?, Ok(reply)),
            Err(error) => {
                let error = executor::skipped(self.on_error, error)?;
                (job::Reply::Skipped(error.clone()), Err(error))
            }
        };
        if let Some(slot) = &self.reply {
            leave(slot, replied);
        }
        Ok(kept)
    }
}

impl<R> fmt::Debug for Handling<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a value of {:?}", self.attempt)
    }
}
