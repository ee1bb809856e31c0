//! A value whose handler runs in the store's own transaction: what goes from the executor to the store.

use std::{
    any::Any,
    fmt,
    sync::{Mutex, PoisonError},
};

/// A yielded value on its way to the store, with the handler that is to run there, once.
pub struct PendingStep {
    /// The number of the step that this becomes.
    pub seq: u64,
    /// The [hash](crate::json::hash) of the value.
    pub hash: u64,
    /// How large the value is, as JSON.
    pub(crate) bytes: usize,
    run: Mutex<Option<BoxedHandler>>,
}

/// A handler with its value, as the store's own type of closure.
pub type BoxedHandler = Box<dyn Any + Send>;

impl PendingStep {
    /// A value that is to become step `seq`, by `run`.
    pub fn new(seq: u64, hash: u64, bytes: usize, run: BoxedHandler) -> Self {
        Self { seq, hash, bytes, run: Mutex::new(Some(run)) }
    }

    /// Whether the closure was taken out before.
    pub fn is_taken(&self) -> bool {
        self.run.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// Takes the closure out. There is none any more where it was taken before, for a handler cannot be run twice, and
    /// where it was written for another kind of store.
    pub fn take<F: 'static>(&self) -> Option<F> {
        let run = self.run.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        run.downcast().ok().map(|run| *run)
    }
}

impl fmt::Debug for PendingStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the handler of value {}", self.seq)
    }
}
