//! Runs one attempt: without I/O, and without a clock of its own.
//!
//! A task that does not yield goes through [`run_task`], one that does through [`run_task_gen`], which drives the body
//! as a coroutine and hands each value to the handler. What was handled goes to a [`Journal`] and from there to a store, or,
//! when the task runs here and now, into the collection itself.

use std::{future::Future, sync::PoisonError};

use futures::future::BoxFuture;
use serde::Serialize;

use super::{
    attempt::{Attempt, Keeping},
    body::{Ended, Outcome, raised},
    co::{Ask, Co, Coroutine, Next},
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
        collect::Collect,
        returns::{Collecting, Failure, Reply},
    },
};

/// Drives an `async fn` task that yields.
pub fn generate<D, L, K, X, Y, R, H, B, F>(
    attempt: Attempt,
    into: Collecting<D>,
    lenience: L,
    retry_on: Option<fn(&D::Error) -> bool>,
    _kind: Kind<K>,
    handler: H,
    body: B,
) -> BoxFuture<'static, Outcome>
where
    D: Collect<R, Error: Failure> + 'static,
    D::Error: 'static,
    L: Lenience,
    K: 'static,
    X: 'static,
    Y: Serialize + Send + 'static,
    R: Reply,
    H: Handler<Y, R, (K, X)>,
    H::Future: Send,
    B: FnOnce(Co<Y, L::Reply<R>>) -> F + Send + 'static,
    F: Future<Output = D::Body> + Send + 'static,
{
    let coroutine = Coroutine::new(body, is_body);
    Box::pin(run_task_gen(attempt, into, lenience, retry_on, handler, coroutine))
}

/// Drives a `fn` task that yields, on the thread that calls this.
pub fn generate_blocking<D, L, K, X, Y, R, H, B, F>(
    attempt: Attempt,
    into: Collecting<D>,
    lenience: L,
    retry_on: Option<fn(&D::Error) -> bool>,
    _kind: Kind<K>,
    handler: H,
    body: B,
) -> Outcome
where
    D: Collect<R, Error: Failure>,
    L: Lenience,
    Y: Serialize,
    R: Reply,
    H: Handler<Y, R, (K, X)>,
    B: FnOnce(Co<Y, L::Reply<R>>) -> F,
    F: Future<Output = D::Body>,
{
    let context = attempt.context();
    let driven = run_task_gen(attempt, into, lenience, retry_on, handler, Coroutine::new(body, is_body));
    clock_hold::block_on(leaving(&context, driven))
}

/// Whether it is a body that calls this, and not what it has spawned.
fn is_body() -> bool {
    TaskContext::has_current()
}

/// The way of a task that yields: each value goes through the handler and is kept.
async fn run_task_gen<D, L, M, Y, R, H, F>(
    attempt: Attempt,
    _into: Collecting<D>,
    _lenience: L,
    retry_on: Option<fn(&D::Error) -> bool>,
    handler: H,
    mut coroutine: Coroutine<Y, L::Reply<R>, F>,
) -> Outcome
where
    D: Collect<R, Error: Failure>,
    L: Lenience,
    Y: Serialize,
    R: Reply,
    H: Handler<Y, R, M>,
    F: Future<Output = D::Body>,
{
    debug_assert!(attempt.inner.context.task().generating.is_some(), "its schema sends a plain task the other way");
    match &attempt.inner.keeping {
        Keeping::Here { slot, transact, .. } => {
            let collection = D::Collection::default();
            let mut here = Here::<D> { attempt: &attempt, transact, collection, last: None, seq: 0 };
            let body = drive::<L, _, _, _, _, _, _>(&mut coroutine, &handler, &mut here).await?;
            D::ended(body).map_err(|error| raised(error, retry_on))?;
            Attempt::keep(slot, here.collected()?);
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
        let value = match coroutine.next().await {
            Next::Yielded(value) => value,
            Next::Ended(end) => return Ok(end),
            Next::Misused(misuse) => return Err(Stopped::Misuse(misuse)),
        };
        let ask = Ask { value, wants_reply: coroutine.wants_reply() };
        if let Some(reply) = keep.step(ask, handler).await? {
            coroutine.answer(reply);
        }
    }
}
