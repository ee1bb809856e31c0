//! The two ends of a coroutine: [`Co`], through which a body yields, and the driver that takes the values and answers.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{
            AtomicBool, AtomicU8, AtomicUsize,
            Ordering::{Relaxed, SeqCst},
        },
    },
    task::{Context, Poll, Waker},
};

use genawaiter::{GeneratorState, sync};

use crate::runtime::guard::{ENDED, unwind};

/// Yields values from the body of an `async fn` task and from its helpers: `Y` is what is yielded, `R` what the handler
/// replies.
///
/// A task takes it by value, as a parameter `co: Co<Y, R>`, and passes `&co` on. Under `on_error = "skip"` a value may
/// have no reply: there, `R` is `qtasks::Result<..>` of what the handler replies, and the error is the handler's.
///
/// One value at a time: yielding a second before the first is answered, or dropping the future of a yield half way (as
/// `join!` or a timeout around it would), ends the attempt with an error that says so. So does a yield in a task or thread
/// that the body has spawned, and a panic ends that task or thread. After the body's end such a yield only panics, and nothing
/// else comes of it.
///
/// ```
/// use qtasks::prelude::*;
///
/// #[qtask]
/// async fn countdown(n: u32, co: Co<u32, u32>) -> Vec<u32> {
///     descend(n, &co).await;
/// }
///
/// async fn descend(n: u32, co: &Co<u32, u32>) {
///     co.emit(n).await;
///     if n > 0 {
///         Box::pin(descend(n - 1, co)).await;
///     }
/// }
///
/// # #[tokio::main]
/// # async fn main() -> qtasks::Result<()> {
/// let app = QueueTasks::open("memory:").await?;
/// assert_eq!(app.run(countdown(3)).await?, [3, 2, 1, 0]);
/// # Ok(())
/// # }
/// ```
pub struct Co<Y, R> {
    ends: Arc<Ends<Y, R>>,
}

struct Ends<Y, R> {
    // A coroutine that is resumed with a value cannot be awaited, so the reply goes over the exchange.
    inner: sync::Co<Y>,
    exchange: Arc<Exchange<R>>,
}

impl<Y, R> Co<Y, R> {
    /// Yields `value`, and gives the handler's reply once the step is durable.
    ///
    /// # Panics
    ///
    /// Outside of the body: in a task or thread that the body has spawned, and after the body's end. The panic hook is not
    /// called, and with `panic = "abort"` this waits for ever instead.
    ///
    /// # Cancel safety
    ///
    /// None: the attempt ends with an error when the future is dropped before its end.
    pub async fn yield_(&self, value: Y) -> R {
        self.ask(value, ASKED).await;
        match self.ends.exchange.reply.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(reply) => reply,
            None => unreachable!("the driver answers before it resumes"),
        }
    }

    /// Yields `value` and goes on as soon as it is handled; the body may run ahead of the durable steps, as far as the
    /// task's `checkpoint` lets it.
    ///
    /// # Panics
    ///
    /// As [`yield_`](Self::yield_).
    ///
    /// # Cancel safety
    ///
    /// As [`yield_`](Self::yield_).
    pub async fn emit(&self, value: Y) {
        self.ask(value, EMITTED).await;
    }

    async fn ask(&self, value: Y, phase: u8) {
        let exchange = &self.ends.exchange;
        if !poll_fn(|cx| Poll::Ready(exchange.begin(phase, cx))).await {
            return exchange.refuse().await;
        }
        let _unanswered = Unanswered(exchange);
        let mut resumed = pin!(self.ends.inner.yield_(value));
        let is_resumed = poll_fn(|cx| match resumed.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(true),
            Poll::Pending if exchange.will_be_polled(cx) => Poll::Pending,
            Poll::Pending => exchange.poll_over(cx).map(|()| false),
        });
        if !is_resumed.await {
            unwind(ENDED).await
        }
        exchange.end();
    }
}

impl<Y, R> Clone for Co<Y, R> {
    fn clone(&self) -> Self {
        Self { ends: self.ends.clone() }
    }
}

impl<Y, R> fmt::Debug for Co<Y, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Co")
    }
}

/// A value that the body yielded, and whether the body waits for the handler's reply.
pub(crate) struct YieldedValue<Y> {
    pub(crate) value: Y,
    pub(crate) wants_reply: bool,
}

