//! Schedules in the code of programs that change, one after the other or at the same time.

use std::time::Duration;

use qtasks::{Error, prelude::*};
use tokio::time::sleep;

use super::{World, monday, reports, schedule};

#[tokio::test(start_paused = true)]
async fn a_schedule_that_has_left_the_code_stops_and_is_forgotten_after_a_week() {
    let world = World::at("10:00:30");
    let (_, old) = world.worker_with("gone", "* * * * *").await;
    let (app, new) = world.worker_with("stays", "* * * * *").await;
    world.until("10:01:30").await;
    assert_eq!(world.ran(), ["gone 10:01:00", "stays 10:01:00"]);
    old.shutdown().await.unwrap();
    world.until("10:03:30").await;
    assert_eq!(world.ran(), ["stays 10:02:00", "stays 10:03:00"]);
    let gone = schedule(&app, "gone").await;
    assert!(gone.left().is_some_and(|left| left < monday("10:03:30")), "{:?}", gone.left());
    assert_eq!((gone.next(3).len(), gone.is_in_code()), (0, true));
    new.shutdown().await.unwrap();
    for (days, is_there) in [(6, true), (8, false)] {
        let (app, worker) = world.later(Duration::from_secs(days * 86_400)).worker_with("stays", "* * * * *").await;
        sleep(Duration::from_secs(90)).await;
        assert_eq!(app.find_schedule("gone").await.unwrap().is_some(), is_there, "after {days} days");
        worker.shutdown().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_schedule_that_comes_back_into_the_code_goes_on() {
    let world = World::at("10:00:30");
    let (_, old) = world.worker_with("back", "* * * * *").await;
    let (app, other) = world.worker_with("stays", "0 0 1 1 *").await;
    old.shutdown().await.unwrap();
    world.until("10:03:30").await;
    assert!(schedule(&app, "back").await.left().is_some());
    let (_, rolled_back) = world.worker_with("back", "* * * * *").await;
    world.until("10:04:30").await;
    assert_eq!(world.ran(), ["back 10:03:00", "back 10:04:00"], "the tick of this minute was not late");
    assert_eq!((schedule(&app, "back").await.left(), schedule(&app, "back").await.missed()), (None, 2));
    for worker in [other, rolled_back] {
        worker.shutdown().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn in_a_deploy_the_program_that_started_last_says_when() {
    let world = World::at("10:00:30");
    let (app, old) = world.worker_with("moved", "0,10,20,30 * * * *").await;
    world.until("10:01:00").await;
    assert_eq!(schedule(&app, "moved").await.next(1), [monday("10:10:00")]);
    let (_, new) = world.worker_with("moved", "5,15,25 * * * *").await;
    world.until("10:02:00").await;
    assert_eq!(schedule(&app, "moved").await.next(1), [monday("10:05:00")], "while both run");
    world.until("10:11:00").await;
    assert_eq!(world.ran(), ["moved 10:05:00"]);
    // The deploy is rolled back.
    new.shutdown().await.unwrap();
    world.until("10:21:00").await;
    assert_eq!(world.ran(), ["moved 10:20:00"]);
    assert_eq!(schedule(&app, "moved").await.missed(), 0);
    old.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_schedule_that_is_renamed_in_a_deploy_goes_on_under_its_new_name() {
    let world = World::at("10:00:30");
    let (_, old) = world.worker_with("before", "* * * * *").await;
    world.until("10:01:30").await;
    let (app, new) = world.worker_with("after", "* * * * *").await;
    world.until("10:02:30").await;
    assert_eq!(world.ran(), ["after 10:02:00", "before 10:01:00", "before 10:02:00"], "while both run, both fire");
    old.shutdown().await.unwrap();
    world.until("10:04:30").await;
    assert_eq!(world.ran(), ["after 10:03:00", "after 10:04:00"]);
    assert!(schedule(&app, "before").await.left().is_some() && schedule(&app, "after").await.left().is_none());
    new.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_deploy_that_changes_nothing_keeps_the_next_tick_and_what_was_done() {
    let world = World::at("10:00:30");
    let (_, old) = world.worker_with("same", "*/10 * * * *").await;
    world.until("10:19:59").await;
    old.shutdown().await.unwrap();
    world.until("10:20:02").await;
    let (app, new) = world.worker_with("same", "*/10 * * * *").await;
    world.until("10:21:00").await;
    assert_eq!(world.ran(), ["same 10:10:00", "same 10:20:00"]);
    assert_eq!(schedule(&app, "same").await.missed(), 0);
    new.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_an_operator_puts_in_the_place_of_the_code_holds_until_it_is_removed() {
    let world = World::at("10:00:30");
    let (app, worker) = world.worker_with("fixed", "*/10 * * * *").await;
    world.until("10:01:00").await;
    let error = app.unschedule("fixed").await.unwrap_err();
    assert!(matches!(error, Error::InCode { .. }), "{error}");
    app.schedule("fixed", reports("operator".into()), "*/3 * * * *").await.unwrap();
    world.until("10:04:00").await;
    assert_eq!(world.ran(), ["operator 10:03:00"]);
    assert!(!schedule(&app, "fixed").await.is_in_code());
    assert!(app.unschedule("fixed").await.unwrap());
    world.until("10:11:00").await;
    assert_eq!(world.ran(), ["fixed 10:10:00"]);
    worker.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_schedule_in_the_store_fires_on_workers_that_know_its_task() {
    let world = World::at("10:00:30");
    let app: QueueTasks = world.program(|builder| builder).await;
    let stored =
        app.schedule("tenant-42", reports("tenant".into()).queue("reports"), "30 19 * * *").timezone("Asia/Tokyo");
    let stored = stored.await.unwrap();
    assert_eq!((stored.queue(), stored.task(), stored.timezone()), ("reports", "reports", "Asia/Tokyo"));
    let worker = app.worker().queues(["reports"]).start().await.unwrap();
    world.until("10:31:00").await;
    assert_eq!(world.ran(), ["tenant 10:30:00"]);
    // The same call again changes nothing; another one has its next tick after now.
    let call = || reports("tenant".into()).queue("reports");
    let again = app.schedule("tenant-42", call(), "30 19 * * *").timezone("Asia/Tokyo").await.unwrap();
    assert_eq!(again.last().unwrap().0, monday("10:30:00"));
    let changed = app.schedule("tenant-42", call(), "*/20 * * * *").await.unwrap();
    assert_eq!((changed.next(1), changed.last().unwrap().0), (vec![monday("10:40:00")], monday("10:30:00")));
    assert!(app.unschedule("tenant-42").await.unwrap() && !app.unschedule("tenant-42").await.unwrap());
    world.until("11:00:00").await;
    assert_eq!(world.ran(), Vec::<String>::new());
    worker.shutdown().await.unwrap();
}
