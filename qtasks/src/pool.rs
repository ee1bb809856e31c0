//! Threads for bodies that may block. They are not the runtime's: a body that never returns keeps no program from
//! ending, and takes no thread from others.

use std::sync::LazyLock;

use tokio::{runtime::Handle, sync::oneshot};

use crate::{
    executor::Outcome,
    failure::Stopped,
    threads::{Pool, Ticket},
};

/// So many bodies are called at a time, besides those that were abandoned; others wait.
const MOST: usize = 500;

/// With more abandoned bodies than this in the process, no further jobs of `fn` tasks are leased.
pub(crate) const TOO_MANY_ABANDONED: usize = 64;

static BODIES: LazyLock<Pool> = LazyLock::new(|| Pool::new("qtasks-body", MOST));

/// How many bodies go on although their attempts were given up.
pub(crate) fn abandoned() -> usize {
    BODIES.abandoned()
}

/// Calls `body` on a thread that may block, within the runtime of the caller. When that has begun, `begun` is told.
pub(crate) fn call(body: Box<dyn FnOnce() -> Outcome + Send>, begun: Option<oneshot::Sender<()>>) -> Called {
    let (outcome, received) = oneshot::channel();
    let runtime = Handle::current();
    let work = move || {
        // Its attempt was given up while it waited for a thread.
        if outcome.is_closed() {
            return;
        }
        let _in_runtime = runtime.enter();
        if let Some(begun) = begun {
            // The attempt may be over by now.
            let _ = begun.send(());
        }
        // It is not waited for any more when the attempt was given up.
        let _ = outcome.send(body());
    };
    match BODIES.run(work) {
        Ok(ticket) => Called { outcome: received, ticket: Some(ticket) },
        Err(error) => {
            let (failed, outcome) = oneshot::channel();
            let _ = failed.send(Err(Stopped::Error(Box::new(error))));
            Called { outcome, ticket: None }
        }
    }
}

/// A body that is called on a thread. Dropping this does not stop it.
pub(crate) struct Called {
    outcome: oneshot::Receiver<Outcome>,
    ticket: Option<Ticket>,
}

impl Called {
    /// Waits for what the body comes to.
    pub(crate) async fn outcome(&mut self) -> Outcome {
        (&mut self.outcome).await.unwrap_or(Err(Stopped::Released))
    }

    /// Leaves the body to end by itself; gives whether it has ended.
    pub(crate) fn abandon(mut self) -> bool {
        if self.outcome.try_recv().is_ok() {
            return true;
        }
        if let Some(ticket) = self.ticket {
            ticket.abandon();
        }
        false
    }
}
