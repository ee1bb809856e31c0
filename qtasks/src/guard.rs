//! What the user wrote is dropped behind a guard.

use std::{
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
};

/// Drops something of the task's own, whose drop may panic.
pub(crate) fn drop_guarded<T>(thing: T) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(thing))) {
        // What a panic in a drop was called with may panic in its own.
        mem::forget(payload);
    }
}
