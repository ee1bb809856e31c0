//! Guards around the user's code that unwinds: a drop that panics stops at the code of ours that drops the value, and the
//! tasks and threads that a body left behind unwind by themselves.

use std::{
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
};

/// Drops something of the task's own, whose drop may panic.
pub(crate) fn drop_guarded<T>(thing: T) {
    drop_within(|| drop(thing));
}

/// The same for what is dropped where it stands.
pub(crate) fn drop_within(drop: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(drop)) {
        // What a panic in a drop was called with may panic in its own.
        mem::forget(payload);
    }
}

/// What code is told that uses a context or a `Co` after the end of the attempt.
pub(crate) const ENDED: &str =
    "the attempt of this context has ended: a body has to wait for the tasks and threads that it starts";

/// Ends a task that its attempt has left behind, and that waits for a value which nothing can give it any more: by a panic,
/// about which no hook is called. Where a panic would abort the process, it never goes on instead.
pub(crate) async fn unwind<T>(why: &'static str) -> T {
    tracing::warn!(why, "a task that a body has spawned is ended");
    #[cfg(panic = "unwind")]
    std::panic::resume_unwind(Box::new(why));
    #[cfg(not(panic = "unwind"))]
    std::future::pending().await
}

/// The same for a thread.
pub(crate) fn unwind_thread(why: &'static str) -> ! {
    #[cfg(panic = "unwind")]
    std::panic::resume_unwind(Box::new(why));
    #[cfg(not(panic = "unwind"))]
    loop {
        // The thread is left behind.
        std::thread::park();
    }
}
