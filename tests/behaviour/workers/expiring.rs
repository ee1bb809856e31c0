//! A job that is not started in time ends as cancelled, and is never run.

use std::time::Duration;

use jiff::Timestamp;
use qtasks::{Clock, Scope, job, prelude::*};
use qtasks_tests::{Diary, Stage, eventually, on_every_store};

on_every_store![
    a_job_that_is_leased_too_late_is_not_run,
    jobs_that_nobody_leases_expire,
    a_task_says_when_its_jobs_expire_and_a_call_says_otherwise,
    a_job_that_has_expired_can_be_tried_again,
];

const MINUTE: Duration = Duration::from_secs(60);
const SAID: &str = "expired: not started within 10m";

#[qtask]
async fn does(line: String, diary: State<Diary>) {
    diary.note(line);
}

#[qtask(expires = "10m")]
async fn reminds(line: String, diary: State<Diary>) {
    diary.note(line);
}

fn an_hour_ago() -> Timestamp {
    Timestamp::now() - 60 * MINUTE
}

/// Why the job was called off, once it was.
async fn reason(job: &JobHandle<impl Sized>) -> String {
    eventually("it is called off", async || job.status().await.unwrap().state.is_ended()).await;
    let status = job.status().await.unwrap();
    let job::State::Cancelled { reason } = status.state else { panic!("{status:?}") };
    assert_eq!(status.attempts, [], "no attempt is charged");
    reason
}

async fn a_job_that_is_leased_too_late_is_not_run(stage: Stage) {
    let worker = stage.app.worker().start().await.unwrap();
    stage.app.enqueue(does("first".into())).await.unwrap().result().await.unwrap();
    // From here on only the worker itself looks at what it leases: it sorts out what others leave once a minute.
    let late = stage.app.enqueue(does("late".into()).at(an_hour_ago()).expires(10 * MINUTE)).await.unwrap();
    let in_time = stage.app.enqueue(does("in time".into()).at(an_hour_ago()).expires(61 * MINUTE)).await.unwrap();
    in_time.result().await.unwrap();
    assert_eq!(reason(&late).await, SAID);
    worker.shutdown().await.unwrap();
    assert_eq!(stage.diary.lines(), ["first", "in time"]);
}

async fn jobs_that_nobody_leases_expire(stage: Stage) {
    stage.app.pause(Scope::Queue("paused")).await.unwrap();
    let mut jobs = Vec::new();
    for queue in ["paused", "nobody"] {
        jobs.push(
            stage.app.enqueue(does("late".into()).queue(queue).at(an_hour_ago()).expires(10 * MINUTE)).await.unwrap(),
        );
    }
    let worker = stage.app.worker().queues(["default"]).start().await.unwrap();
    for job in &jobs {
        assert_eq!(reason(job).await, SAID);
    }
    worker.shutdown().await.unwrap();
    stage.app.resume(Scope::Queue("paused")).await.unwrap();
    stage.app.worker().queues(["paused", "nobody"]).run_until_idle().await.unwrap();
    assert_eq!(stage.diary.lines(), Vec::<String>::new());
}

async fn a_task_says_when_its_jobs_expire_and_a_call_says_otherwise(stage: Stage) {
    let late = stage.app.enqueue(reminds("late".into()).at(an_hour_ago())).await.unwrap();
    let longer = stage.app.enqueue(reminds("longer".into()).at(an_hour_ago()).expires(90 * MINUTE)).await.unwrap();
    stage.work().await;
    longer.result().await.unwrap();
    assert_eq!(reason(&late).await, SAID);
    assert_eq!(stage.diary.lines(), ["longer"]);
    let card = stage.app.tasks_known().await.unwrap().into_iter().find(|card| card.name == "reminds");
    assert_eq!(card.unwrap().expires, Some(10 * MINUTE));
}

/// By hand, and its time begins anew then.
async fn a_job_that_has_expired_can_be_tried_again(stage: Stage) {
    let late = stage.app.enqueue(reminds("again".into()).at(an_hour_ago())).await.unwrap();
    stage.work().await;
    assert_eq!(reason(&late).await, SAID);
    late.retry().await.unwrap();
    stage.work().await;
    late.result().await.unwrap();
    assert_eq!(stage.diary.lines(), ["again"]);
}

#[qtask(echo = true, expires = "10m")]
async fn snoozes_a_minute(ctx: TaskContext, diary: State<Diary>) -> Result<(), TaskError> {
    diary.note(format!("attempt {}", ctx.attempt()));
    if ctx.attempt() == 1 { Err(TaskError::snooze(MINUTE)) } else { Ok(()) }
}

#[tokio::test(start_paused = true)]
async fn a_job_that_was_started_once_is_run_however_late() {
    let stage = Stage::in_memory(|builder| builder.clock(Clock::tokio())).await;
    let job = stage.app.enqueue(snoozes_a_minute()).await.unwrap();
    stage.app.worker().run_until_idle().await.unwrap();
    tokio::time::sleep(600 * MINUTE).await;
    stage.app.worker().run_until_idle().await.unwrap();
    job.result().await.unwrap();
    assert_eq!(stage.diary.lines(), ["attempt 1", "attempt 2"]);
}

#[qtask]
async fn never_ends_by_itself(diary: State<Diary>) {
    diary.note("begun");
    std::future::pending().await
}

#[tokio::test(start_paused = true)]
async fn a_job_that_was_only_handed_out_expires() {
    let stage = Stage::in_memory(|builder| builder.clock(Clock::tokio())).await;
    // A worker leases ahead what ends soon: so it has learned that these do.
    let worker = stage.app.worker().concurrency(1).start().await.unwrap();
    let quick = stage.app.enqueue_all((0..200).map(|_| reminds("quick".into()))).await.unwrap();
    stage.diary.until_times("quick", 200).await;
    stage.app.enqueue(never_ends_by_itself()).await.unwrap();
    stage.diary.until("begun").await;
    let waiting = stage.app.enqueue(reminds("handed out".into())).await.unwrap();
    eventually("it is leased ahead", async || waiting.status().await.unwrap().attempt == 1).await;
    stage.app.pause(Scope::Task("never_ends_by_itself")).await.unwrap();
    worker.shutdown().await.unwrap();
    tokio::time::sleep(60 * MINUTE).await;
    stage.app.worker().run_until_idle().await.unwrap();
    assert_eq!(reason(&waiting).await, SAID);
    assert_eq!(stage.diary.count("handed out"), 0);
    drop(quick);
}
