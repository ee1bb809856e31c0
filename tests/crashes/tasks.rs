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

pub(crate) const KINDS: [Kind; 13] = [
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
];

impl Kind {
    pub(crate) fn args(n: i64) -> Value {
        json!({ "n": n })
    }
}
