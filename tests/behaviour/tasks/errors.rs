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
    a_cancelling_error_cancels_the_job_wherever_it_stands,
    a_discarding_error_ends_the_job_without_further_tries,
    a_snooze_is_no_failure,
    a_job_that_snoozes_for_long_shows_its_first_and_its_last_attempts,
    a_skipped_value_is_an_error_in_the_stream_and_missing_in_the_result,
    a_skipped_value_is_not_handled_again,
    a_status_names_the_job_counts_what_was_skipped_and_has_a_json_form,
    a_body_under_skip_sees_the_error,
    a_panic_is_an_error_of_that_job_only,
    arguments_whose_decoding_panics_are_an_error_of_that_job_only,
    max_time_stops_an_async_body_and_its_drop_code_runs,
    max_time_settles_a_fn_body_that_cannot_be_stopped,
    a_call_has_a_max_time_of_its_own,
    arguments_that_cannot_be_decoded_are_told_with_their_path,
    a_body_that_yields_something_else_diverges_before_any_handler_runs,
    a_body_that_ends_before_its_record_diverges,
];

fn endings(status: &Status) -> Vec<&Ending> {
    status.attempts.iter().map(|attempt| &attempt.ending).collect()
}

/// The text of the error that the job ends with, after a worker did what it could.
async fn end<C: serde::de::DeserializeOwned + std::fmt::Debug>(stage: &Stage, job: &JobHandle<C>) -> String {
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

#[qtask]
async fn directs(error: String) -> anyhow::Result<()> {
    directive(&error)?;
    Ok(())
}

fn directive(word: &str) -> anyhow::Result<i64> {
    use anyhow::Context as _;
    match word {
        "cancel" => Err(TaskError::cancel("nobody wants it"))?,
        "cancel in context" => Err(TaskError::cancel("nobody wants it")).context("looked").context("asked"),
        "discard" => Err(TaskError::discard("hopeless"))?,
        "discard in context" => Err(TaskError::discard("hopeless")).context("looked"),
        _ => Ok(1),
    }
}

fn directs_handling(word: String) -> anyhow::Result<i64> {
    directive(&word)
}

#[qtask(generate_handler = directs_handling)]
async fn directs_from_its_handler(words: Vec<String>) -> Vec<i64> {
    for word in words {
        yield_!(word);
    }
}

#[qtask(generate_handler = directs_handling, on_error = "skip")]
fn directs_from_its_handler_that_skips(words: Vec<String>) -> Vec<i64> {
    for word in words {
        yield_!(word);
    }
}

async fn directed(stage: &Stage, word: &str) -> Vec<Status> {
    let app = &stage.app;
    let words = || vec!["go".to_owned(), word.to_owned(), "not reached".to_owned()];
    let ids = [
        app.enqueue(directs(word.to_owned())).await.unwrap().id(),
        app.enqueue(directs_from_its_handler(words())).await.unwrap().id(),
        app.enqueue(directs_from_its_handler_that_skips(words())).await.unwrap().id(),
    ];
    stage.work().await;
    let mut all = Vec::new();
    for id in ids {
        all.push(app.any_job(id).await.unwrap().status().await.unwrap());
    }
    assert_eq!(all.iter().map(|status| status.steps).collect::<Vec<_>>(), [0, 1, 1], "{word}");
    all
}

async fn a_cancelling_error_cancels_the_job_wherever_it_stands(stage: Stage) {
    for word in ["cancel", "cancel in context"] {
        for status in directed(&stage, word).await {
            assert_eq!(status.state, JobState::Cancelled { reason: "nobody wants it".into() }, "{word}");
            assert_eq!((status.attempt, status.failures), (1, 0));
            assert_eq!(endings(&status), [&Ending::Cancelled { reason: "nobody wants it".into() }]);
        }
    }
}

async fn a_discarding_error_ends_the_job_without_further_tries(stage: Stage) {
    for word in ["discard", "discard in context"] {
        for status in directed(&stage, word).await {
            assert_eq!(status.state, JobState::Dead { error: "hopeless".into() }, "{word}");
            assert_eq!(status.attempt, 1);
            assert_eq!(endings(&status), [&Ending::Discarded { reason: "hopeless".into() }]);
        }
    }
}

#[qtask(echo = true, retry = 0)]
async fn snoozes(ctx: TaskContext, times: u32, wait: u64) -> Result<u32, TaskError> {
    if ctx.attempt() <= times { Err(TaskError::snooze(Duration::from_millis(wait))) } else { Ok(ctx.attempt()) }
}

async fn a_snooze_is_no_failure(stage: Stage) {
    let job = stage.app.enqueue(snoozes(3, 1)).await.unwrap();
    let worker = stage.app.worker().start().await.unwrap();
    assert_eq!(in_time(job.result()).await.unwrap(), 4);
    let status = job.status().await.unwrap();
    assert_eq!(status.failures, 0);
    assert_eq!(endings(&status), [&Ending::Snoozed, &Ending::Snoozed, &Ending::Snoozed, &Ending::Done]);
    worker.shutdown().await.unwrap();
}

#[qtask(echo = true, retry = 1)]
async fn asks_for_another_try(ctx: TaskContext, wait: u64) -> Result<u32, TaskError> {
    if ctx.attempt() == 1 { Err(TaskError::retry_after(Duration::from_secs(wait))) } else { Ok(ctx.attempt()) }
}

#[tokio::test(start_paused = true)]
async fn a_task_names_the_wait_before_its_next_try() {
    let stage = Stage::in_memory(|builder| builder.clock(Clock::tokio())).await;
    let worker = stage.app.worker().start().await.unwrap();
    let start = tokio::time::Instant::now();
    let retried = stage.app.enqueue(asks_for_another_try(3600)).await.unwrap();
    let snoozed = stage.app.enqueue(snoozes(1, 7_200_000)).await.unwrap();
    assert_eq!(retried.result().await.unwrap(), 2);
    assert_eq!(start.elapsed().as_secs(), 3600);
    assert_eq!(retried.status().await.unwrap().failures, 1);
    assert_eq!(snoozed.result().await.unwrap(), 2);
    assert_eq!(start.elapsed().as_secs(), 7200);
    worker.shutdown().await.unwrap();
}

fn odd_only(value: i64, diary: State<Diary>) -> Result<i64, String> {
    diary.note(format!("handle {value}"));
    if value % 2 == 1 { Ok(value) } else { Err(format!("{value} is even")) }
}

#[qtask(generate_handler = odd_only, on_error = "skip")]
async fn skips(n: i64) -> Vec<i64> {
    for value in 0..n {
        yield_!(value);
    }
}

#[qtask(generate_handler = odd_only, on_error = "skip")]
fn skips_and_counts(n: i64) -> qtasks::Count {
    for value in 0..n {
        yield_!(value);
    }
}

#[qtask(echo = true)]
async fn snoozes_until(ctx: TaskContext, last: u32) -> Result<(), TaskError> {
    if ctx.attempt() < last { Err(TaskError::snooze(Duration::ZERO)) } else { Ok(()) }
}

async fn a_job_that_snoozes_for_long_shows_its_first_and_its_last_attempts(stage: Stage) {
    let job = stage.app.enqueue(snoozes_until(150)).await.unwrap();
    let worker = stage.app.worker().start().await.unwrap();
    in_time(job.result()).await.unwrap();
    worker.shutdown().await.unwrap();
    let status = job.status().await.unwrap();
    assert_eq!((status.attempt, status.attempts_ended), (150, 150));
    let numbers: Vec<_> = status.attempts.iter().map(|attempt| attempt.number).collect();
    assert_eq!(numbers, (1..=10).chain(61..=150).collect::<Vec<_>>());
    assert_eq!((endings(&status)[0], endings(&status)[99]), (&Ending::Snoozed, &Ending::Done));
}

#[qtask(generate_handler = odd_only, on_error = "skip")]
fn skips_and_keeps_the_last(n: i64) -> qtasks::Last<i64> {
    for value in 0..n {
        yield_!(value);
    }
}

async fn a_skipped_value_is_an_error_in_the_stream_and_missing_in_the_result(stage: Stage) {
    let job = stage.app.enqueue(skips(5)).await.unwrap();
    let count = stage.app.enqueue(skips_and_counts(5)).await.unwrap();
    let last = stage.app.enqueue(skips_and_keeps_the_last(5)).await.unwrap();
    stage.work().await;
    let items: Vec<_> = in_time(job.stream().collect()).await;
    let read = |item: &qtasks::Result<i64>| match item {
        Ok(value) => Ok(*value),
        Err(error) => Err((error.is_skipped(), error.seq(), error.to_string())),
    };
    let skipped = |seq: u64| Err((true, Some(seq), format!("step {seq} was skipped: {seq} is even")));
    let items: Vec<_> = items.iter().map(read).collect();
    assert_eq!(items, [skipped(0), Ok(1), skipped(2), Ok(3), skipped(4)]);
    assert_eq!(job.result().await.unwrap(), [1, 3]);
    assert_eq!(count.result().await.unwrap(), 2);
    assert_eq!(last.result().await.unwrap().0, Some(3));
    assert_eq!(stage.app.run(skips(5)).await.unwrap(), [1, 3]);
    assert_eq!(stage.app.run(skips_and_counts(5)).await.unwrap(), 2);
}

async fn a_status_names_the_job_counts_what_was_skipped_and_has_a_json_form(stage: Stage) {
    let job = stage.app.enqueue(skips(3).queue("elsewhere")).await.unwrap();
    let before = job.status().await.unwrap();
    assert_eq!((before.task.as_str(), before.queue.as_str(), before.skipped), ("skips", "elsewhere", 0));
    stage.app.worker().queues(["elsewhere"]).run_until_idle().await.unwrap();
    let after = job.status().await.unwrap();
    assert_eq!((after.steps, after.skipped, after.enqueued), (3, 2, before.enqueued));
    let json = serde_json::to_value(&after).unwrap();
    assert_eq!([&json["task"], &json["queue"]], ["skips", "elsewhere"]);
    assert_eq!([&json["steps"], &json["skipped"]], [3, 2]);
    assert_eq!(json["enqueued"], after.enqueued.to_string());
    assert!(json.get("args").is_none(), "{json}");
}

#[qtask(generate_handler = odd_only, on_error = "skip", echo = true, backoff = "1ms..1ms")]
async fn skips_and_fails(ctx: TaskContext, n: i64) -> Result<Vec<i64>, String> {
    for value in 0..n {
        yield_!(value);
    }
    if ctx.attempt() == 1 { Err("once".to_owned()) } else { Ok(()) }
}

async fn a_skipped_value_is_not_handled_again(stage: Stage) {
    let job = stage.app.enqueue(skips_and_fails(4)).await.unwrap();
    let worker = stage.app.worker().start().await.unwrap();
    assert_eq!(in_time(job.result()).await.unwrap(), [1, 3]);
    assert_eq!(stage.diary.lines(), ["handle 0", "handle 1", "handle 2", "handle 3"]);
    worker.shutdown().await.unwrap();
}

#[qtask(generate_handler = odd_only, on_error = "skip", backoff = "1ms..1ms")]
async fn asks_what_was_skipped(co: Co<i64, qtasks::Result<i64>>, diary: State<Diary>) -> Result<Vec<i64>, String> {
    for value in 0..3 {
        match co.yield_(value).await {
            Ok(reply) => diary.note(format!("replied {reply}")),
            Err(error) => diary.note(format!("{error} ({:?})", error.seq())),
        }
    }
    if TaskContext::current().attempt() == 1 { Err("once".to_owned()) } else { Ok(()) }
}

async fn a_body_under_skip_sees_the_error(stage: Stage) {
    let job = stage.app.enqueue(asks_what_was_skipped()).await.unwrap();
    let worker = stage.app.worker().start().await.unwrap();
    assert_eq!(in_time(job.result()).await.unwrap(), [1]);
    for line in ["step 0 was skipped: 0 is even (Some(0))", "replied 1", "step 2 was skipped: 2 is even (Some(2))"] {
        assert_eq!(stage.diary.count(line), 2, "{line}, from the handler and from the record");
    }
    worker.shutdown().await.unwrap();
}

fn panics(value: i64) -> i64 {
    assert!(value < 1, "no more than 0, not {value}");
    value
}

async fn panics_later(value: i64) -> i64 {
    tokio::task::yield_now().await;
    panics(value)
}

#[qtask(retry = 0)]
async fn panics_in_body() {
    panic!("no more than 0, not 1");
}

#[qtask(retry = 0)]
fn panics_in_fn_body() -> Vec<i64> {
    yield_!(0);
    std::panic::panic_any(format!("no more than 0, not {}", 1));
}

#[qtask(retry = 0, generate_handler = panics)]
async fn panics_in_handler() -> Vec<i64> {
    yield_!(0);
    yield_!(1);
}

#[qtask(retry = 0, generate_handler = panics_later)]
fn panics_in_async_handler() -> Vec<i64> {
    yield_!(0);
    yield_!(1);
}

async fn a_panic_is_an_error_of_that_job_only(stage: Stage) {
    let app = &stage.app;
    let worker = app.worker().concurrency(1).start().await.unwrap();
    let ids = [
        (app.enqueue(panics_in_body()).await.unwrap().id(), 0),
        (app.enqueue(panics_in_fn_body()).await.unwrap().id(), 1),
        (app.enqueue(panics_in_handler()).await.unwrap().id(), 1),
        (app.enqueue(panics_in_async_handler()).await.unwrap().id(), 1),
    ];
    for (id, steps) in ids {
        let job = app.any_job(id).await.unwrap();
        let error = in_time(job.result()).await.unwrap_err().to_string();
        assert_eq!(error, format!("job {id} is dead: the task panicked: no more than 0, not 1"));
        assert_eq!(job.status().await.unwrap().steps, steps, "what was handled before is kept");
    }
    let after = app.enqueue(skips(2)).await.unwrap();
    assert_eq!(in_time(after.result()).await.unwrap(), [1], "the worker lives on");
    let error = app.run(panics_in_handler()).await.unwrap_err().to_string();
    assert_eq!(error, "the task `panics_in_handler` failed: the task panicked: no more than 0, not 1");
    worker.shutdown().await.unwrap();
}

#[derive(Debug, serde::Serialize)]
struct PanicsWhenRead;

impl<'de> serde::Deserialize<'de> for PanicsWhenRead {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        panic!("cannot be read");
    }
}

