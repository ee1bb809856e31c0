//! A buffer behind a lock: the body fills it, the recorder empties it, and others wait for it.
//!
//! There is one lock. Every wait computes its condition under the lock, and registers its waker before it releases the lock;
//! every change takes the wakers out under the lock, and wakes them after it. So no change falls between the look of a wait
//! and its sleep. `interleavings.rs` includes this file once more, with locks of `loom`, and tries all orders.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, PoisonError, Weak, atomic::Ordering::Relaxed},
    task::{Context, Poll, Waker},
    time::Duration,
};

use super::{
    buffer::{Ahead, Batch, Buffer, Effect, EntryCount, MemoEntry, Unrun, Wake},
    sync::{AtomicBool, Mutex, MutexGuard, UnboundedSender},
    waiters::{WaiterId, Waiters, Woken},
};
use crate::{
    execution::{
        mailbox::{Mailbox, take},
        stopped::Stopped,
    },
    model::{
        job::{Lease, Progress, Reply},
        pending::{BoxedHandler, PendingStep},
    },
    telemetry::Skips,
};

/// Whether the worker's leases still hold, by the worker's own clock.
pub(crate) type Holds = Arc<dyn Fn() -> bool + Send + Sync>;

/// The steps and memos of one attempt on their way to the store, in one order.
pub(crate) struct Journal {
    lease: Lease,
    holds: Holds,
    state: Mutex<Locked>,
    /// Whether the buffer is open, as of its last change. The body reads it before each value, without the lock; no wait relies
    /// on it.
    open: AtomicBool,
    failure: Mailbox<Stopped>,
    skips: Skips,
    requests: UnboundedSender<FlushRequest>,
    this: Weak<Self>,
}

struct Locked {
    buffer: Buffer,
    progress: Waiters,
    end: Waiters,
}

/// Asks the recorder to write what a journal has, within `wait`.
#[derive(Debug)]
pub(crate) struct FlushRequest {
    pub(crate) journal: Arc<Journal>,
    pub(crate) wait: Duration,
}

impl Journal {
    /// A journal whose next step and memo have the numbers `next`. The recorder is asked to write each within `wait`.
    pub(crate) fn new(
        lease: Lease,
        holds: Holds,
        next: EntryCount,
        wait: Duration,
        requests: UnboundedSender<FlushRequest>,
    ) -> Arc<Self> {
        Self::ahead_by(Ahead::OF_A_BODY, lease, holds, next, wait, requests)
    }

    /// The same, with other limits of how far the body may run ahead.
    pub(crate) fn ahead_by(
        ahead: Ahead,
        lease: Lease,
        holds: Holds,
        next: EntryCount,
        wait: Duration,
        requests: UnboundedSender<FlushRequest>,
    ) -> Arc<Self> {
        let buffer = Buffer::new(ahead, next, wait);
        let state = Locked { buffer, progress: Waiters::default(), end: Waiters::default() };
        Arc::new_cyclic(|this| Self {
            lease,
            holds,
            state: Mutex::new(state),
            open: AtomicBool::new(true),
            failure: Mailbox::default(),
            skips: Skips::default(),
            requests,
            this: this.clone(),
        })
    }

    pub(crate) fn lease(&self) -> Lease {
        self.lease
    }

    /// The values of the attempt that were skipped.
    pub(crate) fn skips(&self) -> &Skips {
        &self.skips
    }

    /// How many steps the job has that are durable.
    pub(crate) fn steps(&self) -> u64 {
        self.state().buffer.steps()
    }

    pub(crate) fn is_fenced(&self) -> bool {
        self.state().buffer.is_fenced()
    }

    /// Whether no more handlers are to run: one has failed, or the store has refused a write.
    pub(crate) fn has_failed(&self) -> bool {
        self.state().buffer.has_failed()
    }

    /// Where a handler in a transaction puts the reason of its failure, before the store says whether the failure counts.
    pub(crate) fn failure(&self) -> &Mailbox<Stopped> {
        &self.failure
    }
}

/// Calls of the body.
impl Journal {
    /// Whether [`wait_for_room`](Self::wait_for_room) has nothing to wait for.
    pub(crate) fn is_open(&self) -> bool {
        (self.holds)() && self.open.load(Relaxed)
    }

    /// Waits until the lease holds and the body may run ahead by one more value.
    pub(crate) async fn wait_for_room(&self) -> Result<(), Stopped> {
        self.wait(List::Progress, |buffer| buffer.has_room(&*self.holds)).await
    }

