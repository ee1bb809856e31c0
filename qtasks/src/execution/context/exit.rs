//! The way out of an attempt, and whether it was taken.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use crate::execution::stopped::Stopped;

/// The way out for a body that cannot go on: the reason is the end of the attempt, whatever the body returns.
#[derive(Default)]
pub(super) struct Exit {
    reason: Mutex<Option<Stopped>>,
    pub(super) taken: CancellationToken,
}

impl Exit {
    /// The first reason is the one that counts.
    pub(super) fn take(&self, stopped: Stopped) {
        self.reason().get_or_insert(stopped);
        self.taken.cancel();
    }

    pub(super) fn reason(&self) -> MutexGuard<'_, Option<Stopped>> {
        self.reason.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
