//! Calling jobs off, and having them tried again.

use qtasks::{
    Error,
    job::{Ending, Lease, Reply, State as JobState, Step},
    json::Json,
    prelude::*,
    store::{Record, Written},
};
use qtasks_tests::{Diary, NotesDrop, Stage, in_time, on_every_store};

on_every_store![
    a_waiting_job_that_is_cancelled_never_runs,
    a_running_body_that_is_cancelled_is_stopped_and_its_drop_code_runs,
    a_running_fn_body_that_is_cancelled_yields_no_more,
    what_has_ended_cannot_be_cancelled,
    a_job_completes_or_is_cancelled_and_never_both,
    a_cancelled_job_that_is_retried_goes_on_after_its_record,
    a_dead_job_that_is_retried_gets_all_its_tries_again,
    what_is_not_dead_or_cancelled_cannot_be_retried,
    a_job_cancelled_and_retried_at_once_does_not_run_twice_at_a_time,
];

fn notes(value: u32, diary: State<Diary>) -> u32 {
    diary.note(format!("handle {value}"));
    value
}

#[qtask(generate_handler = notes)]
async fn stays(diary: State<Diary>) -> Vec<u32> {
    let _durable: u32 = yield_!(0);
    let _guard = NotesDrop(diary.clone(), "dropped");
    diary.note(format!("stays {}", TaskContext::current().attempt()));
    diary.told("go on").await;
    yield_!(1);
}

#[qtask(generate_handler = notes, checkpoint = "each")]
fn stays_on_its_thread(diary: State<Diary>) -> Vec<u32> {
    yield_!(0);
    let _guard = NotesDrop(diary.clone(), "dropped");
    diary.note("stays");
    diary.until_blocking("go on");
    yield_!(1);
    diary.note("not reached");
}

#[qtask]
fn quick() -> u32 {
    5
}

async fn a_waiting_job_that_is_cancelled_never_runs(stage: Stage) {
    let job = stage.app.enqueue(stays()).await.unwrap();
    job.cancel().await.unwrap();
    stage.work().await;
    assert_eq!(stage.diary.lines(), [""; 0]);
    let error = job.result().await.unwrap_err().to_string();
    assert_eq!(error, format!("job {} was cancelled: called off", job.id()));
    let status = job.status().await.unwrap();
    assert_eq!((status.state.name(), status.attempt, status.attempts.len()), ("cancelled", 0, 0));
}

async fn a_running_body_that_is_cancelled_is_stopped_and_its_drop_code_runs(stage: Stage) {
    let worker = stage.app.worker().start().await.unwrap();
    let job = stage.app.enqueue(stays()).await.unwrap();
    stage.diary.until("stays 1").await;
    job.cancel().await.unwrap();
    let error = in_time(job.result()).await.unwrap_err();
    assert!(matches!(error, Error::Cancelled { .. }));
    stage.diary.until("dropped").await;
    let status = job.status().await.unwrap();
    assert_eq!(status.steps, 1, "what was handled is kept");
    assert_eq!(status.attempts.len(), 1);
    assert_eq!(status.attempts[0].ending, Ending::Cancelled { reason: "called off".into() });

    let lease = Lease { job: job.id(), attempt: 1, worker: worker.id() };
    let step = Step { seq: 1, hash: 0, reply: Reply::Value(Json::from_stored("1")) };
    let late = Record { lease, steps: vec![step], memos: Vec::new(), jobs: Vec::new(), progress: None, passed: false };
    assert_eq!(stage.store.record([late].into()).await.unwrap(), [Written::Fenced]);
    worker.shutdown().await.unwrap();
    assert_eq!(job.status().await.unwrap().state, JobState::Cancelled { reason: "called off".into() });
}

async fn a_running_fn_body_that_is_cancelled_yields_no_more(stage: Stage) {
    let worker = stage.app.worker().start().await.unwrap();
    let job = stage.app.enqueue(stays_on_its_thread()).await.unwrap();
    stage.diary.until("stays").await;
    job.cancel().await.unwrap();
    stage.diary.note("go on");
    stage.diary.until("dropped").await;
    assert_eq!(stage.diary.count("not reached"), 0);
    assert_eq!(job.status().await.unwrap().steps, 1);
    worker.shutdown().await.unwrap();
}

