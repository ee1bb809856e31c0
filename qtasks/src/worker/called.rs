//! Threads for bodies that may block. They are not the runtime's: a body that never returns keeps no program from
//! ending, and takes no thread from others.

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

/// So many bodies are called at a time, besides those that were abandoned; others wait.
const MOST: usize = 500;

/// With more abandoned bodies than this in the process, no further jobs of `fn` tasks are leased.
pub(crate) const TOO_MANY_ABANDONED: usize = 64;

static BODIES: LazyLock<Pool> = LazyLock::new(|| Pool::new("qtasks-body", MOST));

/// How many bodies go on that were to stop and could not be stopped.
static HUNG: AtomicUsize = AtomicUsize::new(0);

/// How many bodies go on although their attempts were given up.
pub(crate) fn abandoned() -> usize {
    HUNG.load(SeqCst)
}

/// How far a body has come that is called: whether it has returned, or was given up before.
#[derive(Default)]
struct Course(AtomicU8);

impl Course {
    const UNDER_WAY: u8 = 0;
    const GIVEN_UP: u8 = 1;
    const RETURNED: u8 = 2;

    fn give_up(&self) {
        HUNG.fetch_add(1, SeqCst);
        if self.0.compare_exchange(Self::UNDER_WAY, Self::GIVEN_UP, SeqCst, SeqCst).is_err() {
            HUNG.fetch_sub(1, SeqCst);
        }
    }
}

/// Dropped when a body has returned, or unwound, or is not called any more.
struct Returning(Arc<Course>);

impl Drop for Returning {
    fn drop(&mut self) {
        if self.0.0.swap(Course::RETURNED, SeqCst) == Course::GIVEN_UP {
            HUNG.fetch_sub(1, SeqCst);
        }
    }
}

/// Calls `body` on a thread that may block, within the runtime and the span of the caller. When that has begun, `begun` is
/// told. With a hold, the body keeps the clock where it is.
pub(crate) fn call(
    body: Box<dyn FnOnce() -> Outcome + Send>,
    begun: Option<oneshot::Sender<()>>,
    hold: Option<Arc<BodyHold>>,
) -> Called {
    let (outcome, received) = oneshot::channel();
    let (span, held) = (Span::current(), hold.clone());
    let (runtime, course) = (Handle::current(), Arc::new(Course::default()));
    let returning = Returning(course.clone());
    let work = move || {
        let _returning = returning;
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
        let _ = outcome.send(span.in_scope(|| BodyHold::around(held, body)));
    };
    match BODIES.run(work) {
        Ok(ticket) => Called { outcome: received, ticket: Some(ticket), course, hold },
        Err(error) => {
            let (failed, outcome) = oneshot::channel();
            let why = format!("the system gives no thread for the body of a `fn` task: {error}");
            let _ = failed.send(Err(Stopped::Error(why.into())));
            Called { outcome, ticket: None, course, hold }
        }
    }
}

/// A body that is called on a thread. Dropping this does not stop it, but leaves it to end by itself: its thread is counted no
/// more among those that may run.
pub(crate) struct Called {
    outcome: oneshot::Receiver<Outcome>,
    /// Until the body is known to have ended.
    ticket: Option<Ticket>,
    course: Arc<Course>,
    hold: Option<Arc<BodyHold>>,
}

impl Called {
    /// Waits for what the body comes to.
    pub(crate) async fn outcome(&mut self) -> Outcome {
        let outcome = (&mut self.outcome).await;
        self.ticket = None;
        // A body that unwinds past its guard says nothing.
        outcome.unwrap_or_else(|_| Err(Stopped::Panic("it ended its thread".to_owned())))
    }

    /// Leaves the body to end by itself; gives whether it has ended.
    pub(crate) fn abandon(mut self) -> bool {
        let has_ended = self.outcome.try_recv().is_ok();
        if has_ended {
            self.ticket = None;
        } else {
            self.course.give_up();
        }
        has_ended
    }
}

impl Drop for Called {
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
