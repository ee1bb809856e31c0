//! Stopping a worker gracefully: nothing is lost, and it costs no failure.

use std::time::Duration;

use qtasks::{job::Ending, prelude::*};
use qtasks_tests::{Diary, NotesDrop, Stage, eventually, in_time, on_every_store};

on_every_store![
    a_generator_stops_at_its_next_yield_and_goes_on_elsewhere,
    a_fn_generator_stops_at_its_next_yield,
    a_plain_body_may_end_within_the_grace,
    an_async_body_is_dropped_after_the_grace_and_given_back,
    a_fn_body_is_left_alone_after_the_grace_and_given_back,
    jobs_leased_ahead_are_given_back,
    a_worker_without_a_free_slot_leaves_jobs_to_others,
    a_stopped_worker_takes_no_more_jobs,
    a_dropped_worker_stops_gracefully,
];

async fn notes(value: u32, diary: State<Diary>) -> u32 {
    diary.note(format!("handle {value}"));
    value
}

#[qtask(generate_handler = notes, echo = true)]
async fn steps(ctx: TaskContext, diary: State<Diary>) -> Vec<u32> {
    for value in 0..5 {
        yield_!(value);
        if value == 2 && ctx.attempt() == 1 {
            diary.note("waits");
            while !ctx.is_shutting_down() {
                tokio::task::yield_now().await;
            }
        }
    }
}

#[qtask(generate_handler = notes)]
fn steps_on_its_thread(diary: State<Diary>) -> Vec<u32> {
    let ctx = TaskContext::current();
    for value in 0..5 {
        yield_!(value);
        if value == 2 && ctx.attempt() == 1 {
            diary.note("waits");
            while !ctx.is_shutting_down() {
                std::thread::yield_now();
            }
        }
    }
}

async fn stops_and_goes_on(stage: &Stage, job: JobHandle<Vec<u32>>) {
    let worker = stage.app.worker().start().await.unwrap();
    stage.diary.until("waits").await;
    in_time(worker.shutdown()).await.unwrap();
    let status = job.status().await.unwrap();
    assert_eq!((status.state.name(), status.failures, status.steps), ("waiting", 0, 3));
    assert_eq!(status.attempts.iter().map(|attempt| &attempt.ending).collect::<Vec<_>>(), [&Ending::Released]);
    stage.work().await;
    assert_eq!(job.result().await.unwrap(), [0, 1, 2, 3, 4]);
    for value in 0..5 {
        assert_eq!(stage.diary.count(&format!("handle {value}")), 1);
    }
    let endings: Vec<_> = job.status().await.unwrap().attempts.into_iter().map(|attempt| attempt.ending).collect();
    assert_eq!(endings, [Ending::Released, Ending::Done]);
}

async fn a_generator_stops_at_its_next_yield_and_goes_on_elsewhere(stage: Stage) {
    let job = stage.app.enqueue(steps()).await.unwrap();
    stops_and_goes_on(&stage, job).await;
}

async fn a_fn_generator_stops_at_its_next_yield(stage: Stage) {
    let job = stage.app.enqueue(steps_on_its_thread()).await.unwrap();
    stops_and_goes_on(&stage, job).await;
}

#[qtask]
async fn sees_the_stop(diary: State<Diary>) -> u32 {
    diary.note("runs");
    while !TaskContext::current().is_shutting_down() {
        tokio::task::yield_now().await;
    }
    7
}

async fn a_plain_body_may_end_within_the_grace(stage: Stage) {
    let job = stage.app.enqueue(sees_the_stop()).await.unwrap();
    let worker = stage.app.worker().start().await.unwrap();
    stage.diary.until("runs").await;
    in_time(worker.shutdown()).await.unwrap();
    assert_eq!(job.status().await.unwrap().state.name(), "done");
    assert_eq!(job.result().await.unwrap(), 7);
}

#[qtask]
async fn does_not_see_the_stop(diary: State<Diary>) {
    let _guard = NotesDrop(diary.clone(), "dropped");
    diary.note("runs");
    diary.told("go on").await;
}

#[qtask]
fn does_not_see_the_stop_on_its_thread(diary: State<Diary>) -> u32 {
    let _guard = NotesDrop(diary.clone(), "dropped");
    let attempt = TaskContext::current().attempt();
    diary.note("runs");
    diary.until_blocking("go on");
    attempt
}