async fn what_has_ended_cannot_be_cancelled(stage: Stage) {
    let job = stage.app.enqueue(quick()).await.unwrap();
    stage.work().await;
    let error = job.cancel().await.unwrap_err();
    assert_eq!(error.to_string(), format!("job {} is done, so it cannot be cancelled", job.id()));
    assert_eq!(job.result().await.unwrap(), 5);
    let other = stage.app.enqueue(quick()).await.unwrap();
    other.cancel().await.unwrap();
    assert!(matches!(other.cancel().await, Err(Error::WrongState { state: "cancelled", .. })));
}

async fn a_job_completes_or_is_cancelled_and_never_both(stage: Stage) {
    let worker = stage.app.worker().start().await.unwrap();
    let mut ends = [0, 0];
    for round in 0..150 {
        let job = stage.app.enqueue(quick()).await.unwrap();
        for _ in 0..round {
            tokio::task::yield_now().await;
        }
        let cancelled = job.cancel().await;
        let (result, state) = (in_time(job.result()).await, job.status().await.unwrap().state);
        match (&cancelled, &result, state.name()) {
            (Ok(()), Err(Error::Cancelled { .. }), "cancelled") => ends[0] += 1,
            (Err(Error::WrongState { state: "done", .. }), Ok(5), "done") => ends[1] += 1,
            other => panic!("{other:?}"),
        }
        let endings = job.status().await.unwrap().attempts.len();
        assert!(endings <= 1, "an attempt ends once, not {endings} times");
    }
    worker.shutdown().await.unwrap();
    assert!(ends[0] > 0, "{ends:?}");
}

async fn a_cancelled_job_that_is_retried_goes_on_after_its_record(stage: Stage) {
    let worker = stage.app.worker().start().await.unwrap();
    let job = stage.app.enqueue(stays()).await.unwrap();
    stage.diary.until("stays 1").await;
    job.cancel().await.unwrap();
    stage.diary.until("dropped").await;
    job.retry().await.unwrap();
    stage.diary.until("stays 2").await;
    stage.diary.note("go on");
    assert_eq!(in_time(job.result()).await.unwrap(), [0, 1]);
    assert_eq!(stage.diary.count("handle 0"), 1);
    worker.shutdown().await.unwrap();
}

#[qtask(retry = 1, backoff = "1ms..1ms")]
async fn fails_while_told(diary: State<Diary>) -> Result<Vec<u32>, String> {
    yield_!(0);
    diary.note("try");
    if diary.count("mended") == 0 {
        return Err("broken".to_owned());
    }
    yield_!(1);
    Ok(())
}

async fn a_dead_job_that_is_retried_gets_all_its_tries_again(stage: Stage) {
    let worker = stage.app.worker().start().await.unwrap();
    let job = stage.app.enqueue(fails_while_told()).await.unwrap();
    in_time(job.result()).await.unwrap_err();
    let tries = stage.diary.count("try");
    job.retry().await.unwrap();
    in_time(job.result()).await.unwrap_err();
    assert_eq!(stage.diary.count("try") - tries, 2);
    stage.diary.note("mended");
    job.retry().await.unwrap();
    assert_eq!(in_time(job.result()).await.unwrap(), [0, 1]);
    worker.shutdown().await.unwrap();
}

async fn what_is_not_dead_or_cancelled_cannot_be_retried(stage: Stage) {
    let job = stage.app.enqueue(stays()).await.unwrap();
    assert!(matches!(job.retry().await, Err(Error::WrongState { state: "waiting", .. })));
    let worker = stage.app.worker().start().await.unwrap();
    stage.diary.until("stays 1").await;
    assert!(matches!(job.retry().await, Err(Error::WrongState { state: "running", .. })));
    stage.diary.note("go on");
    in_time(job.result()).await.unwrap();
    let error = job.retry().await.unwrap_err().to_string();
    assert_eq!(error, format!("job {} is done, so it cannot be retried", job.id()));
    worker.shutdown().await.unwrap();
}

async fn a_job_cancelled_and_retried_at_once_does_not_run_twice_at_a_time(stage: Stage) {
    let worker = stage.app.worker().start().await.unwrap();
    let job = stage.app.enqueue(stays()).await.unwrap();
    stage.diary.until("stays 1").await;
    job.cancel().await.unwrap();
    job.retry().await.unwrap();
    stage.diary.until("stays 2").await;
    stage.diary.until("dropped").await;
    assert_eq!(job.status().await.unwrap().state.name(), "running");
    stage.diary.note("go on");
    assert_eq!(in_time(job.result()).await.unwrap(), [0, 1]);
    assert_eq!(stage.diary.count("handle 0"), 1);
    worker.shutdown().await.unwrap();
}
