//! What an error does: which tries follow, what is kept, what the result says.

use std::time::Duration;

use qtasks::{
    Clock, JobHandle, Status,
    job::{Ending, State as JobState},
    prelude::*,
};
use qtasks_tests::{Diary, Stage, eventually, in_time, on_every_store};

on_every_store![
    a_failed_job_is_dead_after_its_tries_with_the_whole_error,
    a_retry_goes_on_at_the_value_that_failed,
    a_retry_gives_the_body_the_recorded_replies,
    an_error_that_retry_on_refuses_ends_the_job_at_once,
    arguments_that_cannot_be_decoded_are_told_with_their_path,
];

pub(super) fn endings(status: &Status) -> Vec<&Ending> {
    status.attempts.iter().map(|attempt| &attempt.ending).collect()
}

/// The text of the error that the job ends with, after a worker did what it could.
pub(super) async fn end<C: serde::de::DeserializeOwned + std::fmt::Debug>(stage: &Stage, job: &JobHandle<C>) -> String {
    let worker = stage.app.worker().start().await.unwrap();
    let error = in_time(job.result()).await.unwrap_err();
    worker.shutdown().await.unwrap();
    error.to_string()
}

#[derive(Debug, thiserror::Error)]
#[error("the import failed")]
struct ImportError(#[source] std::num::ParseIntError);

#[qtask(retry = 2, backoff = "1ms..1ms")]
async fn fails_always(diary: State<Diary>) -> Result<i64, ImportError> {
    diary.note("try");
    "x".parse().map_err(ImportError)
}

async fn a_failed_job_is_dead_after_its_tries_with_the_whole_error(stage: Stage) {
    let job = stage.app.enqueue(fails_always()).await.unwrap();
    let error = end(&stage, &job).await;
    assert_eq!(error, format!("job {} is dead: the import failed: invalid digit found in string", job.id()));
    assert_eq!(stage.diary.count("try"), 3, "retry = 2 makes 3 tries");
    let status = job.status().await.unwrap();
    assert_eq!((status.attempt, status.failures), (3, 3));
    let numbers: Vec<_> = status.attempts.iter().map(|attempt| attempt.number).collect();
    assert_eq!(numbers, [1, 2, 3]);
    let failed = Ending::Failed { error: "the import failed: invalid digit found in string".into() };
    assert_eq!(endings(&status), [&failed; 3]);
    assert!(status.attempts.iter().all(|attempt| attempt.started.is_some_and(|started| started <= attempt.ended)));
}

#[qtask]
async fn fails_by_default(diary: State<Diary>) -> Result<(), String> {
    diary.note("try");
    Err("no".to_owned())
}

#[tokio::test(start_paused = true)]
async fn by_default_there_are_four_tries_with_growing_waits_between() {
    let stage = Stage::in_memory(|builder| builder.clock(Clock::tokio())).await;
    let job = stage.app.enqueue(fails_by_default()).await.unwrap();
    let worker = stage.app.worker().start().await.unwrap();
    let start = tokio::time::Instant::now();
    job.result().await.unwrap_err();
    assert!(start.elapsed() <= Duration::from_millis(1000 + 2000 + 4000 + 10), "{:?}", start.elapsed());
    assert_eq!(stage.diary.count("try"), 4);
    worker.shutdown().await.unwrap();
}

#[qtask(backoff = "1ms..1ms", retry = 5)]
async fn fails_at(values: i64, failing: i64, co: Co<i64, i64>, diary: State<Diary>) -> Result<Vec<i64>, String> {
    for value in 0..values {
        co.emit(value).await;
        if value == failing && TaskContext::current().attempt() < 3 {
            diary.note("fail");
            return Err(format!("failed after {value}"));
        }
    }
    Ok(())
}

async fn fails_in_handler(value: i64, ctx: TaskContext, diary: State<Diary>) -> Result<i64, String> {
    diary.note(format!("handle {value} in {}", ctx.attempt()));
    if value == 3 && ctx.attempt() < 3 { Err(format!("{value} failed")) } else { Ok(value * 10) }
}

#[qtask(generate_handler = fails_in_handler, backoff = "1ms..1ms")]
async fn goes_on(n: i64) -> Vec<i64> {
    for value in 0..n {
        yield_!(value);
    }
}

#[qtask(generate_handler = fails_in_handler, backoff = "1ms..1ms")]
fn goes_on_too(n: i64) -> Vec<i64> {
    for value in 0..n {
        yield_!(value);
    }
}

async fn a_retry_goes_on_at_the_value_that_failed(stage: Stage) {
    let worker = stage.app.worker().start().await.unwrap();
    for job in [stage.app.enqueue(goes_on(6)).await.unwrap(), stage.app.enqueue(goes_on_too(6)).await.unwrap()] {
        let streamed: Vec<_> = in_time(job.stream().map(Result::unwrap).collect()).await;
        assert_eq!(streamed, [0, 10, 20, 30, 40, 50]);
        assert_eq!(job.result().await.unwrap(), streamed);
        let status = job.status().await.unwrap();
        assert_eq!((status.attempt, status.steps, status.failures), (3, 6, 0));
    }
    let times = |line: &str| stage.diary.count(line);
    assert_eq!((times("handle 0 in 1"), times("handle 2 in 1"), times("handle 3 in 1")), (2, 2, 2));
    assert_eq!((times("handle 2 in 2"), times("handle 3 in 2"), times("handle 4 in 2")), (0, 2, 0));
    assert_eq!((times("handle 2 in 3"), times("handle 3 in 3"), times("handle 5 in 3")), (0, 2, 2));
    let other = stage.app.enqueue(fails_at(5, 2)).await.unwrap();
    assert_eq!(in_time(other.result()).await.unwrap(), [0, 1, 2, 3, 4], "an error of the body");
    worker.shutdown().await.unwrap();
}

async fn counts_up(value: i64, ctx: TaskContext) -> Result<i64, String> {
    if value > 4 && ctx.attempt() == 1 { Err("once".to_owned()) } else { Ok(value * 2) }
}

#[qtask(generate_handler = counts_up, backoff = "1ms..1ms")]
async fn builds_on_replies() -> Vec<i64> {
    let mut value = 1;
    while value < 50 {
        value = yield_!(value);
    }
}

async fn a_retry_gives_the_body_the_recorded_replies(stage: Stage) {
    let job = stage.app.enqueue(builds_on_replies()).await.unwrap();
    let worker = stage.app.worker().start().await.unwrap();
    assert_eq!(in_time(job.result()).await.unwrap(), [2, 4, 8, 16, 32, 64]);
    assert_eq!(job.status().await.unwrap().attempt, 2);
    worker.shutdown().await.unwrap();
}

fn is_transient(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::TimedOut
}

#[qtask(retry = 1, backoff = "1ms..1ms", retry_on = is_transient)]
async fn meets(kind: String) -> Result<(), std::io::Error> {
    Err(if kind == "timeout" { std::io::ErrorKind::TimedOut } else { std::io::ErrorKind::NotFound }.into())
}

#[qtask(retry = 1, backoff = "1ms..1ms", retry_on = is_transient)]
fn meets_after_a_yield(kind: String) -> Result<Vec<i64>, std::io::Error> {
    if kind != "timeout" {
        yield_!(1);
    }
    Err(if kind == "timeout" { std::io::ErrorKind::TimedOut } else { std::io::ErrorKind::NotFound }.into())
}

async fn an_error_that_retry_on_refuses_ends_the_job_at_once(stage: Stage) {
    let transient = stage.app.enqueue(meets("timeout".into())).await.unwrap();
    let lasting = stage.app.enqueue(meets("missing".into())).await.unwrap();
    let transient_too = stage.app.enqueue(meets_after_a_yield("timeout".into())).await.unwrap();
    let lasting_too = stage.app.enqueue(meets_after_a_yield("missing".into())).await.unwrap();
    let worker = stage.app.worker().start().await.unwrap();
    for job in [transient, lasting] {
        in_time(job.result()).await.unwrap_err();
        let status = job.status().await.unwrap();
        let JobState::Dead { error } = status.state else { panic!("{:?}", status.state) };
        assert_eq!(status.attempt, if error == "timed out" { 2 } else { 1 });
    }
    for (job, tries) in [(transient_too, 2), (lasting_too, 1)] {
        in_time(job.result()).await.unwrap_err();
        assert_eq!(job.status().await.unwrap().attempt, tries);
    }
    worker.shutdown().await.unwrap();
}

pub(super) fn notes(value: i64, diary: State<Diary>) -> i64 {
    diary.note(format!("handle {value}"));
    value
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Address {
    street: String,
}

#[qtask(retry = 1, backoff = "1ms..1ms")]
async fn writes_to(address: Address) -> String {
    address.street
}

async fn arguments_that_cannot_be_decoded_are_told_with_their_path(stage: Stage) {
    let args = serde_json::json!({ "address": { "street": 5 } });
    let job = stage.app.enqueue_json("writes_to", &args).await.unwrap();
    let error = end(&stage, &job).await;
    assert!(
        error.contains(
            "the stored arguments cannot be read as `writes_to`: address.street: invalid type: integer, expected"
        ),
        "{error}"
    );
    assert_eq!(job.status().await.unwrap().attempt, 2, "it was tried again: another worker may know another form");
}

#[qtask(backoff = "1ms..1ms", retry = 2, generate_handler = notes)]
async fn always_gets_one_further(co: Co<i64, i64>) -> Result<Vec<i64>, String> {
    let until = i64::from(TaskContext::current().attempt());
    for value in 0..12 {
        if value == until {
            return Err("a little each time".to_owned());
        }
        co.emit(value).await;
    }
    Ok(())
}

#[tokio::test]
async fn a_new_step_forgives_earlier_failures() {
    let stage = Stage::in_memory(|builder| builder).await;
    let job = stage.app.enqueue(always_gets_one_further()).await.unwrap();
    let worker = stage.app.worker().start().await.unwrap();
    assert_eq!(in_time(job.result()).await.unwrap(), (0..12).collect::<Vec<_>>());
    eventually("the last attempt", async || job.status().await.unwrap().attempts.len() == 12).await;
    worker.shutdown().await.unwrap();
}
