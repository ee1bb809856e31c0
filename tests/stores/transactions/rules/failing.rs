//! What becomes of values whose handlers fail, and of those around them.

use std::time::Duration;

use qtasks::{
    BoxError, Count, Result,
    job::{Ending, Reply},
    prelude::*,
};
use qtasks_tests::{Diary, Stage, in_time};

use super::{
    saved_values,
    saving::{polled, sums_replies},
};
use crate::{REFUSED, Sql, insert, refuse_poison, stage};

on_this_store![
    an_error_undoes_its_value_only_and_the_next_attempt_goes_on_there,
    a_panic_undoes_its_value_only_and_the_next_attempt_goes_on_there,
    a_task_error_is_obeyed_and_its_value_undone,
    a_skipped_value_is_undone_and_recorded,
    a_body_that_takes_its_time_after_a_value_that_failed_is_stopped,
    an_error_of_the_handler_comes_before_the_end_of_the_body,
    values_that_are_not_handled_and_unwind_when_dropped_hold_up_no_worker,
    a_reply_that_the_store_refuses_fails_the_job_and_no_other,
];

/// How a handler fails at value 3, as it is told.
fn fails(how: &str) -> BoxError {
    match how {
        "error" => "no room".into(),
        "panic" => panic!("no room"),
        "snooze" => TaskError::snooze(Duration::ZERO).into(),
        "cancel" => TaskError::cancel("not wanted").into(),
        "discard" => TaskError::discard("not wanted").into(),
        _ => unreachable!(),
    }
}

handler! {
    /// Fails at value 3 the first time.
    fn trips(tx, how: (i64, String), diary: State<Diary>) -> Result<i64, BoxError> {
        let (value, how) = how;
        done!(insert(tx, value, &TaskContext::current()))?;
        diary.note(format!("handle {value}"));
        if value == 3 && diary.count("handle 3") == 1 { Err(fails(&how)) } else { Ok(value) }
    }
}

macro_rules! stumbles {
    ($($task:ident: [$($kind:tt)*] $($option:ident = $text:literal),*;)*) => {
        $(#[qtask(generate_handler = trips, backoff = "1ms..1ms" $(, $option = $text)*)]
        pub(crate) $($kind)* $task(how: String) -> Vec<i64> {
            for value in 0..6 {
                yield_!((value, how.clone()));
            }
        })*
    };
}

stumbles! {
    stumbles: [async fn];
    stumbles_called: [fn];
    stumbles_each: [async fn] checkpoint = "each";
    stumbles_called_each: [fn] checkpoint = "each";
    stumbles_leniently: [async fn] on_error = "skip";
}

/// Runs a task that fails at value 3 and goes on there; gives how its first attempt ended.
pub(crate) async fn goes_on<C: CallOptions>(stage: &Stage, call: C) -> Ending
where
    C::Task: qtasks::Task<Output = Vec<i64>>,
{
    stage.diary.clear();
    let job = stage.app.enqueue(call).await.unwrap();
    let worker = stage.app.worker().start().await.unwrap();
    assert_eq!(in_time(job.result()).await.unwrap(), [0, 1, 2, 3, 4, 5]);
    worker.shutdown().await.unwrap();
    assert_eq!(saved_values(stage, job.id()), [0, 1, 2, 3, 4, 5]);
    let handled: Vec<_> = [0, 1, 2, 3, 3, 4, 5].iter().map(|value| format!("handle {value}")).collect();
    assert_eq!(stage.diary.lines(), handled, "none runs after one that failed, and none twice that did not");
    let status = job.status().await.unwrap();
    let mut endings: Vec<_> = status.attempts.into_iter().map(|attempt| attempt.ending).collect();
    assert_eq!(endings.pop(), Some(Ending::Done));
    assert_eq!((endings.len(), status.failures), (1, 0));
    endings.remove(0)
}

pub(crate) fn failed(error: &str) -> Ending {
    Ending::Failed { error: error.into() }
}

async fn an_error_undoes_its_value_only_and_the_next_attempt_goes_on_there() {
    let stage = stage().await;
    assert_eq!(goes_on(&stage, stumbles("error".into())).await, failed("no room"));
    assert_eq!(goes_on(&stage, stumbles_called("error".into())).await, failed("no room"));
    assert_eq!(goes_on(&stage, stumbles_each("error".into())).await, failed("no room"));
    assert_eq!(goes_on(&stage, stumbles_called_each("error".into())).await, failed("no room"));
}

async fn a_panic_undoes_its_value_only_and_the_next_attempt_goes_on_there() {
    let stage = stage().await;
    assert_eq!(goes_on(&stage, stumbles("panic".into())).await, failed("the task panicked: no room"));
    assert_eq!(goes_on(&stage, stumbles_called("panic".into())).await, failed("the task panicked: no room"));
}

async fn a_task_error_is_obeyed_and_its_value_undone() {
    let stage = stage().await;
    assert_eq!(goes_on(&stage, stumbles("snooze".into())).await, Ending::Snoozed);
    assert_eq!(goes_on(&stage, stumbles_leniently("snooze".into())).await, Ending::Snoozed);
    for (how, end) in [("cancel", "was cancelled"), ("discard", "is dead")] {
        stage.diary.clear();
        let job = stage.app.enqueue(stumbles(how.into())).await.unwrap();
        stage.work().await;
        let error = job.result().await.unwrap_err().to_string();
        assert_eq!(error, format!("job {} {end}: not wanted", job.id()));
        assert_eq!(saved_values(&stage, job.id()), [0, 1, 2]);
        assert_eq!(job.status().await.unwrap().steps, 3);
    }
}

