//! A store that fails: no error is taken for success, and work goes on by itself.

use std::time::Duration;

use qtasks::{Error, Result, job::Ending, prelude::*};
use qtasks_tests::{Diary, eventually, in_time};

use super::shaky::{
    Fault::{self, AnswerLost, Late, Refused},
    shaky,
};

fn notes(value: i64, diary: State<Diary>) -> i64 {
    diary.note(format!("handle {value}"));
    value * 10
}

#[qtask(generate_handler = notes)]
pub(super) async fn adds_up(n: i64) -> Vec<i64> {
    let mut sum = 0;
    for value in 0..n {
        sum += yield_!(value + sum);
    }
}

#[qtask(generate_handler = notes, backoff = "1h..1h")]
async fn fails_first(n: i64) -> std::result::Result<Vec<i64>, String> {
    for value in 0..n {
        yield_!(value);
    }
    if TaskContext::current().attempt() == 1 { Err("first".to_owned()) } else { Ok(()) }
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_cannot_reach_the_store_waits_as_long_as_any_call_and_does_not_start() {
    let (stage, shaky) = shaky().await;
    shaky.edge.fail("renew", [Refused; 3]);
    let worker = stage.app.worker().start().await.unwrap();
    worker.shutdown().await.unwrap();
    shaky.edge.fail("renew", [Refused; 1_000]);
    assert!(stage.app.worker().start().await.unwrap_err().is_store_trouble());
}

/// Runs a job to its end while calls of one kind go wrong.
async fn ends_well_although(call: &'static str, faults: &[Fault]) {
    let (stage, shaky) = shaky().await;
    let worker = stage.app.worker().start().await.unwrap();
    shaky.edge.fail(call, faults.iter().copied());
    let job = stage.app.enqueue(adds_up(4)).await.unwrap();
    let streamed = in_time(job.stream().map(Result::unwrap).collect::<Vec<_>>()).await;
    assert_eq!(streamed, [0, 10, 120, 1330], "{call} {faults:?}");
    assert_eq!(in_time(job.result()).await.unwrap(), streamed);
    let handled: Vec<_> = [0, 1, 12, 133].iter().map(|value| format!("handle {value}")).collect();
    assert_eq!(stage.diary.lines(), handled, "{call} {faults:?}");
    let status = job.status().await.unwrap();
    assert_eq!((status.steps, status.attempt, status.failures), (4, 1, 0));
    assert_eq!(status.attempts.iter().map(|attempt| &attempt.ending).collect::<Vec<_>>(), [&Ending::Done]);
    worker.shutdown().await.unwrap();
    assert!(shaky.edge.is_well(), "{call} {faults:?}");
}

#[tokio::test(start_paused = true)]
async fn steps_that_could_not_be_recorded_are_neither_lost_nor_doubled() {
    ends_well_although("record", &[Refused; 6]).await;
    ends_well_although("record", &[AnswerLost; 3]).await;
    ends_well_although("record", &[Refused, AnswerLost, Refused, AnswerLost]).await;
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_could_not_be_settled_is_settled_once() {
    ends_well_although("settle", &[Refused; 6]).await;
    ends_well_although("settle", &[AnswerLost; 3]).await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_survives_leases_that_fail() {
    ends_well_although("lease", &[Refused; 5]).await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_survives_a_pruning_that_fails() {
    ends_well_although("prune", &[Refused]).await;
}

#[tokio::test(start_paused = true)]
async fn recorded_steps_that_could_not_be_read_back_are_read_again() {
    let (stage, shaky) = shaky().await;
    let job = stage.app.enqueue(fails_first(3)).await.unwrap();
    stage.work().await;
    shaky.edge.fail("steps", [Refused; 4]);
    tokio::time::advance(Duration::from_secs(3601)).await;
    let worker = stage.app.worker().start().await.unwrap();
    eventually("done", async || job.status().await.unwrap().state.name() == "done").await;
    assert!(shaky.edge.is_well());
    assert_eq!(job.result().await.unwrap(), [0, 10, 20]);
    assert_eq!(stage.diary.lines(), ["handle 0", "handle 1", "handle 2"]);
    worker.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_job_whose_lease_was_lost_on_its_way_is_given_back_and_runs() {
    let (stage, shaky) = shaky().await;
    shaky.edge.fail("lease", [AnswerLost]);
    let job = stage.app.enqueue(adds_up(2)).await.unwrap();
    let worker = stage.app.worker().start().await.unwrap();
    assert_eq!(in_time(job.result()).await.unwrap(), [0, 10]);
    let status = job.status().await.unwrap();
    assert_eq!((status.attempt, status.failures), (2, 0));
    worker.shutdown().await.unwrap();
}

#[tokio::test]
async fn renewals_that_fail_for_a_while_cost_no_lease() {
    let (stage, shaky) = shaky().await;
    let worker = stage.app.worker().start().await.unwrap();
    shaky.edge.fail("renew", [Refused, AnswerLost]);
    shaky.edge.fail("workers", [Refused]);
    let job = stage.app.enqueue(waits()).await.unwrap();
    eventually("renewals are well again", async || shaky.edge.is_well()).await;
    stage.diary.note("go on");
    assert_eq!(in_time(job.result()).await.unwrap(), 1);
    worker.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_cancel_that_comes_after_the_end_is_refused() {
    let (stage, shaky) = shaky().await;
    let worker = stage.app.worker().start().await.unwrap();
    let job = stage.app.enqueue(waits()).await.unwrap();
    eventually("leased", async || job.status().await.unwrap().state.name() == "running").await;
    shaky.edge.fail("settle", [Late]);
    let cancelling = tokio::spawn({
        let job = job.clone();
        async move { job.cancel().await }
    });
    eventually("the cancel is on its way", async || shaky.edge.is_well()).await;
    stage.diary.note("go on");
    assert_eq!(in_time(job.result()).await.unwrap(), 1);
    shaky.edge.let_through.notify_one();
    let error = in_time(cancelling).await.unwrap().unwrap_err();
    assert!(matches!(error, Error::WrongState { state: "done", .. }), "{error}");
    assert_eq!(job.result().await.unwrap(), 1, "it is done once and for all");
    worker.shutdown().await.unwrap();
}

#[tokio::test]
async fn an_end_that_comes_after_a_cancel_is_nothing() {
    let (stage, shaky) = shaky().await;
    let worker = stage.app.worker().start().await.unwrap();
    let job = stage.app.enqueue(waits()).await.unwrap();
    shaky.edge.fail("settle", [Late]);
    stage.diary.note("go on");
    eventually("the end is on its way", async || shaky.edge.is_well()).await;
    job.cancel().await.unwrap();
    shaky.edge.let_through.notify_one();
    worker.shutdown().await.unwrap();
    assert!(matches!(job.result().await, Err(Error::Cancelled { .. })));
    let endings: Vec<_> = job.status().await.unwrap().attempts.into_iter().map(|attempt| attempt.ending).collect();
    assert_eq!(endings, [Ending::Cancelled { reason: "called off".into() }]);
}

#[qtask(generate_handler = notes)]
async fn says_what_it_was_answered(diary: State<Diary>) -> Vec<i64> {
    let reply = yield_!(1);
    diary.note(format!("answered {reply}"));
}

#[tokio::test(start_paused = true)]
async fn a_body_gets_a_reply_only_when_its_step_is_durable() {
    let (stage, shaky) = shaky().await;
    shaky.edge.fail("record", [Refused; 5]);
    let job = stage.app.enqueue(says_what_it_was_answered()).await.unwrap();
    let worker = stage.app.worker().start().await.unwrap();
    eventually("answered", async || {
        let answered = stage.diary.count("answered 10") == 1;
        assert!(!answered || shaky.edge.is_well(), "answered before the step was recorded");
        answered
    })
    .await;
    assert_eq!(job.result().await.unwrap(), [10]);
    worker.shutdown().await.unwrap();
}

#[qtask(generate_handler = notes)]
async fn waits_between_its_values(diary: State<Diary>) -> Vec<i64> {
    yield_!(0);
    diary.note("waits");
    diary.told("leases have run out").await;
    yield_!(1);
}

#[tokio::test(start_paused = true)]
async fn no_handler_is_called_while_the_lease_may_have_passed_on() {
    let (stage, shaky) = shaky().await;
    let worker = stage.app.worker().start().await.unwrap();
    let job = stage.app.enqueue(waits_between_its_values()).await.unwrap();
    stage.diary.until("waits").await;
    shaky.edge.fail("renew", [Refused; 6]);
    eventually("leases run out", async || shaky.edge.left("renew") == 1).await;
    stage.diary.note("leases have run out");
    eventually("the next value is handled", async || {
        let handled = stage.diary.count("handle 1") == 1;
        assert!(!handled || shaky.edge.is_well(), "handled under a lease that had run out");
        handled
    })
    .await;
    assert_eq!(in_time(job.result()).await.unwrap(), [0, 10]);
    assert_eq!(job.status().await.unwrap().attempt, 1, "a lease that nobody took is still good");
    worker.shutdown().await.unwrap();
}

#[qtask]
async fn waits(diary: State<Diary>) -> u32 {
    diary.told("go on").await;
    TaskContext::current().attempt()
}

#[tokio::test(start_paused = true)]
async fn a_stop_gives_jobs_back_although_the_store_was_away() {
    let (stage, shaky) = shaky().await;
    let job = stage.app.enqueue(waits()).await.unwrap();
    let worker = stage.app.worker().start().await.unwrap();
    eventually("leased", async || job.status().await.unwrap().state.name() == "running").await;
    shaky.edge.fail("settle", [Refused; 5]);
    worker.shutdown().await.unwrap();
    assert_eq!(job.status().await.unwrap().state.name(), "waiting");
    let worker = stage.app.worker().start().await.unwrap();
    eventually("leased", async || job.status().await.unwrap().state.name() == "running").await;
    shaky.edge.fail("settle", [Refused; 60]);
    let error = worker.shutdown().await;
    stage.diary.note("go on");
    let text = error.unwrap_err().to_string();
    assert!(text.contains("the store was away while the worker stopped"), "{text}");
}
