//! Values read back as what was handed over: a body sees the same live and when it runs again, here and on a worker.

use std::{collections::BTreeMap, thread};

use proptest::{
    collection::{btree_map, vec},
    num::{f32, f64},
    option,
    prelude::*,
    strategy::ValueTree as _,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use qtasks::{CallOptions, Count, Last, Task, prelude::*};
use qtasks_tests::{Diary, Stage, in_time, on_every_store};
use serde::{Deserialize, Serialize};

on_every_store![
    arguments_replies_and_results_are_read_back_as_they_were,
    what_a_worker_that_is_lost_half_way_has_recorded_is_read_back_as_it_was,
    a_body_that_feeds_replies_into_its_values_does_not_diverge,
    here_and_on_a_worker_a_value_without_a_form_of_its_own_is_the_same,
    a_number_that_is_not_finite_fails_where_it_is_encoded,
    an_option_that_is_missing_in_the_stored_arguments_is_none,
];

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Point(i64, i64);

type Maybe = Option<Point>;

/// Stored as seconds.
mod seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(time: &Wait, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(time.0.as_secs())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Wait, D::Error> {
        u64::deserialize(deserializer).map(|seconds| Wait(Duration::from_secs(seconds)))
    }

    /// It has no serde form of its own.
    #[derive(Debug)]
    pub(super) struct Wait(pub(super) Duration);
}

#[qtask]
async fn optional(
    point: Option<Point>,
    alias: Maybe,
    plain: Option<i64>,
    #[serde(default)] points: Vec<Point>,
    #[serde(with = "seconds")] wait: seconds::Wait,
    needed: Point,
) -> String {
    format!("{point:?} {alias:?} {plain:?} {points:?} {wait:?} {needed:?}")
}

async fn an_option_that_is_missing_in_the_stored_arguments_is_none(stage: Stage) {
    let stored = serde_json::json!({ "needed": [1, 2], "wait": 3 });
    let job = stage.app.enqueue_json("optional", &stored).await.unwrap();
    stage.work().await;
    assert_eq!(in_time(job.result()).await.unwrap(), "None None None [] Wait(3s) Point(1, 2)");
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Value {
    Float(f64),
    Single(f32),
    Large(u64),
    Huge(i128),
    Text(String),
    Maybe(Option<Box<Value>>),
    Many(Vec<Value>),
    Named(BTreeMap<String, Value>),
    Pair { first: Box<Value>, second: (f64, f32) },
    Nothing,
}

fn finite() -> impl Strategy<Value = f64> {
    f64::NORMAL | f64::SUBNORMAL | f64::ZERO | f64::NEGATIVE
}

fn value() -> impl Strategy<Value = Value> {
    let single = f32::NORMAL | f32::SUBNORMAL | f32::ZERO | f32::NEGATIVE;
    let leaf = prop_oneof![
        4 => finite().prop_filter("finite", |number| number.is_finite()).prop_map(Value::Float),
        2 => single.prop_filter("finite", |number| number.is_finite()).prop_map(Value::Single),
        1 => any::<u64>().prop_map(Value::Large),
        1 => any::<i128>().prop_map(Value::Huge),
        1 => any::<String>().prop_map(Value::Text),
        1 => Just(Value::Nothing),
    ];
    leaf.prop_recursive(4, 24, 5, |inner| {
        prop_oneof![
            option::of(inner.clone()).prop_map(|value| Value::Maybe(value.map(Box::new))),
            vec(inner.clone(), 0..5).prop_map(Value::Many),
            btree_map(any::<String>(), inner.clone(), 0..4).prop_map(Value::Named),
            (inner, finite(), any::<i16>()).prop_filter("finite", |(_, number, _)| number.is_finite()).prop_map(
                |(value, number, small)| Value::Pair {
                    first: Box::new(value),
                    second: (number, f32::from(small) / 3.0)
                }
            ),
        ]
    })
}

/// Always the same values.
fn values(count: usize) -> Vec<Value> {
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let strategy = value();
    (0..count).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect()
}

fn same(value: Value) -> Value {
    value
}

/// Fails half way the first time, and compares what it gets with what it yields.
#[qtask(generate_handler = same, retry = 1, backoff = "1ms..1ms", echo = true)]
async fn echoes(ctx: TaskContext, values: Vec<Value>) -> Result<Vec<Value>, String> {
    let half = values.len() / 2;
    for (place, value) in values.into_iter().enumerate() {
        let reply = yield_!(value.clone());
        if reply != value {
            return Err(format!("{value:?} came back as {reply:?}"));
        }
        if place == half && ctx.attempt() == 1 {
            return Err("half way".to_owned());
        }
    }
    Ok(())
}

#[qtask(echo = true)]
async fn remembers(ctx: TaskContext, value: Value) -> Value {
    ctx.once("value", || async { value }).await
}

async fn arguments_replies_and_results_are_read_back_as_they_were(stage: Stage) {
    let worker = stage.app.worker().start().await.unwrap();
    for some in values(120).chunks(8) {
        let job = stage.app.enqueue(echoes(some.to_vec())).await.unwrap();
        assert_eq!(in_time(job.result()).await.unwrap(), some);
        let status = job.status().await.unwrap();
        assert_eq!((status.attempt, status.failures), (2, 0));
    }
    for value in values(20) {
        let job = stage.app.enqueue(remembers(value.clone())).await.unwrap();
        assert_eq!(in_time(job.result()).await.unwrap(), value);
        assert_eq!(stage.app.run(remembers(value.clone())).await.unwrap(), value);
    }
    worker.shutdown().await.unwrap();
}

/// Changes a value into another one of the same kind.
fn turns(value: Value) -> Value {
    match value {
        Value::Float(number) => Value::Float(-number / 3.0),
        Value::Single(number) => Value::Single(-number / 3.0),
        Value::Large(number) => Value::Large(!number),
        Value::Huge(number) => Value::Huge(!number),
        Value::Text(text) => Value::Text(text.chars().rev().collect()),
        Value::Maybe(value) => Value::Maybe(value.map(|value| Box::new(turns(*value)))),
        Value::Many(values) => Value::Many(values.into_iter().rev().map(turns).collect()),
        Value::Named(values) => {
            Value::Named(values.into_iter().map(|(name, value)| (name + "'", turns(value))).collect())
        }
        Value::Pair { first, second: (one, other) } => {
            Value::Pair { first: Box::new(turns(*first)), second: (one / 7.0, other) }
        }
        Value::Nothing => Value::Maybe(None),
    }
}

/// What it yields depends on all replies, and on all that it did once, before. Stands still half way at the first time.
#[qtask(generate_handler = turns, echo = true, checkpoint = "within 1m")]
async fn turns_over_and_over(ctx: TaskContext, values: Vec<Value>, diary: State<Diary>) -> Vec<Value> {
    let half = values.len() / 2;
    let mut last = Value::Nothing;
    for (place, value) in values.into_iter().enumerate() {
        let kept = ctx.once("kept", || async { Value::Many(vec![value.clone(), last.clone()]) }).await;
        last = yield_!(kept);
        if place == half && is_to_be_lost(&ctx, &diary) {
            diary.note("half way");
            std::future::pending::<()>().await;
        }
    }
    yield_!(Value::Many(vec![last]));
}

#[qtask(generate_handler = turns, echo = true, checkpoint = "each")]
fn turns_over_and_over_on_a_thread(ctx: TaskContext, values: Vec<Value>, diary: State<Diary>) -> Last<Value> {
    let half = values.len() / 2;
    let mut last = Value::Nothing;
    for (place, value) in values.into_iter().enumerate() {
        let kept = ctx.once_blocking("kept", || Value::Many(vec![value.clone(), last.clone()]));
        last = yield_!(kept);
        if place == half && is_to_be_lost(&ctx, &diary) {
            diary.note("half way");
            loop {
                std::thread::park();
            }
        }
    }
    yield_!(Value::Many(vec![last]));
}

#[qtask(echo = true)]
async fn keeps_one_and_returns_it(ctx: TaskContext, value: Value, diary: State<Diary>) -> (Value, Value) {
    let kept = ctx.once("kept", || async { turns(value.clone()) }).await;
    if is_to_be_lost(&ctx, &diary) {
        diary.note("half way");
        std::future::pending::<()>().await;
    }
    (value, kept)
}

/// Whether the worker is lost at this place: at the first time, and not here and now.
fn is_to_be_lost(ctx: &TaskContext, diary: &Diary) -> bool {
    ctx.attempt() == 1 && diary.count("a worker is to be lost") == 1
}

/// Enqueues calls, loses their worker when all of them are half way, and lets them go on in another one.
async fn lost_half_way<C: CallOptions>(stage: &Stage, calls: Vec<C>) -> Vec<JobHandle<<C::Task as Task>::Output>> {
    let (count, runtime) =
        (calls.len(), tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap());
    stage.diary.note("a worker is to be lost");
    let neighbour = stage.neighbour().await;
    let worker =
        runtime.spawn(async move { neighbour.worker().concurrency(count).start().await.unwrap() }).await.unwrap();
    let jobs = stage.app.enqueue_all(calls).await.unwrap();
    stage.diary.until_times("half way", count).await;
    // Nothing of it goes on, and nobody is told.
    runtime.shutdown_background();
    thread::spawn(move || drop(worker)).join().unwrap();
    stage.diary.clear();
    jobs
}

async fn what_a_worker_that_is_lost_half_way_has_recorded_is_read_back_as_it_was(stage: Stage) {
    let all: Vec<Vec<Value>> = values(120).chunks(8).map(<[Value]>::to_vec).collect();
    let polled = lost_half_way(&stage, all.iter().cloned().map(turns_over_and_over).collect()).await;
    let called =
        lost_half_way(&stage, all.iter().take(3).cloned().map(turns_over_and_over_on_a_thread).collect()).await;
    let plain = lost_half_way(&stage, values(20).into_iter().map(keeps_one_and_returns_it).collect()).await;
    let worker = stage.app.worker().start().await.unwrap();
    for (job, some) in polled.iter().zip(&all) {
        let undisturbed = stage.app.run(turns_over_and_over(some.clone())).await.unwrap();
        assert_eq!(in_time(job.result()).await.unwrap(), undisturbed);
        assert_eq!(in_time(job.stream().map(Result::unwrap).collect::<Vec<_>>()).await, undisturbed);
        let status = job.status().await.unwrap();
        assert!(status.attempt >= 2 && status.failures == 0 && status.steps == some.len() as u64 + 1, "{status:?}");
    }
    for (job, some) in called.iter().zip(&all) {
        let undisturbed = stage.app.run(turns_over_and_over_on_a_thread(some.clone())).await.unwrap();
        assert_eq!(in_time(job.result()).await.unwrap(), undisturbed);
        assert_eq!(in_time(job.stream().map(Result::unwrap).collect::<Vec<_>>()).await.pop(), undisturbed.0);
    }
    for (job, value) in plain.iter().zip(values(20)) {
        let undisturbed = stage.app.run(keeps_one_and_returns_it(value)).await.unwrap();
        assert_eq!(in_time(job.result()).await.unwrap(), undisturbed);
    }
    worker.shutdown().await.unwrap();
}

fn grows(balance: f64) -> f64 {
    balance * 1.07
}

/// What it yields depends on all replies before.
#[qtask(generate_handler = grows, retry = 9, backoff = "1ms..1ms", echo = true)]
async fn saves(ctx: TaskContext, start: f64) -> Result<Vec<f64>, String> {
    let mut balance = start;
    for year in 1..=40 {
        balance = yield_!(balance);
        if year % 10 == 0 && u32::try_from(year / 10).is_ok_and(|decade| decade == ctx.attempt()) {
            return Err("this decade is over".to_owned());
        }
    }
    Ok(())
}

async fn a_body_that_feeds_replies_into_its_values_does_not_diverge(stage: Stage) {
    let worker = stage.app.worker().start().await.unwrap();
    for start in [1.0, 0.1, 1.577_777_777_777_000_1, 123.456, 1e-300] {
        let mut balance: f64 = start;
        let expected: Vec<f64> = std::iter::repeat_with(|| {
            balance *= 1.07;
            balance
        })
        .take(40)
        .collect();
        let job = stage.app.enqueue(saves(start)).await.unwrap();
        assert_eq!(in_time(job.result()).await.unwrap(), expected, "from {start}");
        assert_eq!(job.status().await.unwrap().attempt, 5);
    }
    worker.shutdown().await.unwrap();
}

/// Of these JSON keeps only one level.
type Doubtful = Option<Option<u32>>;

fn doubts(value: u32) -> Doubtful {
    [None, Some(None), Some(Some(7))][value as usize]
}

#[qtask(generate_handler = doubts)]
async fn doubts_all() -> Vec<Doubtful> {
    for value in 0..3 {
        let reply = yield_!(value);
        assert_ne!(reply, Some(None), "a record cannot give this back");
    }
}

#[qtask(generate_handler = doubts)]
async fn doubts_last() -> Last<Doubtful> {
    yield_!(1);
}

fn nothing(_value: u32) {}

#[qtask(generate_handler = nothing)]
async fn lasts() -> Last<()> {
    yield_!(1);
}

#[qtask(echo = true)]
async fn doubts_once(ctx: TaskContext, given: Doubtful) -> (Doubtful, Doubtful) {
    (given, ctx.once("doubt", || async { Some(None) }).await)
}

async fn here_and_on_a_worker_a_value_without_a_form_of_its_own_is_the_same(stage: Stage) {
    let app = &stage.app;
    let worker = app.worker().start().await.unwrap();
    let all = app.enqueue(doubts_all()).await.unwrap();
    assert_eq!(in_time(all.result()).await.unwrap(), [None, None, Some(Some(7))]);
    assert_eq!(app.run(doubts_all()).await.unwrap(), [None, None, Some(Some(7))]);
    let last = app.enqueue(doubts_last()).await.unwrap();
    assert_eq!(in_time(last.result()).await.unwrap(), app.run(doubts_last()).await.unwrap());
    let nothing = app.enqueue(lasts()).await.unwrap();
    assert_eq!(in_time(nothing.result()).await.unwrap(), app.run(lasts()).await.unwrap());
    let once = app.enqueue(doubts_once(Some(None))).await.unwrap();
    assert_eq!(in_time(once.result()).await.unwrap(), (None, None));
    assert_eq!(app.run(doubts_once(Some(None))).await.unwrap(), (None, None));
    worker.shutdown().await.unwrap();
}

fn divides(value: f64) -> f64 {
    1.0 / value
}

#[qtask(generate_handler = divides, retry = 0)]
async fn inverses(values: Vec<f64>) -> Vec<f64> {
    for value in values {
        yield_!(value);
    }
}

#[qtask(generate_handler = divides, retry = 0)]
async fn counts_inverses(values: Vec<f64>) -> Count {
    for value in values {
        yield_!(value);
    }
}

#[qtask(retry = 0)]
async fn root(value: f64) -> Option<f64> {
    Some(value.sqrt())
}

async fn a_number_that_is_not_finite_fails_where_it_is_encoded(stage: Stage) {
    let app = &stage.app;
    let worker = app.worker().start().await.unwrap();
    let job = app.enqueue(inverses(vec![4.0, 0.0])).await.unwrap();
    let error = in_time(job.result()).await.unwrap_err().to_string();
    let said = "the handler's reply cannot be encoded as JSON: the number inf has no form in JSON; it is not finite";
    assert!(error.ends_with(said), "{error}");
    assert_eq!(job.status().await.unwrap().steps, 1, "what was handled before is recorded");
    let here = app.run(inverses(vec![4.0, 0.0])).await.unwrap_err().to_string();
    assert!(here.ends_with(said), "{here}");
    let job = app.enqueue(root(-1.0)).await.unwrap();
    let error = in_time(job.result()).await.unwrap_err().to_string();
    assert!(error.contains("the number NaN has no form in JSON"), "{error}");
    assert!(app.run(root(-1.0)).await.is_err());
    let refused = app.enqueue(root(f64::NAN)).await.unwrap_err();
    assert!(qtasks_tests::whole(&refused).contains("the number NaN has no form in JSON"), "{refused}");
    // Here and now no reply is kept that is only counted.
    assert_eq!(app.run(counts_inverses(vec![0.0])).await.unwrap(), Count(1));
    worker.shutdown().await.unwrap();
}
