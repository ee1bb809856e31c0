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
/// that the body has spawned: that is ended by a panic, as is one that yields after the body's end, when nothing else comes
/// of it.
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
    // A coroutine that is resumed with a value cannot be awaited, so the reply goes beside it, over the exchange.
    inner: sync::Co<Y>,
    exchange: Arc<Exchange<R>>,
}

impl<Y, R> Co<Y, R> {
    /// Yields `value`, and gives the handler's reply once the step is durable.
    ///
    /// # Panics
    ///
    /// Outside of the body: in a task or thread that it has spawned, and after its end. No hook is called about that, and
    /// with `panic = "abort"` this waits for ever instead.
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

/// A value that the body yielded.
pub(crate) struct YieldedValue<Y> {
    pub(crate) value: Y,
    pub(crate) wants_reply: bool,
}

/// How a body broke the rule of one value at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misuse {
    /// Two yields at once.
    #[error(
        "a second value was yielded before the first was answered; yield one value at a time (no `join!` of two yields)"
    )]
    Overlap,
    /// A yield that was given up.
    #[error(
        "a yield was dropped before it was answered; do not put a yield into a timeout, a `select!` branch or an abortable future"
    )]
    Dropped,
    /// A yield elsewhere than in the body.
    #[error(
        "a value was yielded outside of the task's body; yield in the body itself and in what it awaits, not in a task or \
         thread that it spawns"
    )]
    Elsewhere,
}

/// Carries replies to the body, and tells of misuse.
struct Exchange<R> {
    reply: Mutex<Option<R>>,
    phase: AtomicU8,
    /// Marks the waker with which the driver polls the body, while it does so.
    polling: AtomicUsize,
    /// Whether it is the body that calls this, or what it awaits.
    is_body: fn() -> bool,
    /// The wakers of yields in a collection of futures, which polls a yield again only after its waker was called.
    others: Mutex<Vec<Waker>>,
    has_others: AtomicBool,
}

/// It is the body's phase,
const FREE: u8 = 0;
/// or the driver's: a value was yielded,
const EMITTED: u8 = 1;
/// and this time the body wants the reply.
const ASKED: u8 = 2;
const OVERLAP: u8 = 3;
const DROPPED: u8 = 4;
const ELSEWHERE: u8 = 5;
/// The body is over.
const OVER: u8 = 6;

/// Nothing polls the body.
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

    /// Whether it is the body that yields, though it is polled by another waker, as in a collection of futures.
    #[cold]
    fn is_body_apart(&self) -> bool {
        self.polling.load(Relaxed) != NOT_POLLING && (self.is_body)()
    }

    /// Lets no caller go on whose yield is refused. The body is not resumed, as soon as its driver sees the misuse; what it
    /// has spawned ends.
    async fn refuse(&self) {
        if self.phase.load(Relaxed) == ELSEWHERE && !(self.is_body)() {
            unwind(ELSEWHERE_SAID).await
        }
        poll_fn(|cx| self.poll_over(cx)).await;
        unwind(ENDED).await
    }

    /// Whether the driver polls this very task, and so will again.
    fn will_be_polled(&self, cx: &Context<'_>) -> bool {
        self.polling.load(Relaxed) == mark(cx.waker())
    }

    /// Waits until the body is over, or it is time to look again.
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

    /// The attempt drives the body no further. A yield that still waits is woken, and gets the error.
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

    /// Ends the driver's phase, if it has one.
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

/// A body under way, seen from the driver.
pub(crate) struct Coroutine<Y, R, F: Future> {
    generator: sync::Gen<Y, (), F>,
    exchange: Arc<Exchange<R>>,
}

/// What a body did next.
pub(crate) enum Resumed<Y, T> {
    Yielded(Y),
    Ended(T),
    Misused(Misuse),
}

impl<Y, R, F: Future> Coroutine<Y, R, F> {
    /// A body that has not begun; `is_body` tells whether the code that calls it is a body's.
    pub(crate) fn new(body: impl FnOnce(Co<Y, R>) -> F, is_body: fn() -> bool) -> Self {
        let exchange = Arc::new(Exchange::new(is_body));
        let ends = |inner| Co { ends: Arc::new(Ends { inner, exchange: exchange.clone() }) };
        Self { generator: sync::Gen::new(|inner| body(ends(inner))), exchange }
    }

    /// Lets the body run up to its next value or its end.
    pub(crate) fn resume(&mut self) -> impl Future<Output = Resumed<Y, F::Output>> {
        poll_fn(|cx| self.poll_resume(cx))
    }

    // A value goes this way in a few nanoseconds: a call between, and its copies, are a good part of that.
    #[inline(always)]
    fn poll_resume(&mut self, cx: &mut Context<'_>) -> Poll<Resumed<Y, F::Output>> {
        // A body that waits for something else than a reply takes no notice of being resumed again.
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

    /// Gives the reply that the body finds when it goes on.
    pub(crate) fn answer(&self, reply: R) {
        *self.exchange.reply.lock().unwrap_or_else(PoisonError::into_inner) = Some(reply);
    }
}

impl<Y, R, F: Future> Drop for Coroutine<Y, R, F> {
    fn drop(&mut self) {
        self.exchange.close();
    }
}
