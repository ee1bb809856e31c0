//! A body that is ready to run: polled on the runtime, or called on a thread.

use std::{
    any::Any,
    fmt,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};

use futures::{FutureExt as _, future::BoxFuture};

use super::{
    attempt::{Attempt, Keeping},
    context::{TaskContext, leaving, panicked},
    stopped::{Stopped, over, unencodable},
};
use crate::{
    error::{BoxError, Error},
    model::{
        job::{self, Output},
        json::{self, Json},
    },
    runtime::guard::drop_guarded,
    schema::returns::{Failure, Value},
};

/// The end of an attempt: its output, or what stopped it.
pub type Outcome = Result<Ended, Stopped>;

/// The output of a body that came to its end.
#[derive(Debug)]
pub struct Ended(pub(crate) Output);

/// A body that is ready to run.
pub enum Running {
    /// A body that is polled on the runtime.
    Async(BoxFuture<'static, Outcome>),
    /// A body that is called on a thread that may block.
    Blocking(Box<dyn FnOnce() -> Outcome + Send>),
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Async(_) => "a body to poll",
            Self::Blocking(_) => "a body to call",
        })
    }
}

impl Running {
    /// The body of an `async fn` that yields.
    pub fn generator(body: impl Future<Output = Outcome> + Send + 'static) -> Self {
        Self::Async(Box::pin(body))
    }

    /// The body of a `fn` that yields.
    pub fn blocking_generator(body: impl FnOnce() -> Outcome + Send + 'static) -> Self {
        Self::Blocking(Box::new(body))
    }

    /// The body of an `async fn` that returns a value.
    pub fn value<T: Value>(attempt: Attempt, body: impl Future<Output = T> + Send + 'static) -> Self {
        Self::Async(Box::pin(async move { run_task(&attempt, Ok(body.await)) }))
    }

    /// The body of an `async fn` that returns a result.
    pub fn fallible<T: Value, E: Failure + 'static>(
        attempt: Attempt,
        body: impl Future<Output = Result<T, E>> + Send + 'static,
        retry_on: Option<fn(&E) -> bool>,
    ) -> Self {
        Self::Async(Box::pin(async move {
            let end = body.await.map_err(|error| raised(error, retry_on));
            run_task(&attempt, end)
        }))
    }

    /// The body of a `fn` that returns a value.
    pub fn blocking_value<T: Value>(attempt: Attempt, body: impl FnOnce() -> T + Send + 'static) -> Self {
        Self::Blocking(Box::new(move || run_task(&attempt, Ok(body()))))
    }

    /// The body of a `fn` that returns a result.
    pub fn blocking_fallible<T: Value, E: Failure + 'static>(
        attempt: Attempt,
        body: impl FnOnce() -> Result<T, E> + Send + 'static,
        retry_on: Option<fn(&E) -> bool>,
    ) -> Self {
        Self::Blocking(Box::new(move || {
            let end = body().map_err(|error| raised(error, retry_on));
            run_task(&attempt, end)
        }))
    }

    /// The same body, with `context` as the current context, with the end of the attempt when the body ends, and with an error
    /// in the place of a panic. The outcome holds no value of the task's own.
    pub(crate) fn guarded(self, context: TaskContext) -> Self {
        match self {
            Self::Async(body) => Self::Async(Box::pin(async move {
                let _ending = context.ending();
                let body = Dropping(Some(body));
                let caught = AssertUnwindSafe(context.clone().scope(leaving(&context, body))).catch_unwind().await;
                outcome(&context, caught)
            })),
            Self::Blocking(body) => Self::Blocking(Box::new(move || {
                let _ending = context.ending();
                let caught = catch_unwind(AssertUnwindSafe(|| context.clone().sync_scope(body)));
                outcome(&context, caught)
            })),
        }
    }
}

/// A body that may be dropped before its end: a panic in its drop goes no further.
struct Dropping(Option<BoxFuture<'static, Outcome>>);

impl Future for Dropping {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        let body = self.0.as_mut().expect("a body is there until this is dropped");
        body.as_mut().poll(cx)
    }
}

impl Drop for Dropping {
    fn drop(&mut self) {
        drop_guarded(self.0.take());
    }
}

/// The outcome of a body, without values of the task's own, whose code could run when they are dropped.
fn outcome(context: &TaskContext, caught: Result<Outcome, Box<dyn Any + Send>>) -> Outcome {
    caught.unwrap_or_else(|payload| Err(panicked(context, payload))).map_err(Stopped::plain)
}

/// The way of a task without steps: the value that it returns is the result.
fn run_task<T: Value>(attempt: &Attempt, end: Result<T, Stopped>) -> Outcome {
    debug_assert!(attempt.inner.context.task().generating.is_none(), "its schema sends a generator the other way");
    let value = end?;
    match &attempt.inner.keeping {
        Keeping::Here { result, .. } => {
            Attempt::keep(result, read_back("the returned value", value)?);
            Ok(Ended(Output::Steps(job::Shape::Nothing)))
        }
        Keeping::Stored { .. } => {
            let json = Json::encode(&value).map_err(|error| unencodable("the returned value", error))?;
            attempt.inner.limits.check_value(&json).map_err(over)?;
            Ok(Ended(Output::Value(json)))
        }
    }
}

/// The error of a body; `retry_on` says whether another try may mend it.
pub(super) fn raised<E: Into<BoxError>>(error: E, retry_on: Option<fn(&E) -> bool>) -> Stopped {
    let mends = retry_on.is_none_or(|retry_on| retry_on(&error));
    if mends { Stopped::Error(error.into()) } else { Stopped::Final(error.into()) }
}

/// A value as it is read back after it was recorded.
pub(super) fn read_back<T: Value>(what: &str, value: T) -> Result<T, Stopped> {
    if json::is_exact::<T>() {
        return Ok(value);
    }
    let json = Json::encode(&value).map_err(|error| unencodable(what, error))?;
    json.decode().map_err(|source| {
        let (what, as_type) = (what.to_owned(), std::any::type_name::<T>());
        Stopped::Error(Box::new(Error::Decode { what, as_type, source: source.into() }))
    })
}
