//! `yield_!` and `Co`, at every place where they may stand.

use futures::FutureExt as _;
use qtasks::prelude::*;
use qtasks_tests::{Diary, Stage, on_every_store};

on_every_store![
    a_yield_as_an_expression_gives_the_handlers_reply,
    a_reply_is_durable_when_it_is_given,
    return_ends_the_values_early,
    helpers_yield_through_a_co,
    a_handler_of_references_takes_values_that_live_for_ever,
    two_yields_at_once_end_the_attempt_with_an_error_that_says_so,
    a_yield_that_is_given_up_ends_the_attempt_with_an_error_that_says_so,
];

async fn shout(word: &str, diary: State<Diary>) -> String {
    diary.note(word);
    word.to_uppercase()
}

fn length(word: &str) -> Result<usize, String> {
    Ok(word.len())
}

#[qtask(generate_handler = shout)]
async fn shouts() -> Vec<String> {
    yield_!("one");
    yield_!("two");
}

#[qtask(generate_handler = length)]
fn lengths() -> qtasks::Count {
    yield_!("three");
}

async fn a_handler_of_references_takes_values_that_live_for_ever(stage: Stage) {
    assert_eq!(stage.app.run(shouts()).await.unwrap(), ["ONE", "TWO"]);
    assert_eq!(stage.diary.lines(), ["one", "two"]);
    assert_eq!(stage.app.run(lengths()).await.unwrap(), 1);
}

async fn ten_times(value: i64) -> i64 {
    value * 10
}

#[qtask(generate_handler = ten_times)]
#[allow(clippy::useless_vec)]
async fn uses_replies() -> Vec<i64> {
    let first = yield_!(1);
    let second: i64 = yield_!(first + 1);
    if yield_!(second) > 1000 {
        println!("{}", yield_!(7));
    }
    match yield_!(0) {
        0 => yield_!(8),
        other => yield_!(other),
    };
    #[allow(clippy::useless_vec)] // A macro of others around `yield_!` is what is tried here.
    let both = vec![yield_!(100), yield_!(200)];
    yield_!(both.iter().sum());
}

#[qtask(generate_handler = ten_times)]
fn uses_replies_blocking() -> Vec<i64> {
    let mut value = 1;
    while value < 1000 {
        value = yield_!(value);
    }
}

async fn a_yield_as_an_expression_gives_the_handlers_reply(stage: Stage) {
    let job = stage.app.enqueue(uses_replies()).await.unwrap();
    let blocking = stage.app.enqueue(uses_replies_blocking()).await.unwrap();
    stage.work().await;
    let expected = [10, 110, 1100, 70, 0, 80, 1000, 2000, 30_000];
    assert_eq!(job.result().await.unwrap(), expected);
    assert_eq!(stage.app.run(uses_replies()).await.unwrap(), expected);
    assert_eq!(blocking.result().await.unwrap(), [10, 100, 1000]);
    assert_eq!(stage.app.run(uses_replies_blocking()).await.unwrap(), [10, 100, 1000]);
}

#[qtask(generate_handler = ten_times, echo = true)]
async fn tells_when_it_was_answered(ctx: TaskContext, diary: State<Diary>) -> Vec<i64> {
    let reply = yield_!(1);
    diary.note(format!("answered {reply} in {}", ctx.job_id()));
    diary.told("go on").await;
}

async fn a_reply_is_durable_when_it_is_given(stage: Stage) {
    let worker = stage.app.worker().start().await.unwrap();
    let job = stage.app.enqueue(tells_when_it_was_answered()).await.unwrap();
    stage.diary.until(&format!("answered 10 in {}", job.id())).await;
    assert_eq!(job.status().await.unwrap().steps, 1);
    stage.diary.note("go on");
    assert_eq!(job.result().await.unwrap(), [10]);
    worker.shutdown().await.unwrap();
}

#[qtask(generate_handler = ten_times)]
async fn returns_early(n: i64) -> Vec<i64> {
    for i in 0.. {
        if i == n {
            return;
        }
        yield_!(i);
    }
}

#[qtask]
fn returns_early_well(n: i64) -> Result<Vec<i64>, String> {
    for i in 0.. {
        if i == n {
            return Ok(());
        }
        yield_!(i);
    }
    Err("not reached".to_owned())
}

async fn return_ends_the_values_early(stage: Stage) {
    let job = stage.app.enqueue(returns_early(2)).await.unwrap();
    let well = stage.app.enqueue(returns_early_well(2)).await.unwrap();
    stage.work().await;
    assert_eq!(job.result().await.unwrap(), [0, 10]);
    assert_eq!(well.result().await.unwrap(), [0, 1]);
}

#[qtask(generate_handler = ten_times)]
async fn walks(depth: i64, co: Co<i64, i64>) -> Vec<i64> {
    yield_!(-1);
    let leaves = walk(depth, &co).await;
    yield_!(leaves);
}

async fn walk(depth: i64, co: &Co<i64, i64>) -> i64 {
    if depth == 0 {
        return co.yield_(1).await;
    }
    co.emit(depth).await;
    Box::pin(walk(depth - 1, co)).await + Box::pin(walk(depth - 1, co)).await
}

async fn helpers_yield_through_a_co(stage: Stage) {
    let job = stage.app.enqueue(walks(2)).await.unwrap();
    stage.work().await;
    let expected = [-10, 20, 10, 10, 10, 10, 10, 10, 400];
    assert_eq!(job.result().await.unwrap(), expected);
    assert_eq!(stage.app.run(walks(2)).await.unwrap(), expected);
}

#[qtask(retry = 0)]
async fn yields_twice_at_once(co: Co<i64, i64>) -> Vec<i64> {
    co.emit(0).await;
    tokio::join!(co.yield_(1), co.yield_(2));
}

#[qtask(retry = 0)]
async fn gives_up_a_yield(co: Co<i64, i64>) -> Vec<i64> {
    co.emit(0).await;
    let _ = co.yield_(1).now_or_never();
    co.emit(2).await;
}

#[qtask(retry = 0)]
async fn gives_up_its_last_yield(co: Co<i64, i64>) -> Vec<i64> {
    tokio::select! {
        biased;
        _ = co.yield_(1) => {}
        () = std::future::ready(()) => {}
    }
}

async fn two_yields_at_once_end_the_attempt_with_an_error_that_says_so(stage: Stage) {
    let job = stage.app.enqueue(yields_twice_at_once()).await.unwrap();
    stage.work().await;
    let error = job.result().await.unwrap_err().to_string();
    assert!(error.contains("a second value was yielded before the first was answered"), "{error}");
    assert_eq!(job.status().await.unwrap().steps, 1, "what was handled before is kept");
    let error = stage.app.run(yields_twice_at_once()).await.unwrap_err().to_string();
    assert!(error.contains("`yields_twice_at_once` failed: a second value was yielded"), "{error}");
}

async fn a_yield_that_is_given_up_ends_the_attempt_with_an_error_that_says_so(stage: Stage) {
    let job = stage.app.enqueue(gives_up_a_yield()).await.unwrap();
    let last = stage.app.enqueue(gives_up_its_last_yield()).await.unwrap();
    stage.work().await;
    for error in [job.result().await.unwrap_err(), last.result().await.unwrap_err()] {
        assert!(error.to_string().contains("a yield was dropped before it was answered"), "{error}");
    }
}
