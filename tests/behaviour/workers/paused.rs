//! Tokio's paused clock: what runs on a thread keeps it where it is, and an application that does not go by it is told.

use std::{sync::mpsc, thread, time::Duration};

use qtasks::{Clock, prelude::*};
use qtasks_tests::{Diary, Place, Stage, in_time};
use tokio::time::{Instant, advance};

/// Runs each of the tests on a paused clock, in memory and in a SQLite file.
macro_rules! on_a_paused_clock {
    ($($test:ident),* $(,)?) => {
        mod memory {
            $(#[tokio::test(start_paused = true)]
            async fn $test() {
                super::$test(super::stage(&super::Place::memory()).await).await;
            })*
        }

        mod sqlite_file {
            $(#[tokio::test(start_paused = true)]
            async fn $test() {
                let place = super::Place::sqlite();
                super::$test(super::stage(&place).await).await;
            })*
        }
    };
}

on_a_paused_clock!(
    a_body_on_a_thread_has_its_time,
    a_body_on_a_thread_that_runs_here_and_now_has_its_time,
    a_body_that_runs_ahead_of_its_commits_has_its_time,
    a_stop_waits_for_a_body_on_a_thread,
    a_body_that_never_returns_holds_no_clock_once_it_is_given_up,
    what_a_body_on_a_thread_waits_for_comes_at_once,
    max_time_passes_while_a_body_on_a_thread_waits,
    delays_pass_at_once,
);

async fn stage(place: &Place) -> Stage {
    Stage::on(qtasks::store::open(&place.url).await.unwrap()).await
}

/// Takes a moment that is long for a paused clock, which would pass hours in it.
fn a_moment() {
    thread::sleep(Duration::from_millis(30));
}

fn handled(value: u32) -> u32 {
    a_moment();
    value + 1
}

#[qtask(generate_handler = handled, max_time = "30s", retry = 0)]
fn takes_a_moment() -> Vec<u32> {
    a_moment();
    yield_!(1);
}

async fn a_body_on_a_thread_has_its_time(stage: Stage) {
    let begun = Instant::now();
    let job = stage.app.enqueue(takes_a_moment()).await.unwrap();
    stage.app.worker().run_until_idle().await.unwrap();
    assert_eq!(job.result().await.unwrap(), [2]);
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?} have passed", begun.elapsed());
}

async fn a_body_on_a_thread_that_runs_here_and_now_has_its_time(stage: Stage) {
    assert_eq!(stage.app.run(takes_a_moment().max_time(Duration::from_secs(1))).await.unwrap(), [2]);
}

#[qtask(checkpoint = "each", max_time = "1s", retry = 0)]
async fn numbers(n: u32) -> Vec<u32> {
    for number in 0..n {
        yield_!(number);
    }
}

async fn a_body_that_runs_ahead_of_its_commits_has_its_time(stage: Stage) {
    let job = stage.app.enqueue(numbers(200)).await.unwrap();
    stage.app.worker().run_until_idle().await.unwrap();
    assert_eq!(job.result().await.unwrap().len(), 200);
}

#[qtask]
fn notes_that_it_runs(diary: State<Diary>) -> u32 {
    diary.note("runs");
    a_moment();
    TaskContext::current().attempt()
}

async fn a_stop_waits_for_a_body_on_a_thread(stage: Stage) {
    let job = stage.app.enqueue(notes_that_it_runs()).await.unwrap();
    let worker = stage.app.worker().start().await.unwrap();
    stage.diary.told("runs").await;
    worker.shutdown().await.unwrap();
    let status = job.status().await.unwrap();
    assert_eq!((status.state.name(), status.attempt), ("done", 1));
}

#[qtask]
fn parks_for_ever(diary: State<Diary>) {
    let (_open, never) = mpsc::channel::<()>();
    diary.note("runs");
    _ = never.recv();
}

async fn a_body_that_never_returns_holds_no_clock_once_it_is_given_up(stage: Stage) {
    let job = stage.app.enqueue(parks_for_ever()).await.unwrap();
    let worker = stage.app.worker().start().await.unwrap();
    stage.diary.told("runs").await;
    let stopping = tokio::spawn(worker.shutdown());
    tokio::task::yield_now().await;
    advance(Duration::from_secs(26)).await;
    stopping.await.unwrap().unwrap();
    assert_eq!(job.status().await.unwrap().state.name(), "waiting");
    // This passes by itself, and so does the end of the runtime.
    tokio::time::sleep(Duration::from_secs(3600)).await;
}

async fn handled_later(value: u32) -> u32 {
    tokio::time::sleep(Duration::from_secs(10)).await;
    value + 1
}

#[qtask(generate_handler = handled_later, echo = true)]
fn waits_for_the_runtime(ctx: TaskContext) -> Vec<u32> {
    ctx.sleep_blocking(Duration::from_secs(60));
    let reply = yield_!(1);
    ctx.once_blocking("moment", a_moment);
    yield_!(reply);
}

async fn what_a_body_on_a_thread_waits_for_comes_at_once(stage: Stage) {
    let begun = Instant::now();
    let job = stage.app.enqueue(waits_for_the_runtime()).await.unwrap();
    stage.app.worker().run_until_idle().await.unwrap();
    assert_eq!(job.result().await.unwrap(), [2, 3]);
    let passed = begun.elapsed().as_secs();
    assert!((80..90).contains(&passed), "{passed} seconds have passed");
}

#[qtask(echo = true, max_time = "30s", retry = 0)]
fn sleeps_for_too_long(ctx: TaskContext) {
    ctx.sleep_blocking(Duration::from_secs(31));
}

async fn max_time_passes_while_a_body_on_a_thread_waits(stage: Stage) {
    let job = stage.app.enqueue(sleeps_for_too_long()).await.unwrap();
    stage.app.worker().run_until_idle().await.unwrap();
    let error = job.result().await.unwrap_err().to_string();
    assert!(error.ends_with("the attempt took longer than its max_time of 30s"), "{error}");
}

async fn delays_pass_at_once(stage: Stage) {
    let job = stage.app.enqueue(numbers(3).delay(Duration::from_secs(60))).await.unwrap();
    let worker = stage.app.worker().start().await.unwrap();
    assert_eq!(job.result().await.unwrap(), [0, 1, 2]);
    worker.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_application_that_does_not_go_by_a_paused_clock_is_told_what_to_write() {
    let app = QueueTasks::builder().store("memory:").state(Diary::default()).build().await.unwrap();
    let said = "tokio's clock is paused, and this application goes by the system's, so that delays and time limits would \
                never pass or all at once: give it `.clock(qtasks::Clock::tokio())` when it is built";
    let started = in_time(app.worker().start()).await.map(drop).unwrap_err();
    assert_eq!(started.to_string(), said);
    assert_eq!(in_time(app.worker().run_until_idle()).await.unwrap_err().to_string(), said);
    let app = QueueTasks::builder().store("memory:").state(Diary::default()).clock(Clock::tokio());
    app.build().await.unwrap().worker().run_until_idle().await.unwrap();
}

#[tokio::test]
async fn an_application_on_a_clock_that_goes_is_told_nothing() {
    for clock in [Clock::System, Clock::tokio()] {
        let app = QueueTasks::builder().store("memory:").state(Diary::default()).clock(clock).build().await.unwrap();
        app.worker().run_until_idle().await.unwrap();
    }
}