#[qtask(retry = 0)]
async fn takes_what_panics(_argument: PanicsWhenRead) {}

async fn arguments_whose_decoding_panics_are_an_error_of_that_job_only(stage: Stage) {
    let job = stage.app.enqueue(takes_what_panics(PanicsWhenRead)).await.unwrap();
    let error = end(&stage, &job).await;
    assert!(error.ends_with("is dead: the task panicked: cannot be read"), "{error}");
}

#[qtask(retry = 0, max_time = "50ms", echo = true)]
async fn never_ends(ctx: TaskContext, diary: State<Diary>) -> Vec<i64> {
    yield_!(1);
    let _guard = qtasks_tests::NotesDrop(diary.clone(), "dropped");
    diary.note(format!("runs {}", ctx.attempt()));
    std::future::pending::<()>().await;
}

async fn max_time_stops_an_async_body_and_its_drop_code_runs(stage: Stage) {
    let job = stage.app.enqueue(never_ends()).await.unwrap();
    let error = end(&stage, &job).await;
    assert!(error.ends_with("is dead: the attempt took longer than its max_time of 50ms"), "{error}");
    assert_eq!(stage.diary.lines(), ["runs 1", "dropped"]);
    assert_eq!(job.status().await.unwrap().steps, 1);
}

fn notes(value: i64, diary: State<Diary>) -> i64 {
    diary.note(format!("handle {value}"));
    value
}

