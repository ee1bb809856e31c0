//! The tasks that crash: all kinds of bodies and handlers, and both ways to record.

use futures::{
    FutureExt as _,
    future::BoxFuture,
    stream::{BoxStream, StreamExt as _},
};
use qtasks::{Collection, Task, prelude::*};
use serde_json::{Value, json};

use crate::process::Process;

async fn awaited(value: i64, process: State<Process>, ctx: TaskContext) -> i64 {
    process.handled(&ctx, value);
    value * 10
}

fn called(value: i64, process: State<Process>, ctx: TaskContext) -> i64 {
    process.handled(&ctx, value);
    value * 10
}

fn refuses_one(value: i64, process: State<Process>, ctx: TaskContext) -> Result<i64, String> {
    process.handled(&ctx, value);
    if value == 1 { Err("not this one".to_owned()) } else { Ok(value * 10) }
}

#[qtask(generate_handler = awaited)]
async fn async_async(n: i64) -> Vec<i64> {
    for value in 0..n {
        yield_!(value);
    }
}

#[qtask(generate_handler = called)]
async fn async_fn(n: i64) -> Vec<i64> {
    for value in 0..n {
        yield_!(value);
    }
}

#[qtask(generate_handler = awaited)]
fn fn_async(n: i64) -> Vec<i64> {
    for value in 0..n {
        yield_!(value);
    }
}

#[qtask(generate_handler = called)]
fn fn_fn(n: i64) -> Vec<i64> {
    for value in 0..n {
        yield_!(value);
    }
}

#[qtask(generate_handler = awaited, checkpoint = "each")]
async fn async_async_each(n: i64) -> Vec<i64> {
    for value in 0..n {
        yield_!(value);
    }
}

#[qtask(generate_handler = called, checkpoint = "each")]
async fn async_fn_each(n: i64) -> Vec<i64> {
    for value in 0..n {
        yield_!(value);
    }
}

#[qtask(generate_handler = awaited, checkpoint = "each")]
fn fn_async_each(n: i64) -> Vec<i64> {
    for value in 0..n {
        yield_!(value);
    }
}

#[qtask(generate_handler = called, checkpoint = "each")]
fn fn_fn_each(n: i64) -> Vec<i64> {
    for value in 0..n {
        yield_!(value);
    }
}

/// Yields by a helper that calls itself, every second value with a look at its reply.
#[qtask(generate_handler = awaited)]
async fn helpers(n: i64, co: Co<i64, i64>) -> Vec<i64> {
    descend(n, &co).await;
}

async fn descend(n: i64, co: &Co<i64, i64>) {
    if n > 0 {
        let further = if n % 2 == 0 { co.yield_(n).await } else { 0 };
        Box::pin(descend(n - 1, co)).await;
        if n % 2 == 1 {
            co.emit(n + further).await;
        }
    }
}

/// Each value is made of the replies so far: a reply that comes out otherwise in a replay is seen.
#[qtask(generate_handler = called)]
async fn replies(n: i64) -> Vec<i64> {
    let mut sum = 0;
    for value in 0..n {
        sum += yield_!(value + sum);
    }
}

#[qtask(generate_handler = called)]
fn replies_fn(n: i64) -> Vec<i64> {
    let mut sum = 0;
    for value in 0..n {
        sum += yield_!(value + sum);
    }
}

/// Its first attempt fails half way.
#[qtask(generate_handler = awaited, backoff = "1ms..1ms")]
async fn fallible(n: i64) -> Result<Vec<i64>, String> {
    for value in 0..n {
        if value == n / 2 && TaskContext::current().attempt() == 1 {
            return Err("the first never works".to_owned());
        }
        yield_!(value);
    }
    Ok(())
}

#[qtask(generate_handler = refuses_one, on_error = "skip")]
async fn skips(n: i64) -> Vec<i64> {
    for value in 0..n {
        yield_!(value);
    }
}

/// Takes a value beside something that every attempt would find otherwise.
fn called_beside((value, _): (i64, u32), process: State<Process>, ctx: TaskContext) -> i64 {
    called(value, process, ctx)
}

