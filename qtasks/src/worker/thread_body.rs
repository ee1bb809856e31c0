//! Bodies on threads, where they may block. The threads are not the runtime's: a body that never returns keeps no program
//! from ending, and takes no thread from others.

use std::sync::{
    Arc, LazyLock,
    atomic::{AtomicU8, AtomicUsize, Ordering::SeqCst},
};

use tokio::{runtime::Handle, sync::oneshot};
use tracing::Span;

use crate::{
    execution::{body::Outcome, stopped::Stopped},
    runtime::{
        clock_hold::BodyHold,
        threads::{Pool, Ticket},
    },
};

/// How many bodies run at a time, besides those that were abandoned; others wait.
const MOST: usize = 500;

/// With more abandoned bodies than this in the process, workers lease no further jobs of `fn` tasks.
pub(crate) const TOO_MANY_ABANDONED: usize = 64;

static BODIES: LazyLock<Pool> = LazyLock::new(|| Pool::new("qtasks-body", MOST));

static ABANDONED: AtomicUsize = AtomicUsize::new(0);

/// How many bodies of this process still run although their attempts are over.
pub(crate) fn abandoned() -> usize {
    ABANDONED.load(SeqCst)
}

/// Whether a body runs, has returned, or was abandoned before it returned.
#[derive(Default)]
struct Stage(AtomicU8);

impl Stage {
    const UNDER_WAY: u8 = 0;
    const ABANDONED: u8 = 1;
    const RETURNED: u8 = 2;

    fn abandon(&self) {
        ABANDONED.fetch_add(1, SeqCst);
        if self.0.compare_exchange(Self::UNDER_WAY, Self::ABANDONED, SeqCst, SeqCst).is_err() {
            ABANDONED.fetch_sub(1, SeqCst);
        }
    }
}

/// Records, when it is dropped, that the body has returned or unwound, or will never be called.
struct Returning(Arc<Stage>);

impl Drop for Returning {
    fn drop(&mut self) {
        if self.0.0.swap(Stage::RETURNED, SeqCst) == Stage::ABANDONED {
            ABANDONED.fetch_sub(1, SeqCst);
        }
    }
}

/// Calls `body` on a thread that may block, within the runtime and the span of the caller, and sends to `begun` when it
/// begins. With a `hold`, the body keeps the clock where it is.
pub(crate) fn start(
    body: Box<dyn FnOnce() -> Outcome + Send>,
    begun: Option<oneshot::Sender<()>>,
    hold: Option<Arc<BodyHold>>,
) -> ThreadBody {
    let (outcome, received) = oneshot::channel();
    let (span, body_hold) = (Span::current(), hold.clone());
    let (runtime, stage) = (Handle::current(), Arc::new(Stage::default()));
    let returning = Returning(stage.clone());
    let work = move || {
        let _returning = returning;
        // The attempt is over since the body waited for a thread.
        if outcome.is_closed() {
            return;
        }
        let _in_runtime = runtime.enter();
        if let Some(begun) = begun {
            // The attempt may be over by now.
            let _ = begun.send(());
        }
        // The attempt does not wait for a body that it has abandoned.
        let _ = outcome.send(span.in_scope(|| BodyHold::around(body_hold, body)));
    };
    match BODIES.run(work) {
        Ok(ticket) => ThreadBody { outcome: received, ticket: Some(ticket), stage, hold },
        Err(error) => {
            let (failed, outcome) = oneshot::channel();
            let why = format!("the system gives no thread for the body of a `fn` task: {error}");
            let _ = failed.send(Err(Stopped::Error(why.into())));
            ThreadBody { outcome, ticket: None, stage, hold }
        }
    }
}

/// A body on a thread. Dropping this does not stop the body, but leaves it to end by itself; its thread then no longer counts
/// among those that may run.
pub(crate) struct ThreadBody {
    outcome: oneshot::Receiver<Outcome>,
    /// There until the body is known to have ended.
    ticket: Option<Ticket>,
    stage: Arc<Stage>,
    hold: Option<Arc<BodyHold>>,
}

impl ThreadBody {
    /// Waits until the body has returned, and gives its outcome.
    pub(crate) async fn outcome(&mut self) -> Outcome {
        let outcome = (&mut self.outcome).await;
        self.ticket = None;
        // A body that unwinds past its guard sends no outcome.
        outcome.unwrap_or_else(|_| Err(Stopped::Panic("it ended its thread".to_owned())))
    }

    /// Leaves the body to end by itself; gives whether it has ended.
    pub(crate) fn abandon(mut self) -> bool {
        let has_ended = self.outcome.try_recv().is_ok();
        if has_ended {
            self.ticket = None;
        } else {
            self.stage.abandon();
        }
        has_ended
    }
}

impl Drop for ThreadBody {
    fn drop(&mut self) {
        // A runtime that ends would wait for the hold of a body that never returns.
        if let Some(hold) = self.hold.take() {
            hold.give_up();
        }
        if let Some(ticket) = self.ticket.take() {
            ticket.abandon();
        }
    }
}
