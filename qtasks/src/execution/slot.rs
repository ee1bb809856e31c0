//! Where one side leaves something for the other.

use std::sync::{Arc, Mutex, PoisonError};

/// Where one side leaves something for the other.
pub(crate) type Slot<T> = Arc<Mutex<Option<T>>>;

/// Takes what the other side left.
pub(crate) fn take<T>(slot: &Slot<T>) -> Option<T> {
    slot.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// Leaves something, in the place of what was left before.
pub(crate) fn leave<T>(slot: &Slot<T>, thing: T) {
    *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(thing);
}
