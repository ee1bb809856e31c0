//! A body with a cursor goes on from its last step.

use std::time::Duration;

use qtasks::prelude::*;
use qtasks_tests::{Diary, Stage, on_every_store};

use super::once::fails_twice;

on_every_store![
    a_body_goes_on_from_its_last_step,
    a_fn_body_goes_on_from_its_last_step,
    memos_of_recorded_steps_are_not_taken_for_those_of_later_ones,
    a_body_that_never_asks_where_to_go_on_ends_with_an_error,
    only_a_task_with_a_cursor_asks_for_its_last_step,
];

fn notes(value: u64, diary: State<Diary>) -> u64 {
    diary.note(format!("handle {value}"));
    value
}

#[qtask(generate_handler = notes, echo = true, resume = "cursor")]
async fn counts_from_its_cursor(ctx: TaskContext, n: u64, diary: State<Diary>) -> Result<Vec<u64>, qtasks::BoxError> {
    let last = ctx.last_step::<u64>().await?;
    diary.note(format!("after {last:?}"));
    for value in last.map_or(0, |(_seq, value)| value + 1)..n {
        yield_!(value);
        if value == u64::from(ctx.attempt()) {
            fails_twice(&ctx)?;
        }
    }
    Ok(())
}

#[qtask(generate_handler = notes, echo = true, resume = "cursor", checkpoint = "each")]
fn counts_from_its_cursor_blocking(
    ctx: TaskContext,
    n: u64,
    diary: State<Diary>,
) -> Result<Vec<u64>, qtasks::BoxError> {
    let last = ctx.last_step_blocking::<u64>()?;
    diary.note(format!("after {last:?}"));
    for value in last.map_or(0, |(_seq, value)| value + 1)..n {
        let reply: u64 = yield_!(value);
        if reply == u64::from(ctx.attempt()) {
            fails_twice(&ctx)?;
        }
    }
    Ok(())
}

const FROM_CURSORS: [&str; 8] = [
    "after None",
    "handle 0",
    "handle 1",
    "after Some((1, 1))",
    "handle 2",
    "after Some((2, 2))",
    "handle 3",
    "handle 4",
];

async fn a_body_goes_on_from_its_last_step(stage: Stage) {
    let job = stage.app.enqueue(counts_from_its_cursor(5)).await.unwrap();
    stage.work().await;
    assert_eq!(job.result().await.unwrap(), [0, 1, 2, 3, 4]);
    assert_eq!(stage.diary.lines(), FROM_CURSORS);
}

async fn a_fn_body_goes_on_from_its_last_step(stage: Stage) {
    let job = stage.app.enqueue(counts_from_its_cursor_blocking(5)).await.unwrap();
    stage.work().await;
    assert_eq!(job.result().await.unwrap(), [0, 1, 2, 3, 4]);
    assert_eq!(stage.diary.lines(), FROM_CURSORS);
}

#[qtask(echo = true, resume = "cursor")]
async fn looks_up_from_its_cursor(ctx: TaskContext) -> Result<Vec<u64>, qtasks::BoxError> {
    let next = ctx.last_step::<u64>().await?.map_or(0, |(seq, _)| seq + 1);
    for value in next..4 {
        // At the second value the first attempt ends after this, and the second takes it from the record.
        let found = ctx.once("look-up", || async { value * 10 + u64::from(ctx.attempt()) }).await;
        if value == 1 && ctx.attempt() == 1 {
            return Err(TaskError::retry_after(Duration::ZERO).into());
        }
        yield_!(found);
    }
    Ok(())
}

async fn memos_of_recorded_steps_are_not_taken_for_those_of_later_ones(stage: Stage) {
    let job = stage.app.enqueue(looks_up_from_its_cursor()).await.unwrap();
    stage.work().await;
    assert_eq!(job.result().await.unwrap(), [1, 11, 22, 32]);
}

#[qtask(echo = true, resume = "cursor")]
async fn never_asks(ctx: TaskContext) -> Result<Vec<u64>, TaskError> {
    yield_!(0_u64);
    fails_twice(&ctx)
}

async fn a_body_that_never_asks_where_to_go_on_ends_with_an_error(stage: Stage) {
    let job = stage.app.enqueue(never_asks()).await.unwrap();
    let worker = stage.app.worker().start().await.unwrap();
    qtasks_tests::eventually("the second attempt fails", async || job.status().await.unwrap().attempts.len() >= 2)
        .await;
    job.cancel().await.unwrap();
    worker.shutdown().await.unwrap();
    let error = format!("{:?}", job.status().await.unwrap().attempts[1].ending);
    let said = "a task with `resume = \\\"cursor\\\"` ran again and yielded a value without asking `ctx.last_step()` where \
                to go on; it would yield the recorded values twice";
    assert!(error.contains(said), "{error}");
}

#[qtask(echo = true, retry = 0)]
async fn asks_without_the_option(ctx: TaskContext) -> qtasks::Result<Vec<u64>> {
    let last = ctx.last_step::<u64>().await?;
    yield_!(last.map_or(0, |(_, value)| value));
    Ok(())
}

async fn only_a_task_with_a_cursor_asks_for_its_last_step(stage: Stage) {
    let job = stage.app.enqueue(asks_without_the_option()).await.unwrap();
    stage.work().await;
    let error = job.result().await.unwrap_err().to_string();
    let said = "is dead: `last_step` is for a task with `resume = \"cursor\"`; any other yields again";
    assert!(error.ends_with(said), "{error}");
}