/// What it yields holds what was found once: were that forgotten while a step after it is kept, it would diverge.
#[qtask(generate_handler = called_beside, echo = true)]
async fn once(ctx: TaskContext, n: i64) -> Vec<i64> {
    let first = ctx.once("first", || async { ctx.attempt() }).await;
    for value in 0..n {
        let found = if value % 2 == 0 { first } else { ctx.once("next", || async { ctx.attempt() }).await };
        yield_!((value, found));
    }
}

#[qtask(generate_handler = called_beside, echo = true, checkpoint = "each")]
fn once_fn_each(ctx: TaskContext, n: i64) -> Vec<i64> {
    for value in 0..n {
        yield_!((value, ctx.once_blocking("next", || ctx.attempt())));
    }
}

/// Time and chance are recorded with the next steps, and nobody waits for them.
#[qtask(generate_handler = called_beside, echo = true)]
async fn chance(ctx: TaskContext, n: i64) -> Vec<i64> {
    for value in 0..n {
        ctx.now().await;
        yield_!((value, ctx.random().await as u32));
    }
}

/// Goes on from its last step by itself.
#[qtask(generate_handler = called, echo = true, resume = "cursor")]
async fn cursor(ctx: TaskContext, n: i64) -> qtasks::Result<Vec<i64>> {
    let next = ctx.last_step::<i64>().await?.map_or(0, |(_seq, reply)| reply / 10 + 1);
    for value in next..n {
        yield_!(value);
    }
    Ok(())
}

#[qtask(generate_handler = called, echo = true, resume = "cursor", checkpoint = "each")]
fn cursor_fn_each(ctx: TaskContext, n: i64) -> qtasks::Result<Vec<i64>> {
    let next = ctx.last_step_blocking::<i64>()?.map_or(0, |(seq, _)| seq as i64 + 1);
    for value in next..n {
        yield_!(value);
    }
    Ok(())
}

/// A task of those above, as the cases name it.
#[derive(Clone, Copy)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    /// Whether its body stays on the runtime: then its runs are the same each time, and the clock can stand still.
    pub(crate) is_async: bool,
    /// How many values may be handled and not recorded, where the task says so.
    pub(crate) ahead: Option<u64>,
    /// How many of its attempts fail of themselves.
    pub(crate) failures: usize,
    /// Opens a stream of a job of it.
    pub(crate) watch: Watch,
}

type Values = BoxStream<'static, qtasks::Result<Value>>;
type Watch = fn(QueueTasks, JobId, u64) -> BoxFuture<'static, Values>;

fn watch<T: Task>(app: QueueTasks, id: JobId, from: u64) -> BoxFuture<'static, Values>
where
    T::Output: Collection<Item = i64> + 'static,
{
    async move {
        let values = app.job::<T>(id).await.expect("the job is there").stream_from(from);
        values.map(|value| value.map(Value::from)).boxed()
    }
    .boxed()
}

const fn kind(name: &'static str, is_async: bool, ahead: Option<u64>, watch: Watch) -> Kind {
    Kind { name, is_async, ahead, failures: 0, watch }
}

pub(crate) const KINDS: [Kind; 18] = [
    kind("async_async", true, None, watch::<async_async>),
    kind("async_fn", true, None, watch::<async_fn>),
    kind("fn_async", false, None, watch::<fn_async>),
    kind("fn_fn", false, None, watch::<fn_fn>),
    kind("async_async_each", true, Some(1), watch::<async_async_each>),
    kind("async_fn_each", true, Some(1), watch::<async_fn_each>),
    kind("fn_async_each", false, Some(1), watch::<fn_async_each>),
    kind("fn_fn_each", false, Some(1), watch::<fn_fn_each>),
    kind("helpers", true, None, watch::<helpers>),
    kind("replies", true, Some(1), watch::<replies>),
    kind("replies_fn", false, Some(1), watch::<replies_fn>),
    Kind { failures: 1, ..kind("fallible", true, None, watch::<fallible>) },
    kind("skips", true, None, watch::<skips>),
    kind("once", true, None, watch::<once>),
    kind("once_fn_each", false, Some(1), watch::<once_fn_each>),
    kind("chance", true, None, watch::<chance>),
    kind("cursor", true, None, watch::<cursor>),
    kind("cursor_fn_each", false, Some(1), watch::<cursor_fn_each>),
];

impl Kind {
    pub(crate) fn args(n: i64) -> Value {
        json!({ "n": n })
    }
}