/// Runs a lenient task whose handler refuses value 3.
pub(crate) async fn skips_one<C: CallOptions>(stage: &Stage, call: C)
where
    C::Task: qtasks::Task<Output = Vec<i64>>,
{
    stage.diary.clear();
    let job = stage.app.enqueue(call).await.unwrap();
    stage.work().await;
    assert_eq!(job.result().await.unwrap(), [0, 1, 2, 4, 5]);
    assert_eq!(saved_values(stage, job.id()), [0, 1, 2, 4, 5]);
    let steps = stage.store.steps(job.id(), 3, 1).await.unwrap();
    assert!(matches!(steps[0].reply, Reply::Skipped(_)), "{steps:?}");
}

async fn a_skipped_value_is_undone_and_recorded() {
    let stage = stage().await;
    skips_one(&stage, stumbles_leniently("error".into())).await;
    stage.diary.clear();
    let job = stage.app.enqueue(stumbles_leniently("error".into())).await.unwrap();
    stage.work().await;
    let third = job.stream_from(3).next().await.unwrap().unwrap_err();
    assert!(third.is_skipped() && third.seq() == Some(3), "{third:?}");
}

/// Yields a value that its handler refuses, and then takes its time.
#[qtask(generate_handler = trips, retry = 0)]
async fn dawdles() -> Vec<i64> {
    yield_!((3, "error".to_owned()));
    std::future::pending::<()>().await;
}

async fn a_body_that_takes_its_time_after_a_value_that_failed_is_stopped() {
    let stage = stage().await;
    let job = stage.app.enqueue(dawdles()).await.unwrap();
    let worker = stage.app.worker().start().await.unwrap();
    let error = in_time(job.result()).await.unwrap_err().to_string();
    assert!(error.ends_with("is dead: no room"), "{error}");
    worker.shutdown().await.unwrap();
}

/// Yields a value that its handler refuses, and comes to another end before that is known.
#[qtask(generate_handler = trips, retry = 0, checkpoint = "within 1s")]
fn fails_elsewhere() -> Result<Vec<i64>, String> {
    yield_!((3, "error".to_owned()));
    Err("an error of the body".to_owned())
}

async fn an_error_of_the_handler_comes_before_the_end_of_the_body() {
    let stage = stage().await;
    let job = stage.app.enqueue(fails_elsewhere()).await.unwrap();
    stage.work().await;
    let error = job.result().await.unwrap_err().to_string();
    assert!(error.ends_with("is dead: no room"), "{error}");
}

/// Unwinds when it is dropped, unless a handler has taken it.
#[derive(serde::Serialize)]
struct Bomb(i64);

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "value {} was not handled", self.0);
    }
}

handler! {
    fn refuses_the_first(_tx, bomb: Bomb) -> Result<i64, String> {
        let value = bomb.0;
        std::mem::forget(bomb);
        if value == 0 { Err("not this one".to_owned()) } else { Ok(value) }
    }
}

#[qtask(generate_handler = refuses_the_first, retry = 0, checkpoint = "within 100ms")]
async fn yields_bombs() -> Count {
    for value in 0..50 {
        yield_!(Bomb(value));
    }
}

#[qtask(generate_handler = refuses_the_first, retry = 0, checkpoint = "within 100ms")]
fn yields_bombs_on_a_thread() -> Count {
    for value in 0..50 {
        yield_!(Bomb(value));
    }
}

async fn values_that_are_not_handled_and_unwind_when_dropped_hold_up_no_worker() {
    let stage = stage().await;
    let worker = stage.app.worker().start().await.unwrap();
    for job in
        [stage.app.enqueue(yields_bombs()).await.unwrap(), stage.app.enqueue(yields_bombs_on_a_thread()).await.unwrap()]
    {
        let error = in_time(job.result()).await.unwrap_err().to_string();
        assert!(error.ends_with("is dead: not this one"), "{error}");
        assert_eq!(job.status().await.unwrap().failures, 1);
    }
    let job = stage.app.enqueue(polled(3)).await.unwrap();
    assert_eq!(in_time(job.result()).await.unwrap(), [0, 10, 20]);
    in_time(worker.shutdown()).await.unwrap();
}

handler! {
    fn saves_a_name(tx, value: i64, ctx: TaskContext) -> Sql<String> {
        done!(insert(tx, value, &ctx))?;
        Ok(if value == 2 { "poison".to_owned() } else { value.to_string() })
    }
}

#[qtask(generate_handler = saves_a_name, retry = 1, backoff = "1ms..1ms")]
async fn names_them() -> Vec<String> {
    for value in 0..4 {
        yield_!(value);
    }
}

async fn a_reply_that_the_store_refuses_fails_the_job_and_no_other() {
    let stage = stage().await;
    refuse_poison(&stage);
    let job = stage.app.enqueue(names_them()).await.unwrap();
    let others = stage.app.enqueue_all((0..20).map(|_| sums_replies(5))).await.unwrap();
    stage.work().await;
    for other in others {
        other.result().await.unwrap();
    }
    let error = job.result().await.unwrap_err().to_string();
    assert!(error.ends_with(&format!("is dead: {REFUSED}")), "{error}");
    let status = job.status().await.unwrap();
    assert!(status.attempts.iter().all(|attempt| attempt.ending == failed(REFUSED)));
    assert!(status.attempt <= 3 && status.failures == 2, "{status:?}");
    assert_eq!(saved_values(&stage, job.id()), (0..status.steps as i64).collect::<Vec<_>>());
}
