//! Hands one thing from the side that makes it to the side that waits for it.

use std::sync::{Arc, Mutex, PoisonError};

/// Hands one thing from the side that makes it to the side that waits for it.
pub(crate) type Mailbox<T> = Arc<Mutex<Option<T>>>;

/// Takes out what the other side has put in.
pub(crate) fn take<T>(mailbox: &Mailbox<T>) -> Option<T> {
    mailbox.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// Puts `thing` in, in the place of what is there.
pub(crate) fn put<T>(mailbox: &Mailbox<T>, thing: T) {
    *mailbox.lock().unwrap_or_else(PoisonError::into_inner) = Some(thing);
}
