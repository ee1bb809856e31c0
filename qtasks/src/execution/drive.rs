//! Runs one attempt: without I/O, and without a clock of its own.
//!
//! A task that does not yield goes through [`run_task`], one that does through [`Generator::run_task_gen`], which drives the
//! body as a coroutine and hands each value to the handler. A reply goes to a [`Journal`] and from there to a store, or, when
//! the task runs here and now, into the collection itself.

use std::{future::Future, marker::PhantomData, sync::PoisonError};

use futures::future::BoxFuture;
use serde::Serialize;

use super::{
    attempt::{Attempt, Keeping},
    body::{Ended, Outcome, raised},
    co::{Co, Coroutine, Resumed, YieldedValue},
    context::{TaskContext, leaving},
    handler::{Handler, probe::Kind},
    inline::Here,
    keep::Keep,
    on_error::Lenience,
    recorded::Stored,
    stopped::Stopped,
};
use crate::{
    model::job::Output,
    runtime::clock_hold,
    schema::{
        collect::{Collect, Declared},
        returns::{Failure, Reply},
    },
};

/// A task that yields: its attempt, what its values are collected into (`D`), and what an error of its handler does (`L`).
#[derive(Debug)]
pub struct Generator<D: Declared, L> {
    attempt: Attempt,
    retry_on: Option<fn(&D::Error) -> bool>,
    lenience: PhantomData<fn() -> L>,
}

impl<D: Declared, L: Lenience> Generator<D, L> {
    /// An `attempt` at the task; `retry_on` judges the errors of its body.
    pub fn new(attempt: Attempt, retry_on: Option<fn(&D::Error) -> bool>) -> Self {
        Self { attempt, retry_on, lenience: PhantomData }
    }

    /// Drives the body of an `async fn`.
    pub fn run<M, Y, R, H, B, F>(self, _: Kind<M>, handler: H, body: B) -> BoxFuture<'static, Outcome>
    where
        D: Collect<R, Error: Failure> + 'static,
        D::Error: 'static,
        M: 'static,
        Y: Serialize + Send + 'static,
        R: Reply,
        H: Handler<Y, R, M>,
        H::Future: Send,
        B: FnOnce(Co<Y, L::Reply<R>>) -> F + Send + 'static,
        F: Future<Output = D::Body> + Send + 'static,
    {
        Box::pin(self.run_task_gen(handler, Coroutine::new(body, is_body)))
    }

    /// Drives the body of a `fn`, on the thread that calls this.
    pub fn run_blocking<M, Y, R, H, B, F>(self, _: Kind<M>, handler: H, body: B) -> Outcome
    where
        D: Collect<R, Error: Failure>,
        Y: Serialize,
        R: Reply,
        H: Handler<Y, R, M>,
        B: FnOnce(Co<Y, L::Reply<R>>) -> F,
        F: Future<Output = D::Body>,
    {
        let context = self.attempt.context();
        clock_hold::block_on(leaving(&context, self.run_task_gen(handler, Coroutine::new(body, is_body))))
    }

    /// The way of a task that yields: each value goes through the handler and is kept.
    async fn run_task_gen<M, Y, R, H, F>(self, handler: H, mut coroutine: Coroutine<Y, L::Reply<R>, F>) -> Outcome
    where
        D: Collect<R, Error: Failure>,
        Y: Serialize,
        R: Reply,
        H: Handler<Y, R, M>,
        F: Future<Output = D::Body>,
    {
        let Self { attempt, retry_on, .. } = self;
        debug_assert!(attempt.inner.context.task().generating.is_some(), "its schema sends a plain task the other way");
        match &attempt.inner.keeping {
            Keeping::Here { result, transact, .. } => {
                let collection = D::Collection::default();
                let mut here = Here::<D> { attempt: &attempt, transact, collection, last: None, seq: 0 };
                let body = drive::<L, _, _, _, _, _, _>(&mut coroutine, &handler, &mut here).await?;
                D::ended(body).map_err(|error| raised(error, retry_on))?;
                Attempt::keep(result, here.collected()?);
            }
            Keeping::Stored { journal, recorded, record } => {
                let record = record.lock().unwrap_or_else(PoisonError::into_inner).take();
                let record = record.expect("an attempt is driven once");
                let mut stored = Stored::new(&attempt, journal, *recorded, record);
                let body = drive::<L, _, _, _, _, _, _>(&mut coroutine, &handler, &mut stored).await?;
                D::ended(body).map_err(|error| raised(error, retry_on))?;
                stored.ended()?;
            }
        }
        Ok(Ended(Output::Steps(D::SHAPE)))
    }
}

/// Whether the code that calls this is a body, and not a task or thread that a body has spawned.
fn is_body() -> bool {
    TaskContext::has_current()
}

async fn drive<L, K, M, Y, R, H, F>(
    coroutine: &mut Coroutine<Y, L::Reply<R>, F>,
    handler: &H,
    keep: &mut K,
) -> Result<F::Output, Stopped>
where
    L: Lenience,
    K: Keep<Y, R, L>,
    R: Reply,
    H: Handler<Y, R, M>,
    F: Future,
{
    loop {
        let value = match coroutine.resume().await {
            Resumed::Yielded(value) => value,
            Resumed::Ended(end) => return Ok(end),
            Resumed::Misused(misuse) => return Err(Stopped::Misuse(misuse)),
        };
        let yielded = YieldedValue { value, wants_reply: coroutine.wants_reply() };
        if let Some(reply) = keep.step(yielded, handler).await? {
            coroutine.answer(reply);
        }
    }
}