/// How a body broke the rule of one value at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misuse {
    /// The body yielded a value before the one before was answered.
    #[error(
        "a second value was yielded before the first was answered; yield one value at a time (no `join!` of two yields)"
    )]
    Overlap,
    /// The body dropped a yield before it was answered.
    #[error(
        "a yield was dropped before it was answered; do not put a yield into a timeout, a `select!` branch or an abortable future"
    )]
    Dropped,
    /// Other code than the body yielded a value.
    #[error(
        "a value was yielded outside of the task's body; yield in the body itself and in what it awaits, not in a task or \
         thread that it spawns"
    )]
    Elsewhere,
}

/// The state that a body and its driver share: carries replies to the body, and misuse to the driver.
struct Exchange<R> {
    reply: Mutex<Option<R>>,
    /// One of the phases below.
    phase: AtomicU8,
    /// The mark of the waker with which the driver polls the body, while it polls.
    polling: AtomicUsize,
    /// Whether the calling code is the body, or a future that the body awaits.
    is_body: fn() -> bool,
    /// The wakers of yields in a collection of futures, which polls a yield again only after its waker was called.
    others: Mutex<Vec<Waker>>,
    has_others: AtomicBool,
}

/// The phase in which the body runs.
const FREE: u8 = 0;
/// The phase in which the driver has a value, and the body wants no reply.
const EMITTED: u8 = 1;
/// The phase in which the driver has a value, and the body wants the reply.
const ASKED: u8 = 2;
/// The phase after a second yield before the first was answered.
const OVERLAP: u8 = 3;
/// The phase after a yield was dropped.
const DROPPED: u8 = 4;
/// The phase after a yield outside of the body.
const ELSEWHERE: u8 = 5;
/// The phase after the end of the body.
const OVER: u8 = 6;

/// The mark while the driver does not poll the body.
const NOT_POLLING: usize = 0;

fn mark(waker: &Waker) -> usize {
    waker.data().addr() | 1
}

// The body is polled by one thread at a time, and the driver looks only between two polls: relaxed accesses suffice.
impl<R> Exchange<R> {
    fn new(is_body: fn() -> bool) -> Self {
        Self {
            is_body,
            reply: Mutex::new(None),
            phase: AtomicU8::new(FREE),
            polling: AtomicUsize::new(NOT_POLLING),
            others: Mutex::default(),
            has_others: AtomicBool::new(false),
        }
    }

    #[inline]
    fn begin(&self, phase: u8, cx: &Context<'_>) -> bool {
        match self.phase.load(Relaxed) {
            FREE if self.will_be_polled(cx) || self.is_body_apart() => {
                self.phase.store(phase, Relaxed);
                return true;
            }
            FREE => self.phase.store(ELSEWHERE, Relaxed),
            EMITTED | ASKED => self.phase.store(OVERLAP, Relaxed),
            _ => {}
        }
        false
    }

    /// Whether the body yields by a future that has a waker of its own, as in a collection of futures.
    #[cold]
    fn is_body_apart(&self) -> bool {
        self.polling.load(Relaxed) != NOT_POLLING && (self.is_body)()
    }

    /// Keeps a caller whose yield is refused from going on. The driver does not resume a body after a misuse; a task or thread
    /// that the body has spawned ends by a panic.
    async fn refuse(&self) {
        if self.phase.load(Relaxed) == ELSEWHERE && !(self.is_body)() {
            unwind(ELSEWHERE_SAID).await
        }
        poll_fn(|cx| self.poll_over(cx)).await;
        unwind(ENDED).await
    }

    /// Whether the driver is polling with this waker, and so will poll again.
    fn will_be_polled(&self, cx: &Context<'_>) -> bool {
        self.polling.load(Relaxed) == mark(cx.waker())
    }

    /// Waits until the body is over, and is woken whenever the driver resumes the body.
    #[cold]
    fn poll_over(&self, cx: &Context<'_>) -> Poll<()> {
        {
            let mut others = self.others();
            others.retain(|other| !other.will_wake(cx.waker()));
            others.push(cx.waker().clone());
            self.has_others.store(true, SeqCst);
        }
        if self.phase.load(SeqCst) == OVER { Poll::Ready(()) } else { Poll::Pending }
    }

