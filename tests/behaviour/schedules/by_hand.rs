//! What an operator does with a schedule: pause it, run it now, catch up on its ticks.

use std::time::Duration;

use qtasks::Scope;

use super::{World, monday, schedule};

#[tokio::test(start_paused = true)]
async fn ticks_in_a_pause_are_neither_fired_nor_missed() {
    let world = World::at("10:00:30");
    let (app, worker) = world.worker_with("held", "* * * * *").await;
    world.until("10:01:30").await;
    app.pause(Scope::Schedule("held")).because("the figures are wrong").by("ann").await.unwrap();
    let held = schedule(&app, "held").await;
    let expected = "the schedule `held` is paused since 2026-11-02T10:01:30Z by ann: the figures are wrong";
    assert_eq!((held.pause().unwrap().to_string(), held.next(1)), (expected.to_owned(), vec![]));
    assert_eq!(app.pauses().await.unwrap().len(), 1);
    world.until("10:04:30").await;
    assert_eq!(world.ran(), ["held 10:01:00"]);
    assert!(app.resume(Scope::Schedule("held")).await.unwrap() && !app.resume(Scope::Schedule("held")).await.unwrap());
    world.until("10:05:30").await;
    assert_eq!((world.ran(), schedule(&app, "held").await.missed()), (vec!["held 10:05:00".to_owned()], 0));
    worker.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_schedule_says_why_it_does_not_fire() {
    let world = World::at("10:00:30");
    let (app, worker) = world.worker_with("asked", "* * * * *").await;
    world.until("10:00:40").await;
    let why = async || schedule(&app, "asked").await.why().await.unwrap().to_string();
    assert_eq!(why().await, "it fires next at 2026-11-02T10:01:00Z");
    app.pause(Scope::Task("reports")).await.unwrap();
    assert_eq!(why().await, "it fires, and its jobs wait: the task `reports` is paused since 2026-11-02T10:00:40Z");
    app.pause(Scope::Schedule("asked")).await.unwrap();
    assert_eq!(why().await, "the schedule `asked` is paused since 2026-11-02T10:00:40Z");
    app.resume(Scope::Schedule("asked")).await.unwrap();
    worker.shutdown().await.unwrap();
    assert_eq!(why().await, "no running worker has it in its code");
    let (_, other) = world.worker_with("other", "* * * * *").await;
    world.until("10:02:30").await;
    assert!(
        why().await.starts_with("since 2026-11-02T10:0")
            && why().await.ends_with(" no running worker has it in its code")
    );
    other.shutdown().await.unwrap();
    app.schedule("stored", super::reports("x".into()), "@daily").await.unwrap();
    let stored = schedule(&app, "stored").await.why().await.unwrap().to_string();
    assert_eq!(stored, "no running worker knows its task `reports`");
}

#[tokio::test(start_paused = true)]
async fn a_pause_ends_by_itself_and_survives_a_deploy() {
    let world = World::at("10:00:30");
    let (app, old) = world.worker_with("rests", "* * * * *").await;
    world.until("10:00:40").await;
    app.pause(Scope::Schedule("rests")).lasting(Duration::from_secs(150)).await.unwrap();
    assert_eq!(schedule(&app, "rests").await.next(1), [monday("10:04:00")]);
    old.shutdown().await.unwrap();
    world.until("10:02:00").await;
    let (app, new) = world.worker_with("rests", "*/2 * * * *").await;
    world.until("10:02:30").await;
    assert!(schedule(&app, "rests").await.pause().is_some(), "the definition has changed, and the pause has not");
    world.until("10:04:30").await;
    assert_eq!(world.ran(), ["rests 10:04:00"]);
    assert!(schedule(&app, "rests").await.pause().is_none() && app.pauses().await.unwrap().is_empty());
    new.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_ends_while_no_worker_runs_ends_at_its_time() {
    let world = World::at("10:00:30");
    let (app, old) = world.worker_with("rests", "*/2 * * * *").await;
    world.until("10:00:40").await;
    app.pause(Scope::Schedule("rests")).until(monday("10:03:00")).await.unwrap();
    old.shutdown().await.unwrap();
    world.until("10:05:00").await;
    let (app, new) = world.worker_with("rests", "*/2 * * * *").await;
    world.until("10:06:30").await;
    assert_eq!(world.ran(), ["rests 10:04:00", "rests 10:06:00"]);
    assert_eq!(schedule(&app, "rests").await.missed(), 0, "the tick of 10:02 was in the pause");
    new.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_runs_now_runs_beside_the_ticks() {
    let world = World::at("10:00:30");
    let (app, worker) = world.worker_with("now", "* * * * *").await;
    world.until("10:00:40").await;
    let now = schedule(&app, "now").await;
    let [one, two] = [now.run_now().await.unwrap(), now.run_now().await.unwrap()];
    assert_ne!(one.id(), two.id());
    one.result().await.unwrap();
    two.result().await.unwrap();
    world.until("10:01:30").await;
    assert_eq!(world.ran(), ["now 10:00:40", "now 10:00:40", "now 10:01:00"]);
    assert_eq!(schedule(&app, "now").await.last().unwrap().0, monday("10:01:00"));
    worker.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_backfill_makes_up_for_ticks_and_can_be_done_again() {
    let world = World::at("10:00:30");
    let (app, worker) = world.worker_with("filled", "*/10 * * * *").await;
    world.until("10:00:40").await;
    let filled = schedule(&app, "filled").await;
    let times = monday("09:00:00")..monday("09:30:00");
    let ticks = ["09:00:00", "09:10:00", "09:20:00"];
    assert_eq!(filled.ticks(times.clone()).unwrap().collect::<Vec<_>>(), ticks.map(monday));
    assert_eq!(filled.backfill(times.clone()).await.unwrap(), 3);
    world.until("10:01:00").await;
    assert_eq!(world.ran(), ticks.map(|tick| format!("filled {tick}")));
    assert_eq!(filled.backfill(times).await.unwrap(), 3);
    world.until("10:11:00").await;
    assert_eq!(world.ran(), ["filled 10:10:00"], "no tick has a second job");
    let found = app.find("schedule:filled order:oldest").await.unwrap();
    assert_eq!(found.jobs.len(), 4);
    assert_eq!(app.find("schedule:digest").await.unwrap().jobs, []);
    worker.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_backfill_of_thousands_is_enqueued_in_parts() {
    let world = World::at("10:00:30");
    let (app, worker) = world.worker_with("seconds", "* * * * * *").await;
    world.until("10:00:31.5").await;
    app.pause(Scope::All).await.unwrap();
    let seconds = schedule(&app, "seconds").await;
    assert_eq!(seconds.backfill(monday("08:00:00")..monday("08:41:40")).await.unwrap(), 2_500);
    assert_eq!(seconds.backfill(monday("08:00:00")..monday("08:00:00")).await.unwrap(), 0);
    worker.shutdown().await.unwrap();
}
