//! The function that each yielded value goes through.

pub(crate) mod inject;
pub(crate) mod probe;
pub(crate) mod transactional;

use std::{
    future::{Future, Ready, ready},
    marker::PhantomData,
};

use futures::{
    FutureExt as _, TryFutureExt as _,
    future::{ErrInto, NeverError},
};

use tracing::Instrument as _;

use self::{inject::Inject, transactional::Handling};
use super::attempt::Attempt;
use crate::{
    error::BoxError,
    model::pending::BoxedHandler,
    schema::{need::Need, returns::Reply},
    telemetry::spans,
};

/// A handler of values of type `Y` that replies `R`.
///
/// `M` tells the forms apart: the kind of the function, and what it takes after the value.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not fit this task as its handler",
    label = "does not take what the task yields and reply `{R}`",
    note = "a handler is `fn(Y) -> R` or `async fn(Y) -> R`, Y what the task yields and R what it collects: it takes the \
            value itself (`name: String`, not `name: &str`), and `State<T>` and `TaskContext` after it if it likes",
    note = "it may return `Result<R, E>`, E an error that is `Send + Sync` (a `Box<dyn Error + Send + Sync>`, not a \
            `Box<dyn Error>`), `anyhow::Error` or `String`",
    note = "in a transaction of the store it is `fn(&qtasks::sqlite::Transaction<'_>, Y) -> Result<R, E>`, never `async`, or \
            `async fn(&mut qtasks::postgres::Transaction<'_>, Y) -> Result<R, E>`, whose future is `Send`"
)]
pub trait Handler<Y, R, M>: Send + Sync + 'static {
    /// Gives the reply; ready at once for a handler that is not async.
    type Future: Future<Output = Result<R, BoxError>>;

    /// Handles one value.
    fn handle(&self, value: Y, attempt: &Attempt) -> Self::Future;

    /// For a handler that runs in a transaction of the store: makes the call that the store runs, in the place of
    /// [`handle`](Self::handle).
    const IN_TRANSACTION: Option<BoxHandler<Self, Y, R>> = None;
}

/// Calls the handler of value `seq`, in a span of that value if it has one.
#[inline]
pub(super) async fn handle<Y, R, M, H>(handler: &H, value: Y, seq: u64, attempt: &Attempt) -> Result<R, BoxError>
where
    H: Handler<Y, R, M>,
{
    let Some(span) = attempt.value_span(seq) else { return handler.handle(value, attempt).await };
    let handled = span.in_scope(|| handler.handle(value, attempt)).instrument(span.clone()).await;
    handled.inspect_err(|_| spans::handler_failed(&span))
}

/// Makes the call of a handler with a value that the store runs in a transaction.
pub(crate) type BoxHandler<H, Y, R> = fn(&H, Y, Handling<R>) -> BoxedHandler;

/// The kind of a handler that replies at once.
#[derive(Debug)]
pub enum Now {}
/// The kind of a handler that replies at once or fails.
#[derive(Debug)]
pub enum NowTry {}
/// The kind of an async handler.
#[derive(Debug)]
pub enum Later {}
/// The kind of an async handler that may fail.
#[derive(Debug)]
pub enum LaterTry {}

macro_rules! handlers {
    ($($extra:ident),*) => {
        impl<H, Y, R, $($extra,)*> Handler<Y, R, (Now, ($($extra,)*))> for H
        where
            H: Fn(Y, $($extra),*) -> R + Send + Sync + 'static,
            R: Reply,
            $($extra: Inject,)*
        {
            type Future = Ready<Result<R, BoxError>>;

            fn handle(&self, value: Y, _attempt: &Attempt) -> Self::Future {
                ready(Ok(self(value, $($extra::inject(_attempt)),*)))
            }
        }

        impl<H, Y, R, E, $($extra,)*> Handler<Y, R, (NowTry, (E, $($extra,)*))> for H
        where
            H: Fn(Y, $($extra),*) -> Result<R, E> + Send + Sync + 'static,
            R: Reply,
            E: Into<BoxError>,
            $($extra: Inject,)*
        {
            type Future = Ready<Result<R, BoxError>>;

            fn handle(&self, value: Y, _attempt: &Attempt) -> Self::Future {
                ready(self(value, $($extra::inject(_attempt)),*).map_err(Into::into))
            }
        }

        impl<H, Y, R, F, $($extra,)*> Handler<Y, R, (Later, (F, $($extra,)*))> for H
        where
            H: Fn(Y, $($extra),*) -> F + Send + Sync + 'static,
            F: Future<Output = R>,
            R: Reply,
            $($extra: Inject,)*
        {
            type Future = ErrInto<NeverError<F>, BoxError>;

            fn handle(&self, value: Y, _attempt: &Attempt) -> Self::Future {
                self(value, $($extra::inject(_attempt)),*).never_error().err_into()
            }
        }

        impl<H, Y, R, F, E, $($extra,)*> Handler<Y, R, (LaterTry, (F, E, $($extra,)*))> for H
        where
            H: Fn(Y, $($extra),*) -> F + Send + Sync + 'static,
            F: Future<Output = Result<R, E>>,
            R: Reply,
            E: Into<BoxError>,
            $($extra: Inject,)*
        {
            type Future = ErrInto<F, BoxError>;

            fn handle(&self, value: Y, _attempt: &Attempt) -> Self::Future {
                self(value, $($extra::inject(_attempt)),*).err_into()
            }
        }

        impl<H, Y, O, $($extra: Inject,)*> Signature<(Y, $($extra,)*)> for H
        where
            H: Fn(Y, $($extra),*) -> O,
        {
            type Output = O;

            fn needs() -> Vec<Need> {
                let needs: [Option<Need>; _] = [$($extra::need()),*];
                needs.into_iter().flatten().collect()
            }
        }
    };
}

