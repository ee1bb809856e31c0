//! The time that an attempt has.

use std::time::Duration;

use qtasks::prelude::*;
use qtasks_tests::{Diary, Stage, in_time, on_every_store};

use super::{
    errors::{end, notes},
    skipping::skips,
};

on_every_store![
    max_time_stops_an_async_body_and_its_drop_code_runs,
    max_time_settles_a_fn_body_that_cannot_be_stopped,
    a_call_has_a_max_time_of_its_own,
];

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