    /// Waits until the lease holds: one that ran out may be renewed, or have passed on to another worker.
    pub(crate) async fn held(&self) -> Result<(), Stopped> {
        self.wait(List::Progress, |buffer| buffer.held(&*self.holds)).await
    }

    /// Adds the next step.
    pub(crate) fn push(&self, hash: u64, reply: Reply) {
        self.change(|buffer| buffer.push(hash, reply));
    }

    /// Adds the next memo; gives its number.
    pub(crate) fn push_memo(&self, entry: MemoEntry) -> u64 {
        let mut number = 0;
        self.change(|buffer| {
            number = buffer.next_memo();
            buffer.push_memo(entry)
        });
        number
    }

    /// Whether the memo of this number is durable.
    pub(crate) fn has_memo(&self, number: u64) -> bool {
        self.state().buffer.has_memo(number)
    }

    /// Adds the next value, whose handler runs in the store and makes a step of it; drops it if handlers must not run any more.
    pub(crate) fn push_pending(&self, hash: u64, bytes: usize, handler: BoxedHandler) {
        let mut not_run = None;
        self.change(|buffer| {
            buffer.push_pending(hash, bytes, handler).unwrap_or_else(|handler| {
                not_run = Some(handler);
                Effect::default()
            })
        });
    }

    /// Keeps the progress that the task reports.
    pub(crate) fn progress(&self, progress: Progress) {
        self.change(|buffer| buffer.report(progress));
    }

    /// Asks for a write of everything at once, and waits until all of it is durable.
    pub(crate) async fn flush(&self) -> Result<(), Stopped> {
        let mut all = EntryCount::default();
        self.change(|buffer| {
            let (effect, count) = buffer.flush();
            all = count;
            effect
        });
        self.wait(List::Progress, |buffer| buffer.flushed(all)).await
    }

    /// The last [`flush`](Self::flush). If a handler failed in a transaction, its error is the error of the attempt, however
    /// the body has ended meanwhile.
    pub(crate) async fn finish(&self) -> Result<(), Stopped> {
        self.flush().await.map_err(|stopped| match stopped {
            Stopped::Fenced => stopped,
            _ => take(&self.failure).unwrap_or(stopped),
        })
    }

    /// Waits until the handlers of all earlier values have run, where they run in transactions: in the store, nothing that
    /// comes after a value may overtake it.
    pub(crate) async fn handlers_done(&self) -> Result<(), Stopped> {
        let in_transactions = self.state().buffer.in_transactions();
        if in_transactions { self.flush().await } else { Ok(()) }
    }
}

/// Waits of the attempt beside its body.
impl Journal {
    /// Waits until the job has more durable steps than `steps`.
    pub(crate) async fn has_more_than(&self, steps: u64) {
        self.wait(List::Progress, |buffer| (buffer.steps() > steps).then_some(())).await;
    }

    /// Waits until a handler that ran in a transaction has failed.
    pub(crate) async fn handler_failed(&self) {
        self.wait(List::End, |buffer| buffer.has_failed().then_some(())).await;
    }

    /// Waits until the lease is lost.
    pub(crate) async fn lost(&self) {
        self.wait(List::End, |buffer| buffer.is_fenced().then_some(())).await;
    }

    /// Waits until handlers that run in transactions must stop, and gives the reason.
    pub(crate) async fn halted(&self) -> Stopped {
        let halted = self.wait(List::End, Buffer::halted).await;
        halted.err().or_else(|| take(&self.failure)).unwrap_or(Stopped::Released)
    }
}

/// Calls of the recorder.
impl Journal {
    /// Takes out everything that is to be written.
    pub(crate) fn take(&self) -> Batch {
        self.state().buffer.take()
    }

    /// Says that the store has written the steps and memos that were taken: `written` of them.
    pub(crate) fn wrote(&self, written: EntryCount) {
        self.change(|buffer| buffer.wrote(written));
    }

    /// Says that the store has written the steps before number `upto`, whose handlers ran in transactions. The store did not
    /// come to the `rest`, which is to be taken again soon.
    pub(crate) fn handled(&self, upto: u64, rest: Vec<Arc<PendingStep>>) {
        self.end(|buffer| buffer.handled(upto, rest));
    }

    /// Says that a handler failed in a transaction, which was rolled back, or that the store refuses a write: handlers of later
    /// values do not run, and the attempt ends. [`finish`](Self::finish) gives the reason: the handler's error if there is
    /// one, and `otherwise` if not.
    pub(crate) fn fail(&self, otherwise: Stopped) {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(otherwise);
        self.end(Buffer::fail);
    }