/// The output and the needs of a handler function, without regard to the values that it handles.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a handler",
    label = "not a handler",
    note = "a handler is `fn(Y) -> R` or `async fn(Y) -> R`, Y what the task yields; it may take `State<T>` and `TaskContext` \
            after the value; give the types of a generic function: `double::<i64>`",
    note = "in a transaction of the store it is `fn(&qtasks::sqlite::Transaction<'_>, Y) -> Result<R, E>`, never `async`, or \
            `async fn(&mut qtasks::postgres::Transaction<'_>, Y) -> Result<R, E>`, whose future is `Send`"
)]
pub trait Signature<A> {
    /// The output of a call of the function.
    type Output;

    /// What the function takes from the application.
    fn needs() -> Vec<Need>;
}

handlers!();
handlers!(A1);
handlers!(A1, A2);

/// The handler of a task that names none: each value is its own reply.
#[derive(Clone, Copy, Debug)]
pub struct Identity;

/// The kind of [`Identity`].
#[derive(Debug)]
pub enum Same {}

impl<Y> Handler<Y, Y, (Same, ())> for Identity {
    type Future = Ready<Result<Y, BoxError>>;

    fn handle(&self, value: Y, _attempt: &Attempt) -> Self::Future {
        ready(Ok(value))
    }
}

/// A handler whose first parameter is a reference.
///
/// Such a handler fits a task that yields `&'static` values. Without this wrapper, the compiler would expect a reference of
/// every yielded value and advise to borrow there, which never helps.
#[derive(Clone, Copy, Debug)]
pub struct Borrowing<H>(H);

/// A value that fits a handler which takes a reference.
#[diagnostic::on_unimplemented(
    message = "the handler takes a reference, and the task yields `{Self}`",
    label = "let it take the value itself: `{Self}`",
    note = "a handler owns the values: `async fn handle(name: String)`, not `async fn handle(name: &str)`"
)]
pub trait Reference: Send + 'static {
    /// The same reference.
    type Same;

    /// The reference itself.
    fn same(self) -> Self::Same;
}

impl<T: Sync + ?Sized> Reference for &'static T {
    type Same = Self;

    fn same(self) -> Self {
        self
    }
}

impl<H, Y, R, K, X> Handler<Y, R, (K, X)> for Borrowing<H>
where
    Y: Reference,
    H: Handler<Y::Same, R, (K, X)>,
{
    type Future = H::Future;

    fn handle(&self, value: Y, attempt: &Attempt) -> H::Future {
        self.0.handle(value.same(), attempt)
    }
}

/// The parameters `A` of a handler, and what the application must have for them.
#[derive(Debug)]
pub struct Takes<H, A> {
    needs: fn() -> Vec<Need>,
    arguments: PhantomData<fn() -> (H, A)>,
}

impl<H: Signature<A>, A> Takes<H, A> {
    /// The parameters of `handler`.
    pub fn of(_handler: &H) -> Self {
        Self { needs: H::needs, arguments: PhantomData }
    }
}

// Without a bound: a function that is no handler is an error of `of`, and not once more of this.
impl<H, A> Takes<H, A> {
    /// What the handler takes from the application.
    pub fn needs(&self) -> Vec<Need> {
        (self.needs)()
    }
}

/// Wraps a handler of references. Method look-up tries this before [`TakesValue`].
pub trait TakesReference<H> {
    /// The handler in a wrapper that leaves it to the task's values whether it fits.
    fn pass(&self, handler: H) -> Borrowing<H> {
        Borrowing(handler)
    }
}

impl<H, Y: ?Sized> TakesReference<H> for Takes<H, (&Y,)> {}
impl<H, Y: ?Sized, A1> TakesReference<H> for Takes<H, (&Y, A1)> {}
impl<H, Y: ?Sized, A1, A2> TakesReference<H> for Takes<H, (&Y, A1, A2)> {}

/// Passes on any other handler as it is.
pub trait TakesValue<H> {
    /// The handler itself.
    fn pass(&self, handler: H) -> H {
        handler
    }
}

impl<H, A> TakesValue<H> for &Takes<H, A> {}