#[qtask(retry = 0, max_time = "50ms", generate_handler = notes)]
fn outlives_its_time(diary: State<Diary>) -> Vec<i64> {
    let _guard = qtasks_tests::NotesDrop(diary.clone(), "dropped");
    yield_!(1);
    diary.until_blocking("settled");
    yield_!(2);
    diary.note("not reached");
}

async fn max_time_settles_a_fn_body_that_cannot_be_stopped(stage: Stage) {
    let job = stage.app.enqueue(outlives_its_time()).await.unwrap();
    let worker = stage.app.worker().concurrency(1).start().await.unwrap();
    let error = in_time(job.result()).await.unwrap_err().to_string();
    assert!(error.ends_with("is dead: the attempt took longer than its max_time of 50ms"), "{error}");
    let other = stage.app.enqueue(skips(2)).await.unwrap();
    assert_eq!(in_time(other.result()).await.unwrap(), [1], "its slot is free");
    stage.diary.note("settled");
    stage.diary.until("dropped").await;
    assert_eq!(stage.diary.count("handle 2") + stage.diary.count("not reached"), 0, "later yields are fenced off");
    assert_eq!(job.status().await.unwrap().steps, 1);
    worker.shutdown().await.unwrap();
}

#[qtask(retry = 0)]
async fn never_ends_by_default() {
    std::future::pending().await
}

