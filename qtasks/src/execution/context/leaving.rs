//! Ends an attempt for a body that cannot go on.

use super::TaskContext;
use crate::{
    error::{Error, Result},
    execution::stopped::Stopped,
    runtime::guard::{self, ENDED},
};

impl TaskContext {
    /// Ends the attempt for this reason. The driver drops the body; a task that the body left behind unwinds.
    pub(crate) async fn leave<T>(&self, stopped: Stopped) -> T {
        self.after_leaving(stopped).await;
        guard::unwind(ENDED).await
    }

    /// Ends the attempt for this reason; a caller that the body left behind gets an error.
    pub(crate) async fn try_leave<T>(&self, stopped: Stopped) -> Result<T> {
        Err(self.after_leaving(stopped).await)
    }

    /// Ends the attempt for this reason, and goes on when the attempt is over: only a caller that the body left behind is
    /// there to see that.
    pub(super) async fn after_leaving(&self, stopped: Stopped) -> Error {
        self.inner.exit.take(stopped);
        self.end().over().await;
        Error::AttemptEnded { job: self.inner.job, attempt: self.inner.attempt }
    }

    /// Ends the attempt for this reason from a `fn` body, or ends a thread that the body has left behind.
    pub(super) fn unwind(&self, stopped: Stopped) -> ! {
        self.inner.exit.take(stopped);
        guard::unwind_thread(ENDED)
    }

    /// Waits until the body takes the way out, and gives the reason.
    pub(crate) async fn left(&self) -> Stopped {
        self.inner.exit.taken.cancelled().await;
        self.exit_reason().unwrap_or(Stopped::Fenced)
    }

    /// The reason for which the body has taken the way out, if it has.
    pub(crate) fn exit_reason(&self) -> Option<Stopped> {
        self.inner.exit.reason().take()
    }
}
