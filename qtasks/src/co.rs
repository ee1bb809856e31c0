//! The two ends of a coroutine: [`Co`], through which a body yields, and the driver that takes the values and answers.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use genawaiter::{GeneratorState, sync};

/// Yields values from the body of an `async fn` task and from its helpers: `Y` is what is yielded, `R` what the handler
/// replies.
///
/// A task takes it by value, as a parameter `co: Co<Y, R>`, and passes `&co` on. Under `on_error = "skip"` a value may
/// have no reply: there, `R` is `qtasks::Result<..>` of what the handler replies, and the error is the handler's.
///
/// One value at a time: yielding a second before the first is answered, or dropping the future of a yield half way (as
/// `join!` or a timeout around it would), ends the attempt with an error that says so.
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
    // A coroutine that is resumed with a value cannot be awaited, so the reply goes beside it, over the line.
    inner: sync::Co<Y>,
    line: Arc<Line<R>>,
}

impl<Y, R> Co<Y, R> {
    /// Yields `value`, and gives the handler's reply once the step is durable.
    pub async fn yield_(&self, value: Y) -> R {
        self.ask(value, ASKED).await;
        match self.ends.line.reply.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(reply) => reply,
            None => unreachable!("the driver answers before it resumes"),
        }
    }

    /// Yields `value` and goes on as soon as it is handled; the body may run ahead of the durable steps, as far as the
    /// task's `checkpoint` lets it.
    pub async fn emit(&self, value: Y) {
        self.ask(value, EMITTED).await;
    }

    async fn ask(&self, value: Y, turn: u8) {
        let line = &self.ends.line;
        if !line.begin(turn) {
            // The driver sees the misuse as soon as this poll is over, and never resumes the body.
            std::future::pending::<()>().await;
        }
        let _half_way = HalfWay(line);
        self.ends.inner.yield_(value).await;
        line.end();
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
pub(crate) struct Ask<Y> {
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
}

/// Carries replies to the body, and tells of misuse.
struct Line<R> {
    reply: Mutex<Option<R>>,
    turn: AtomicU8,
}

/// It is the body's turn,
const FREE: u8 = 0;
/// or the driver's: a value was yielded,
const EMITTED: u8 = 1;
/// and this time the body wants the reply.
const ASKED: u8 = 2;
const OVERLAP: u8 = 3;
const DROPPED: u8 = 4;

// The body is polled by one thread at a time, and the driver looks only between two polls: relaxed accesses suffice.
impl<R> Line<R> {
    fn begin(&self, turn: u8) -> bool {
        match self.turn.load(Relaxed) {
            FREE => {
                self.turn.store(turn, Relaxed);
                return true;
            }
            EMITTED | ASKED => self.turn.store(OVERLAP, Relaxed),
            _ => {}
        }
        false
    }

    fn end(&self) {
        self.hand_over(FREE);
    }

    /// Ends the driver's turn, if it has one.
    fn hand_over(&self, to: u8) {
        if let EMITTED | ASKED = self.turn.load(Relaxed) {
            self.turn.store(to, Relaxed);
        }
    }
}

struct HalfWay<'a, R>(&'a Line<R>);

impl<R> Drop for HalfWay<'_, R> {
    fn drop(&mut self) {
        self.0.hand_over(DROPPED);
    }
}

/// A body under way, seen from the driver.
pub(crate) struct Coroutine<Y, R, F: Future> {
    generator: sync::Gen<Y, (), F>,
    line: Arc<Line<R>>,
}

/// What a body did next.
pub(crate) enum Next<Y, T> {
    Yielded(Y),
    Ended(T),
    Misused(Misuse),
}

impl<Y, R, F: Future> Coroutine<Y, R, F> {
    pub(crate) fn new(body: impl FnOnce(Co<Y, R>) -> F) -> Self {
        let line = Arc::new(Line { reply: Mutex::new(None), turn: AtomicU8::new(FREE) });
        let ends = |inner| Co { ends: Arc::new(Ends { inner, line: line.clone() }) };
        Self { generator: sync::Gen::new(|inner| body(ends(inner))), line }
    }

    /// Lets the body run up to its next value or its end.
    pub(crate) fn next(&mut self) -> impl Future<Output = Next<Y, F::Output>> {
        poll_fn(|cx| self.poll_next(cx))
    }

    // A value goes this way in a few nanoseconds: a call between, and its copies, are a good part of that.
    #[inline(always)]
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Next<Y, F::Output>> {
        // A body that waits for something else than a reply takes no notice of being resumed again.
        let resumed = pin!(self.generator.async_resume()).poll(cx);
        match (resumed, self.line.turn.load(Relaxed)) {
            (_, OVERLAP) => Poll::Ready(Next::Misused(Misuse::Overlap)),
            (_, DROPPED) => Poll::Ready(Next::Misused(Misuse::Dropped)),
            (Poll::Ready(GeneratorState::Yielded(value)), _) => Poll::Ready(Next::Yielded(value)),
            (Poll::Ready(GeneratorState::Complete(end)), _) => Poll::Ready(Next::Ended(end)),
            (Poll::Pending, _) => Poll::Pending,
        }
    }

    /// Whether the body wants the reply to the value that it yielded.
    pub(crate) fn wants_reply(&self) -> bool {
        self.line.turn.load(Relaxed) == ASKED
    }

    /// Gives the reply that the body finds when it goes on.
    pub(crate) fn answer(&self, reply: R) {
        *self.line.reply.lock().unwrap_or_else(PoisonError::into_inner) = Some(reply);
    }
}
