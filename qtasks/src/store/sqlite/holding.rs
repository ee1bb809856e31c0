//! Keeps a paused clock where it is while the threads of the store answer a call.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use tokio::runtime::Handle;

use crate::runtime::clock_hold::ClockHold;

/// Whether calls of a store hold the clock: only where the application goes by tokio's clock.
#[derive(Debug, Default)]
pub(super) struct Holding(AtomicBool);

impl Holding {
    pub(super) fn begin(&self) {
        self.0.store(true, Relaxed);
    }

    /// Holds the clock of the caller's runtime until the answer is dropped, if calls are to hold it.
    pub(super) fn hold(&self) -> Option<ClockHold> {
        if !self.0.load(Relaxed) {
            return None;
        }
        Handle::try_current().ok().map(|runtime| ClockHold::of(&runtime))
    }
}
