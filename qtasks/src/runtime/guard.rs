//! Guards around the user's code that unwinds: a drop that panics unwinds no code of ours, and tasks and threads that a body
//! left behind unwind by themselves.

use std::{
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
};

/// Drops a value of the task's own, whose drop may panic.
pub(crate) fn drop_guarded<T>(thing: T) {
    drop_within(|| drop(thing));
}

/// Runs a drop in place, which may panic.
pub(crate) fn drop_within(drop: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(drop)) {
        // The payload of this panic may itself panic when it is dropped.
        mem::forget(payload);
    }
}

/// The message for code that uses a context or a `Co` after the end of the attempt.
pub(crate) const ENDED: &str =
    "the attempt of this context has ended: a body has to wait for the tasks and threads that it starts";

/// Ends a task that its attempt has left behind and that waits for a value it can no longer get: by a panic without a call of
/// the panic hook. Where a panic would abort the process, the task waits for ever instead.
pub(crate) async fn unwind<T>(why: &'static str) -> T {
    tracing::warn!(why, "a task that a body has spawned is ended");
    #[cfg(panic = "unwind")]
    std::panic::resume_unwind(Box::new(why));
    #[cfg(not(panic = "unwind"))]
    std::future::pending().await
}

/// Ends a thread that its attempt has left behind, as [`unwind`] ends a task.
pub(crate) fn unwind_thread(why: &'static str) -> ! {
    #[cfg(panic = "unwind")]
    std::panic::resume_unwind(Box::new(why));
    #[cfg(not(panic = "unwind"))]
    loop {
        // A thread can be woken for no reason, and must not go on then.
        std::thread::park();
    }
}
