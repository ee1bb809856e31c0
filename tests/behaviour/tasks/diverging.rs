//! A body that does not do again what is recorded of it.

use qtasks::prelude::*;
use qtasks_tests::{Diary, Stage, in_time, on_every_store};

use super::errors::notes;

on_every_store![
    a_body_that_yields_something_else_diverges_before_any_handler_runs,
    a_body_that_ends_before_its_record_diverges,
];

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