    /// Says that handlers ran and the store did not commit their writes: the job is to be given back, whatever the handlers
    /// returned.
    pub(crate) fn release(&self) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(Stopped::Released);
        self.end(Buffer::fail);
    }
}

/// Events from outside of the attempt.
impl Journal {
    /// Says that the lease was renewed.
    pub(crate) fn renewed(&self) {
        self.change(|_| Wake::Progress.into());
    }

    /// Says that the lease is lost or the attempt has ended: all waits end.
    pub(crate) fn fence(&self) {
        self.end(Buffer::fence);
    }

    /// Makes handlers that run in transactions stop where they are. The attempt ends for this `reason`, unless everything
    /// added is durable by then.
    pub(crate) fn halt(&self, reason: Stopped) {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(reason);
        self.change(Buffer::halt);
    }
}

/// The lock, and how changes and waits use it.
impl Journal {
    fn change(&self, change: impl FnOnce(&mut Buffer) -> Effect) {
        let mut state = self.state();
        let effect = change(&mut state.buffer);
        self.carry_out(state, effect);
    }

    /// Makes a change that gives back values whose handlers will not run, and drops them after the lock.
    fn end(&self, change: impl FnOnce(&mut Buffer) -> (Effect, Unrun)) {
        let mut state = self.state();
        let (effect, unrun) = change(&mut state.buffer);
        self.carry_out(state, effect);
        drop(unrun);
    }

    fn carry_out(&self, mut state: MutexGuard<'_, Locked>, Effect { flush, mut wake }: Effect) {
        let mut unrun = Unrun::new();
        if let Some(wait) = flush
            && !self.request(wait)
        {
            // Without a recorder the worker is gone: nothing is written any more, and the lease runs out.
            (Effect { wake, .. }, unrun) = state.buffer.fence();
        }
        self.open.store(state.buffer.is_open(), Relaxed);
        if wake == Wake::None {
            return;
        }
        let woken = state.woken(wake);
        // Wakers, and values that are dropped, may call this journal again.
        drop(state);
        woken.into_iter().for_each(Woken::wake);
        drop(unrun);
    }

    /// Asks the recorder for a write; gives whether there is a recorder.
    fn request(&self, wait: Duration) -> bool {
        let journal = self.this.upgrade().expect("a journal is held by its caller");
        self.requests.send(FlushRequest { journal, wait }).is_ok()
    }

    fn wait<T, F: FnMut(&Buffer) -> Option<T>>(&self, list: List, condition: F) -> Wait<'_, F> {
        Wait { journal: self, list, condition, id: None }
    }

    fn state(&self) -> MutexGuard<'_, Locked> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Locked {
    fn woken(&mut self, wake: Wake) -> [Woken; 2] {
        [
            if wake.wakes_progress() { self.progress.take() } else { Woken::default() },
            if wake.wakes_end() { self.end.take() } else { Woken::default() },
        ]
    }

    fn list(&mut self, list: List) -> &mut Waiters {
        match list {
            List::Progress => &mut self.progress,
            List::End => &mut self.end,
        }
    }
}

/// The list of waiters that a wait stands in, which says what changes wake it.
#[derive(Clone, Copy)]
enum List {
    /// Waits that every change may end.
    Progress,
    /// Waits that only the end of the attempt ends.
    End,
}

/// A wait until `condition` gives a value.
///
/// # Cancel safety
///
/// Dropping it changes nothing.
struct Wait<'a, F> {
    journal: &'a Journal,
    list: List,
    condition: F,
    id: Option<WaiterId>,
}

impl<T, F: FnMut(&Buffer) -> Option<T> + Unpin> Future for Wait<'_, F> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let this = &mut *self;
        let mut state = this.journal.state();
        match (this.condition)(&state.buffer) {
            Some(value) => {
                drop(state);
                this.leave();
                Poll::Ready(value)
            }
            None => {
                let replaced = state.list(this.list).register(&mut this.id, context.waker());
                drop(state);
                drop(replaced);
                Poll::Pending
            }
        }
    }
}

impl<F> Wait<'_, F> {
    fn leave(&mut self) {
        if let Some(id) = self.id.take() {
            let waker: Option<Waker> = self.journal.state().list(self.list).remove(id);
            // After the lock: dropping the last waker of a task may drop the task.
            drop(waker);
        }
    }
}

impl<F> Drop for Wait<'_, F> {
    fn drop(&mut self) {
        self.leave();
    }
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the journal of {:?}", self.lease)
    }
}
