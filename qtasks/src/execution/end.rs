//! The end of an attempt, for the tasks and threads that its body has left behind and that hold its context or its `Co`.

use std::sync::atomic::{
    AtomicBool,
    Ordering::{Acquire, Release},
};

use tokio::sync::Notify;

use super::stopped::Stopped;

/// Whether an attempt is over.
#[derive(Default)]
pub(crate) struct End {
    is_over: AtomicBool,
    ended: Notify,
}

impl End {
    /// Ends the attempt; gives whether this was the first call.
    pub(crate) fn come(&self) -> bool {
        let is_first = !self.is_over.swap(true, Release);
        if is_first {
            self.ended.notify_waiters();
        }
        is_first
    }

    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Acquire)
    }

    /// Waits until the attempt is over.
    pub(crate) async fn over(&self) {
        // A `Notified` misses no notification from its making on, so it is made before the look.
        let ended = self.ended.notified();
        if !self.is_over() {
            ended.await;
        }
    }

    /// The output of `work`, unless the attempt is over first.
    pub(crate) async fn or<T>(&self, work: impl Future<Output = T>) -> Result<T, Stopped> {
        tokio::select! {
            biased;
            done = work => Ok(done),
            () = self.over() => Err(Stopped::Fenced),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn work_that_is_ready_is_given_though_the_attempt_is_over() {
        let end = End::default();
        assert!(end.come() && !end.come());
        assert!(matches!(end.or(async { 1 }).now_or_never(), Some(Ok(1))));
    }

    #[test]
    fn work_that_waits_is_given_up_at_the_end() {
        let end = End::default();
        let mut waiting = std::pin::pin!(end.or(std::future::pending::<()>()));
        assert!(waiting.as_mut().now_or_never().is_none());
        end.come();
        assert!(matches!(waiting.now_or_never(), Some(Err(Stopped::Fenced))));
    }
}