async fn an_async_body_is_dropped_after_the_grace_and_given_back(stage: Stage) {
    let job = stage.app.enqueue(does_not_see_the_stop()).await.unwrap();
    let worker = stage.app.worker().grace(Duration::from_millis(20)).start().await.unwrap();
    stage.diary.until("runs").await;
    in_time(worker.shutdown()).await.unwrap();
    assert_eq!(stage.diary.lines(), ["runs", "dropped"]);
    let status = job.status().await.unwrap();
    assert_eq!((status.state.name(), status.failures, status.attempt), ("waiting", 0, 1));
    assert_eq!(status.attempts[0].ending, Ending::Released);
}

async fn a_fn_body_is_left_alone_after_the_grace_and_given_back(stage: Stage) {
    let job = stage.app.enqueue(does_not_see_the_stop_on_its_thread()).await.unwrap();
    let worker = stage.app.worker().grace(Duration::from_millis(20)).start().await.unwrap();
    stage.diary.until("runs").await;
    in_time(worker.shutdown()).await.unwrap();
    assert_eq!(stage.diary.lines(), ["runs"]);
    let status = job.status().await.unwrap();
    assert_eq!((status.state.name(), status.failures), ("waiting", 0));
    stage.diary.note("go on");
    stage.diary.until("dropped").await;
    assert_eq!(job.status().await.unwrap(), status, "what the thread came to does not count");
    stage.work().await;
    assert_eq!(job.result().await.unwrap(), 2);
}

async fn jobs_leased_ahead_are_given_back(stage: Stage) {
    let jobs = stage.app.enqueue_all((0..500).map(|_| only_notes())).await.unwrap();
    // So many end so fast that many are leased ahead.
    let worker = stage.app.worker().concurrency(2).start().await.unwrap();
    stage.diary.until_times("ran", 20).await;
    in_time(worker.shutdown()).await.unwrap();
    let mut done = 0;
    for job in &jobs {
        let status = job.status().await.unwrap();
        done += usize::from(status.state.name() == "done");
        let as_enqueued = (status.state.name(), status.failures, status.attempts.len()) == ("waiting", 0, 0);
        assert!(status.state.name() == "done" || as_enqueued, "{status:?}");
    }
    assert_eq!(stage.diary.lines().len(), done);
    stage.work().await;
    assert_eq!(stage.diary.lines().len(), jobs.len());
}

async fn a_worker_without_a_free_slot_leaves_jobs_to_others(stage: Stage) {
    let jobs = stage.app.enqueue_all((0..4).map(|_| does_not_see_the_stop())).await.unwrap();
    let busy = stage.app.worker().concurrency(2).start().await.unwrap();
    stage.diary.until_times("runs", 2).await;
    let other = stage.app.worker().concurrency(2).start().await.unwrap();
    stage.diary.until_times("runs", 4).await;
    stage.diary.note("go on");
    for job in &jobs {
        in_time(job.result()).await.unwrap();
    }
    busy.shutdown().await.unwrap();
    other.shutdown().await.unwrap();
}

#[qtask]
async fn only_notes(diary: State<Diary>) {
    diary.note("ran");
}

async fn a_stopped_worker_takes_no_more_jobs(stage: Stage) {
    let worker = stage.app.worker().start().await.unwrap();
    in_time(worker.shutdown()).await.unwrap();
    let job = stage.app.enqueue(only_notes()).await.unwrap();
    in_time(stage.app.worker().queues(["elsewhere"]).run_until_idle()).await.unwrap();
    assert_eq!(job.status().await.unwrap().attempt, 0);
    stage.work().await;
    assert_eq!(stage.diary.lines(), ["ran"]);
}

async fn a_dropped_worker_stops_gracefully(stage: Stage) {
    let job = stage.app.enqueue(steps()).await.unwrap();
    let worker = stage.app.worker().start().await.unwrap();
    stage.diary.until("waits").await;
    drop(worker);
    eventually("given back", async || job.status().await.unwrap().state.name() == "waiting").await;
    let status = job.status().await.unwrap();
    assert_eq!((status.steps, status.failures), (3, 0));
    stage.work().await;
    assert_eq!(job.result().await.unwrap(), [0, 1, 2, 3, 4]);
}
