//! Schedules on each store, by its real clock.

use std::collections::BTreeSet;

use jiff::Timestamp;
use qtasks::{Error, Missed, Scope, prelude::*};
use qtasks_tests::{Diary, Stage, eventually, in_time, on_every_store};

on_every_store![two_programs_fire_each_second_once, an_operator_sees_and_changes_the_schedules_of_another_program,];

#[qtask(echo = true)]
async fn seconds(ctx: TaskContext, diary: State<Diary>) {
    diary.note(ctx.tick().expect("a schedule has enqueued it"));
}

async fn two_programs_fire_each_second_once(stage: Stage) {
    let other = stage.neighbour().await;
    let made = stage.app.schedule("seconds", seconds(), "* * * * * *").missed(Missed::All).await.unwrap();
    let first = made.next(1)[0];
    let workers = [stage.app.worker().start().await.unwrap(), other.worker().start().await.unwrap()];
    eventually("five ticks have fired", async || stage.diary.lines().len() >= 5).await;
    assert!(other.unschedule("seconds").await.unwrap());
    for worker in workers {
        in_time(worker.shutdown()).await.unwrap();
    }
    stage.work().await;
    let lines = stage.diary.lines();
    let ticks: BTreeSet<Timestamp> = lines.iter().map(|line| line.parse().unwrap()).collect();
    assert_eq!(ticks.len(), lines.len(), "each once: {lines:?}");
    let expected: BTreeSet<_> =
        (0..ticks.len() as i64).map(|number| first + jiff::SignedDuration::from_secs(number)).collect();
    assert_eq!(ticks, expected, "none is lost");
}

async fn an_operator_sees_and_changes_the_schedules_of_another_program(stage: Stage) {
    let operator = stage.neighbour().await;
    stage.app.schedule("yearly", seconds(), "@yearly").timezone("Asia/Tokyo").await.unwrap();
    let yearly = operator.find_schedule("yearly").await.unwrap().unwrap();
    assert_eq!(yearly.to_string(), "yearly: at 00:00, on day 1 of the month, in January (Asia/Tokyo)");
    let names: Vec<_> = operator.schedules().await.unwrap().iter().map(|schedule| schedule.name().to_owned()).collect();
    assert!(names.contains(&"yearly".to_owned()), "{names:?}");
    operator.pause(Scope::Schedule("yearly")).by("ann").await.unwrap();
    let paused = stage.app.find_schedule("yearly").await.unwrap().unwrap();
    assert_eq!(paused.pause().unwrap().by.as_deref(), Some("ann"));
    let job = yearly.run_now().await.unwrap();
    yearly.backfill("2020-01-01T00:00:00Z".parse().unwrap().."2023-01-01T00:00:00Z".parse().unwrap()).await.unwrap();
    stage.work().await;
    assert_eq!(job.status().await.unwrap().state.name(), "done");
    let mut ticks = stage.diary.lines();
    ticks.sort();
    assert_eq!(ticks[..3], ["2020-12-31T15:00:00Z", "2021-12-31T15:00:00Z", "2022-12-31T15:00:00Z"]);
    assert_eq!(operator.find("schedule:yearly").await.unwrap().jobs.len(), 4);
    assert!(operator.resume(Scope::Schedule("yearly")).await.unwrap());
    assert!(stage.app.unschedule("yearly").await.unwrap());
    let error = operator.pause(Scope::Schedule("yearly")).await.unwrap_err();
    assert!(matches!(error, Error::NoSuchSchedule { .. }), "{error}");
}
