//! Threads for bodies that may block. They are not the runtime's: a body that never returns keeps no program from
//! ending.

use tokio::{runtime::Handle, sync::oneshot};

use crate::{executor::Outcome, failure::Stopped};

/// Calls `body` on a thread that may block, within the runtime of whoever calls this; its outcome comes over the channel.
pub(crate) fn start(body: Box<dyn FnOnce() -> Outcome + Send>) -> oneshot::Receiver<Outcome> {
    let (outcome, received) = oneshot::channel();
    let runtime = Handle::current();
    blocking::unblock(move || {
        let _in_runtime = runtime.enter();
        // Nobody waits any more when the attempt was given up.
        let _ = outcome.send(body());
    })
    .detach();
    received
}

/// The same, waited for. Dropping the future does not stop the body.
pub(crate) async fn run(body: Box<dyn FnOnce() -> Outcome + Send>) -> Outcome {
    start(body).await.unwrap_or(Err(Stopped::Released))
}
