//! Errors that say themselves how to go on.

use std::time::Duration;

use qtasks::{
    Clock, Status,
    job::{Ending, State as JobState},
    prelude::*,
};
use qtasks_tests::{Stage, in_time, on_every_store};

use super::errors::endings;

on_every_store![
    a_cancelling_error_cancels_the_job_wherever_it_stands,
    a_discarding_error_ends_the_job_without_further_tries,
    a_snooze_is_no_failure,
    a_job_that_snoozes_for_long_shows_its_first_and_its_last_attempts,
];

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
