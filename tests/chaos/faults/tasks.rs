//! The tasks that run while the store is not itself, and what they come to.

use std::time::Duration;

use futures::{
    FutureExt as _,
    future::BoxFuture,
    stream::{BoxStream, StreamExt as _},
};
use qtasks::{Collection, Task, prelude::*};
use qtasks_tests::promises::{Event, Expected, Item};
use serde_json::{Value, json};

use crate::member::Member;

/// Takes a time that depends on the value: mostly none, sometimes longer than a lease lasts.
async fn dawdle(salt: u64, value: i64) {
    let wait = match fastrand::Rng::with_seed(salt ^ value.unsigned_abs().wrapping_mul(0x9e37_79b9)).u8(..100) {
        0..60 => return,
        60..80 => 1,
        80..93 => 300,
        93..97 => 2_000,
        _ => 5_000,
    };
    tokio::time::sleep(Duration::from_millis(wait)).await;
}

async fn ten_times(value: i64, member: State<Member>, ctx: TaskContext) -> i64 {
    let key = ctx.idempotency_key();
    let seq: u64 =
        key.rsplit(':').next().and_then(|seq| seq.parse().ok()).expect("a key ends in the number of the step");
    let (job, attempt) = (ctx.job_id(), ctx.attempt());
    member.does(Event::Begun { job, seq, attempt, value: json!(value) }).await;
    dawdle(member.salt(), value).await;
    member.does(Event::Returned { job, seq, attempt }).await;
    value * 10
}

async fn refuses_one(value: i64, member: State<Member>, ctx: TaskContext) -> Result<i64, String> {
    let reply = ten_times(value, member, ctx).await;
    if value == 1 { Err("not this one".to_owned()) } else { Ok(reply) }
}

// Their workers are lost more often than any job would be forgiven by default.
#[qtask(generate_handler = ten_times, retry = 1000)]
async fn runs_ahead(n: i64) -> Vec<i64> {
    for value in 0..n {
        yield_!(value);
    }
}

#[qtask(generate_handler = ten_times, checkpoint = "each", retry = 1000)]
async fn each(n: i64) -> Vec<i64> {
    for value in 0..n {
        yield_!(value);
    }
}

#[qtask(generate_handler = ten_times, checkpoint = "within 1s", retry = 1000)]
async fn takes_its_time(n: i64) -> Vec<i64> {
    for value in 0..n {
        yield_!(value);
    }
}

#[qtask(generate_handler = ten_times, retry = 1000)]
async fn replies(n: i64) -> Vec<i64> {
    let mut sum = 0;
    for value in 0..n {
        sum += yield_!(value + sum);
    }
}

#[qtask(generate_handler = ten_times, backoff = "10ms..100ms", retry = 1000)]
async fn fails_first(n: i64) -> Result<Vec<i64>, String> {
    for value in 0..n {
        if value == n / 2 && TaskContext::current().attempt() == 1 {
            return Err("the first never works".to_owned());
        }
        yield_!(value);
    }
    Ok(())
}

#[qtask(generate_handler = ten_times, retry = 1000)]
async fn always_fails(n: i64) -> Result<Vec<i64>, TaskError> {
    for value in 0..n {
        yield_!(value);
    }
    Err(TaskError::discard("never works"))
}

#[qtask(generate_handler = refuses_one, on_error = "skip", retry = 1000)]
async fn skips(n: i64) -> Vec<i64> {
    for value in 0..n {
        yield_!(value);
    }
}

#[qtask(retry = 1000)]
async fn plain(n: i64, member: State<Member>) -> Vec<i64> {
    dawdle(member.salt(), n).await;
    (0..n).collect()
}

type Values = BoxStream<'static, qtasks::Result<Value>>;

/// A task of those above.
#[derive(Clone, Copy)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    /// Opens a stream of a job of it.
    pub(crate) watch: fn(QueueTasks, JobId, u64) -> BoxFuture<'static, qtasks::Result<Values>>,
    steps: fn(i64) -> Vec<Item>,
    ahead: Option<u64>,
    /// How many attempts fail of themselves, each time that the job is tried anew.
    failures: usize,
    state: &'static str,
}

const fn kind<T: Task>(name: &'static str, steps: fn(i64) -> Vec<Item>) -> Kind
where
    T::Output: Collection<Item = i64> + 'static,
{
    Kind { name, watch: watch::<T>, steps, ahead: None, failures: 0, state: "done" }
}

pub(crate) const KINDS: [Kind; 8] = [
    kind::<runs_ahead>("runs_ahead", tens),
    Kind { ahead: Some(1), ..kind::<each>("each", tens) },
    kind::<takes_its_time>("takes_its_time", tens),
    Kind { ahead: Some(1), ..kind::<replies>("replies", sums) },
    Kind { failures: 1, ..kind::<fails_first>("fails_first", tens) },
    Kind { state: "dead", ..kind::<always_fails>("always_fails", tens) },
    kind::<skips>("skips", all_but_one),
    kind::<plain>("plain", |_| Vec::new()),
];

fn watch<T: Task>(app: QueueTasks, id: JobId, from: u64) -> BoxFuture<'static, qtasks::Result<Values>>
where
    T::Output: Collection<Item = i64> + 'static,
{
    async move {
        let values = app.job::<T>(id).await?.stream_from(from);
        Ok(values.map(|value| value.map(Value::from)).boxed())
    }
    .boxed()
}

fn tens(n: i64) -> Vec<Item> {
    (0..n).map(|value| Item::Value(json!(value * 10))).collect()
}

fn sums(n: i64) -> Vec<Item> {
    let mut sum = 0;
    let reply = |value| {
        let reply = (value + sum) * 10;
        sum += reply;
        Item::Value(json!(reply))
    };
    (0..n).map(reply).collect()
}

fn all_but_one(n: i64) -> Vec<Item> {
    let mut steps = tens(n);
    if let Some(step) = steps.get_mut(1) {
        *step = Item::Skipped("not this one".to_owned());
    }
    steps
}

impl Kind {
    pub(crate) fn named(name: &str) -> Self {
        *KINDS.iter().find(|kind| kind.name == name).expect("a task of this file")
    }

    /// What a job of `n` values comes to that a user tried again so many times.
    pub(crate) fn expected(&self, n: i64, retries: usize) -> Expected {
        let steps = (self.steps)(n);
        let values = steps.iter().filter_map(|item| match item {
            Item::Value(value) => Some(value.clone()),
            Item::Skipped(_) => None,
        });
        let result = match self.name {
            "plain" => Some(json!((0..n).collect::<Vec<_>>())),
            _ if self.state == "dead" => None,
            _ => Some(Value::Array(values.collect())),
        };
        let failures = self.failures * (1 + retries);
        Expected { state: self.state.to_owned(), result, steps, failures, ahead: self.ahead }
    }
}