async fn a_call_has_a_max_time_of_its_own(stage: Stage) {
    let job = stage.app.enqueue(never_ends_by_default().max_time(Duration::from_millis(20))).await.unwrap();
    let error = end(&stage, &job).await;
    assert!(error.ends_with("took longer than its max_time of 20ms"), "{error}");
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

#[qtask(generate_handler = notes, retry = 0)]
async fn yields_something_else(diary: State<Diary>) -> Result<Vec<i64>, String> {
    yield_!(7);
    yield_!(if diary.count("another version") == diary.count("the right version") { 8 } else { 80 });
    yield_!(9);
    if TaskContext::current().attempt() == 1 { Err("first".to_owned()) } else { Ok(()) }
}

async fn a_body_that_yields_something_else_diverges_before_any_handler_runs(stage: Stage) {
    let job = stage.app.enqueue(yields_something_else()).await.unwrap();
    let worker = stage.app.worker().start().await.unwrap();
    let first = in_time(job.result()).await.unwrap_err().to_string();
    assert!(first.ends_with("is dead: first"), "{first}");

    stage.diary.note("another version");
    job.retry().await.unwrap();
    let diverged = in_time(job.result()).await.unwrap_err().to_string();
    assert!(
        diverged.contains("diverged at step 1: the body yielded another value than the one recorded"),
        "{diverged}"
    );
    assert_eq!(stage.diary.lines(), ["handle 7", "handle 8", "handle 9", "another version"], "no handler ran");
    assert_eq!(job.status().await.unwrap().steps, 3, "the record is kept");

    stage.diary.note("the right version");
    job.retry().await.unwrap();
    assert_eq!(in_time(job.result()).await.unwrap(), [7, 8, 9]);
    assert_eq!(stage.diary.lines().len(), 5, "no handler ran");
    worker.shutdown().await.unwrap();
}

#[qtask(generate_handler = notes, retry = 0, echo = true)]
async fn ends_early_the_second_time(ctx: TaskContext, diary: State<Diary>) -> Result<Vec<i64>, String> {
    yield_!(0);
    if ctx.attempt() == 2 {
        return Ok(());
    }
    yield_!(1);
    if ctx.attempt() == 1 {
        return Err("first".to_owned());
    }
    diary.note("third");
    Ok(())
}

async fn a_body_that_ends_before_its_record_diverges(stage: Stage) {
    let job = stage.app.enqueue(ends_early_the_second_time()).await.unwrap();
    let worker = stage.app.worker().start().await.unwrap();
    in_time(job.result()).await.unwrap_err();
    job.retry().await.unwrap();
    let diverged = in_time(job.result()).await.unwrap_err().to_string();
    assert!(diverged.contains("diverged at step 1: the body ended where 2 steps are recorded"), "{diverged}");
    job.retry().await.unwrap();
    assert_eq!(in_time(job.result()).await.unwrap(), [0, 1]);
    assert_eq!(stage.diary.lines(), ["handle 0", "handle 1", "third"]);
    worker.shutdown().await.unwrap();
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

#[qtask(max_time = "1s")]
async fn runs_for_ever() {
    std::future::pending::<()>().await;
}

#[tokio::test(start_paused = true)]
async fn a_task_that_is_run_here_and_now_has_its_max_time_too() {
    let app = Stage::in_memory(|builder| builder).await.app;
    let error = app.run(runs_for_ever()).await.unwrap_err().to_string();
    assert_eq!(error, "the task `runs_for_ever` failed: the attempt took longer than its max_time of 1s");
    let error = app.run(runs_for_ever().max_time(Duration::from_millis(5))).await.unwrap_err().to_string();
    assert!(error.ends_with("max_time of 5ms"), "{error}");
}
