//! What is wrong with a schedule is said where it is written, and nothing is scheduled.

use std::time::Duration;

use qtasks::{JobId, Result, Schedule, Scope, prelude::*};

use super::{World, reports};

#[tokio::test]
async fn a_wrong_schedule_is_refused_with_what_it_may_be() {
    let app = QueueTasks::open("memory:").await.unwrap();
    let call = || reports("x".into());
    let text = |made: Result<Schedule>| made.unwrap_err().to_string();
    assert_eq!(
        text(app.schedule("a", call(), "0 25 * * *").await),
        "the schedule `a`: `0 25 * * *`: the field of hours takes 0 to 23: `*`, `9`, `9,17`, `9-17`, `*/6`"
    );
    assert_eq!(
        text(app.schedule("a", call(), "0 9 * * *").timezone("Europe/Mosow").await),
        "the schedule `a`: there is no time zone `Europe/Mosow`; did you mean `Europe/Moscow`?"
    );
    let due =
        "a scheduled call has no `id`, `delay` or `at` of its own: each tick enqueues another job, due at the tick";
    assert_eq!(text(app.schedule("a", call().delay(Duration::from_secs(1)), "0 9 * * *").await), due);
    assert_eq!(text(app.schedule("a", call().id(JobId::new()), "0 9 * * *").await), due);
    let large = reports("x".repeat(40_000));
    assert_eq!(
        text(app.schedule("a", large, "0 9 * * *").await),
        "the arguments: 40011 bytes of JSON are more than the limit of 32768; store the data elsewhere and pass its key"
    );
    assert!(text(app.schedule("a b", call(), "0 9 * * *").await).contains("`a b`"));
    assert!(app.schedules().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_schedule_that_is_not_there_cannot_be_paused() {
    let app = QueueTasks::open("memory:").await.unwrap();
    let none = app.pause(Scope::Schedule("none")).await.unwrap_err();
    assert_eq!(none.to_string(), "no schedule of this store is named `none`");
    assert!(!app.resume(Scope::Schedule("none")).await.unwrap() && !app.unschedule("none").await.unwrap());
    app.schedule("one", reports("x".into()), "@daily").await.unwrap();
    let stop = app.pause(Scope::Schedule("one")).stop().await.unwrap_err();
    assert_eq!(stop.to_string(), "a schedule runs no jobs that could stop: pause the task or the queue of its jobs");
    let drain = app.pause(Scope::Schedule("one")).drain().await.unwrap_err();
    assert_eq!(drain.to_string(), "a schedule runs no jobs: drain the task or the queue of its jobs");
}

#[tokio::test]
async fn a_program_with_a_wrong_schedule_is_not_made() {
    let build = |name: &'static str, expression: &'static str, timezone: &'static str| async move {
        let builder = QueueTasks::builder().store("memory:").schedule(name, reports("x".into()), expression, timezone);
        builder.build().await.unwrap_err().to_string()
    };
    assert_eq!(
        build("a", "* * 31 2 *", "UTC").await,
        "the schedule `a`: `* * 31 2 *`: no date fits this schedule, so it would never fire"
    );
    assert_eq!(
        build("a", "@daily", "Asia/Tokio").await,
        "the schedule `a`: there is no time zone `Asia/Tokio`; did you mean `Asia/Tokyo`?"
    );
    assert_eq!(
        build("digest", "@daily", "UTC").await,
        "two schedules are named `digest`; the schedule of a task has the name of the task, so give the other one another"
    );
}

#[tokio::test(start_paused = true)]
async fn a_schedule_in_code_that_runs_cannot_be_removed() {
    let world = World::at("10:00:00");
    let (app, worker) = world.worker_with("held", "@daily").await;
    world.until("10:00:10").await;
    let error = app.unschedule("held").await.unwrap_err().to_string();
    assert_eq!(
        error,
        "the schedule `held` stands in the code of a running worker, which would write it again; pause it, or take it out of the code"
    );
    worker.shutdown().await.unwrap();
    assert!(app.unschedule("held").await.unwrap());
}
