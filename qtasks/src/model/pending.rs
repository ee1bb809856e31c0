//! A value whose handler runs in the store's own transaction: what goes from the executor to the store.

use std::{
    any::Any,
    fmt,
    sync::{Mutex, PoisonError},
};

use crate::runtime::guard::drop_guarded;

/// A yielded value on its way to the store, with the handler that is to run there, once.
pub struct PendingStep {
    /// The number of the step that this becomes.
    pub seq: u64,
    /// The [hash](crate::model::json::hash) of the value.
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
        run.downcast().map(|run| *run).map_err(drop_guarded).ok()
    }
}

/// The last of those that share it drops the value: the recorder, or a thread of the store's, and neither is to panic.
impl Drop for PendingStep {
    fn drop(&mut self) {
        drop_guarded(self.run.get_mut().unwrap_or_else(PoisonError::into_inner).take());
    }
}

impl fmt::Debug for PendingStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the handler of value {}", self.seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct PanicsWhenDropped;

    impl Drop for PanicsWhenDropped {
        fn drop(&mut self) {
            panic!("dropped");
        }
    }

    #[test]
    fn a_value_whose_drop_panics_takes_no_thread_of_the_store_with_it() {
        let (never_run, of_another_store) = (PanicsWhenDropped, PanicsWhenDropped);
        drop(PendingStep::new(0, 0, 0, Box::new(never_run)));
        assert!(PendingStep::new(0, 0, 0, Box::new(of_another_store)).take::<u8>().is_none());
    }
}