    fn wake_others(&self) {
        let others = {
            let mut others = self.others();
            self.has_others.store(false, SeqCst);
            std::mem::take(&mut *others)
        };
        others.into_iter().for_each(Waker::wake);
    }

    /// Says that the body is driven no further. A yield that still waits is woken, and panics.
    fn close(&self) {
        self.phase.store(OVER, SeqCst);
        self.wake_others();
    }

    fn others(&self) -> MutexGuard<'_, Vec<Waker>> {
        self.others.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self) {
        self.hand_over(FREE);
    }

    /// Ends a phase in which the driver has a value.
    fn hand_over(&self, to: u8) {
        if let EMITTED | ASKED = self.phase.load(Relaxed) {
            self.phase.store(to, Relaxed);
        }
    }
}

const ELSEWHERE_SAID: &str =
    "a `Co` yields in the body of its task alone, and not in a task or thread that the body spawns";

struct Unanswered<'a, R>(&'a Exchange<R>);

impl<R> Drop for Unanswered<'_, R> {
    fn drop(&mut self) {
        self.0.hand_over(DROPPED);
    }
}

/// A running body, as its driver sees it.
pub(crate) struct Coroutine<Y, R, F: Future> {
    generator: sync::Gen<Y, (), F>,
    exchange: Arc<Exchange<R>>,
}

/// What a body did after it was resumed.
pub(crate) enum Resumed<Y, T> {
    Yielded(Y),
    Ended(T),
    Misused(Misuse),
}

impl<Y, R, F: Future> Coroutine<Y, R, F> {
    /// A body that has not begun; `is_body` says whether the code that calls it is a body.
    pub(crate) fn new(body: impl FnOnce(Co<Y, R>) -> F, is_body: fn() -> bool) -> Self {
        let exchange = Arc::new(Exchange::new(is_body));
        let ends = |inner| Co { ends: Arc::new(Ends { inner, exchange: exchange.clone() }) };
        Self { generator: sync::Gen::new(|inner| body(ends(inner))), exchange }
    }

    /// Lets the body run up to its next value or its end.
    pub(crate) fn resume(&mut self) -> impl Future<Output = Resumed<Y, F::Output>> {
        poll_fn(|cx| self.poll_resume(cx))
    }

    // A value takes this way in a few nanoseconds, and a call with its copies would be a good part of that.
    #[inline(always)]
    fn poll_resume(&mut self, cx: &mut Context<'_>) -> Poll<Resumed<Y, F::Output>> {
        // Resuming a body does nothing while the body waits for anything else than a reply.
        let resumed = pin!(self.generator.async_resume());
        if self.exchange.has_others.load(Relaxed) {
            self.exchange.wake_others();
        }
        self.exchange.polling.store(mark(cx.waker()), Relaxed);
        let resumed = resumed.poll(cx);
        self.exchange.polling.store(NOT_POLLING, Relaxed);
        match (resumed, self.exchange.phase.load(Relaxed)) {
            (_, OVERLAP) => Poll::Ready(Resumed::Misused(Misuse::Overlap)),
            (_, DROPPED) => Poll::Ready(Resumed::Misused(Misuse::Dropped)),
            (_, ELSEWHERE) => Poll::Ready(Resumed::Misused(Misuse::Elsewhere)),
            (Poll::Ready(GeneratorState::Yielded(value)), _) => Poll::Ready(Resumed::Yielded(value)),
            (Poll::Ready(GeneratorState::Complete(end)), _) => {
                self.exchange.close();
                Poll::Ready(Resumed::Ended(end))
            }
            (Poll::Pending, _) => Poll::Pending,
        }
    }

    /// Whether the body wants the reply to the value that it yielded.
    pub(crate) fn wants_reply(&self) -> bool {
        self.exchange.phase.load(Relaxed) == ASKED
    }

    /// Puts the reply where the body finds it when it is resumed.
    pub(crate) fn answer(&self, reply: R) {
        *self.exchange.reply.lock().unwrap_or_else(PoisonError::into_inner) = Some(reply);
    }
}

impl<Y, R, F: Future> Drop for Coroutine<Y, R, F> {
    fn drop(&mut self) {
        self.exchange.close();
    }
}
