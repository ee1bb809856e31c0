//! A handler that runs in a transaction of the store: with the context of its step, and with a place for its reply.

use std::{
    fmt,
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    task::Poll,
};

use futures::{
    FutureExt as _,
    future::{Either, select},
};
use tracing::{Instrument as _, Span};

use crate::{
    error::BoxError,
    execution::{
        attempt::{Attempt, recall},
        context::{leaving, panicked},
        mailbox::{Mailbox, put},
        stopped::Stopped,
    },
    model::{
        job,
        json::{self, Json},
    },
    runtime::guard::{drop_guarded, drop_within},
    schema::{OnError, returns::Reply},
};

/// A value that is about to be handled in a transaction.
pub struct Handling<R> {
    attempt: Attempt,
    on_error: OnError,
    failure: Mailbox<Stopped>,
    reply: Option<Mailbox<Replied<R>>>,
    /// That of the value, or that in which it was yielded: the handler runs on another task or thread.
    span: Span,
}

/// The outcome of a handler: its reply with the stored form, its error, or what ends the attempt in any case.
pub(crate) type Handled<R> = Result<Result<(Json, R), BoxError>, Stopped>;

/// A reply, or the text of the error under `on_error = "skip"`.
pub(crate) type Replied<R> = Result<R, String>;

impl<R: Reply> Handling<R> {
    /// Puts what ends the attempt into `failure`, and the reply into `reply` if the body waits for it.
    pub(crate) fn new(
        attempt: Attempt,
        on_error: OnError,
        failure: Mailbox<Stopped>,
        reply: Option<Mailbox<Replied<R>>>,
    ) -> Self {
        let span = attempt.value_span(attempt.context().seq()).unwrap_or_else(Span::current);
        Self { attempt, on_error, failure, reply, span }
    }

    /// The attempt that the handler's parameters after the value are taken from.
    pub fn attempt(&self) -> &Attempt {
        &self.attempt
    }

    /// Calls the handler; gives what to record. If that is `None`, the transaction must be rolled back.
    pub fn handle(&self, handler: impl FnOnce() -> Result<R, BoxError>) -> Option<job::Reply> {
        let context = self.attempt.context();
        let handle = || self.encoded(context.clone().sync_scope(handler));
        let handled = self.span.in_scope(|| catch_unwind(AssertUnwindSafe(handle)));
        self.keep(handled.unwrap_or_else(|panic| Err(panicked(&context, panic))))
    }

    /// Polls the handler to its end, unless the attempt ends before; [`keep`](Self::keep) takes the outcome.
    pub async fn poll(&self, handler: impl Future<Output = Result<R, BoxError>>) -> Handled<R> {
        let context = self.attempt.context();
        let handle = leaving(&context, async {
            self.attempt.held().await?;
            self.encoded(handler.await)
        });
        let mut handled =
            pin!(Some(AssertUnwindSafe(context.clone().scope(handle)).catch_unwind().instrument(self.span.clone())));
        let handle = poll_fn(|cx| handled.as_mut().as_pin_mut().map_or(Poll::Pending, |handle| handle.poll(cx)));
        let polled = match select(pin!(self.attempt.halted()), handle).await {
            Either::Left((stopped, _)) => Either::Left(stopped),
            Either::Right((handled, _)) => Either::Right(handled),
        };
        // The handler's future is dropped here and not by the store, which need not expect that a drop unwinds.
        drop_within(|| handled.set(None));
        match polled {
            Either::Left(stopped) => Err(stopped),
            Either::Right(Ok(handled)) => handled,
            Either::Right(Err(panic)) => Err(panicked(&context, panic)),
        }
    }

    /// Puts the reply or the failure where the attempt finds it; gives what to record.
    pub fn keep(&self, handled: Handled<R>) -> Option<job::Reply> {
        let context = self.attempt.context();
        let keep = || self.kept(handled).map_err(Stopped::plain);
        let kept = self.span.in_scope(|| catch_unwind(AssertUnwindSafe(|| context.clone().sync_scope(keep))));
        let kept = kept.unwrap_or_else(|panic| Err(panicked(&context, panic)));
        kept.map_err(|stopped| put(&self.failure, stopped)).ok()
    }

    fn encoded(&self, replied: Result<R, BoxError>) -> Handled<R> {
        match replied {
            Ok(reply) => self.attempt.encode(&reply).map(|kept| Ok((kept, reply))),
            Err(error) => Ok(Err(error)),
        }
    }

    fn kept(&self, handled: Handled<R>) -> Result<job::Reply, Stopped> {
        let (kept, replied) = match handled? {
            // The body sees the reply as a replay would give it.
            Ok((json, reply)) => {
                let is_read_back = self.reply.is_some() && !json::is_exact::<R>();
                let reply = if is_read_back { recall(&json)? } else { reply };
                (job::Reply::Value(json), Ok(reply))
            }
            Err(error) => {
                let error = self.attempt.skipped(self.on_error, error)?;
                self.attempt.says_skipped(&error);
                (job::Reply::Skipped(error.clone()), Err(error))
            }
        };
        if let Some(mailbox) = &self.reply {
            put(mailbox, replied);
        }
        Ok(kept)
    }
}

/// Ends the handler's context, whether the handler has run or not. A reply that the body no longer waits for may be dropped
/// here, by a thread of the store's.
impl<R> Drop for Handling<R> {
    fn drop(&mut self) {
        self.attempt.context().end_attempt();
        drop_guarded(self.reply.take());
    }
}

impl<R> fmt::Debug for Handling<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a value of {:?}", self.attempt)
    }
}
