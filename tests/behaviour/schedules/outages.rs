//! Ticks at which no worker ran, or the last job still did.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use qtasks::{Missed, Overlap, ScheduleOptions, prelude::*};
use qtasks_tests::{
    Diary,
    edge::{Behind, CarryOut, Edge},
    ledger::Ledger,
};

use super::{World, monday, reports, schedule};

async fn program(world: &World, name: &str, expression: &str, missed: Missed) -> QueueTasks {
    let options = ScheduleOptions::default().missed(missed);
    world.program(|builder| builder.schedule_with(name, reports(name.into()), expression, "UTC", options)).await
}

/// What runs after an outage of two hours, and how many ticks were missed.
async fn after_two_hours(missed: Missed) -> (Vec<String>, u64) {
    let world = World::at("08:59:00");
    let app = program(&world, "late", "*/20 * * * *", missed).await;
    let worker = app.worker().start().await.unwrap();
    world.until("09:01:00").await;
    assert_eq!(world.ran(), ["late 09:00:00"]);
    worker.shutdown().await.unwrap();
    world.until("11:10:00").await;
    let app = program(&world, "late", "*/20 * * * *", missed).await;
    let worker = app.worker().start().await.unwrap();
    world.until("11:11:00").await;
    let late = schedule(&app, "late").await;
    assert_eq!(late.next(1), [monday("11:20:00")]);
    assert_eq!(late.last_missed().is_some(), late.missed() > 0);
    worker.shutdown().await.unwrap();
    (world.ran(), late.missed())
}

#[tokio::test(start_paused = true)]
async fn after_an_outage_of_two_hours_each_policy_does_what_it_says() {
    assert_eq!(after_two_hours(Missed::Skip).await, (vec![], 6));
    assert_eq!(after_two_hours(Missed::Once).await, (vec!["late 11:00:00".to_owned()], 5));
    let all = ["09:20:00", "09:40:00", "10:00:00", "10:20:00", "10:40:00", "11:00:00"];
    assert_eq!(after_two_hours(Missed::All).await, (all.map(|tick| format!("late {tick}")).to_vec(), 0));
}

#[tokio::test(start_paused = true)]
async fn a_deploy_over_the_tick_does_not_lose_it() {
    for (back, ran) in [("09:04:59", vec!["daily 09:00:00"]), ("09:05:01", vec![])] {
        let world = World::at("08:59:00");
        let app = program(&world, "daily", "0 9 * * *", Missed::Skip).await;
        app.worker().start().await.unwrap().shutdown().await.unwrap();
        world.until("08:59:57").await;
        // The first worker has written the schedule, and is gone.
        assert_eq!(schedule(&app, "daily").await.next(1), [monday("09:00:00")]);
        world.until(back).await;
        let worker = app.worker().start().await.unwrap();
        world.until("09:10:00").await;
        assert_eq!(world.ran(), ran, "back at {back}");
        worker.shutdown().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn fifteen_hundred_missed_ticks_all_fire_once() {
    let world = World::at("09:00:00.500");
    let app = program(&world, "seconds", "* * * * * *", Missed::All).await;
    app.worker().start().await.unwrap().shutdown().await.unwrap();
    world.ran();
    world.until("09:25:00.500").await;
    let workers = [app.worker().start().await.unwrap(), app.worker().start().await.unwrap()];
    world.until("09:25:05.500").await;
    for worker in workers {
        worker.shutdown().await.unwrap();
    }
    let ran = world.ran();
    assert_eq!(ran.first().unwrap(), "seconds 09:00:01");
    assert!((1_504..=1_505).contains(&ran.len()), "{} jobs", ran.len());
    let twice = ran.windows(2).find(|two| two[0] == two[1]);
    assert_eq!((twice, schedule(&app, "seconds").await.missed()), (None, 0));
}

/// Runs until the diary has a word.
#[qtask(echo = true)]
async fn lasts(ctx: TaskContext, diary: State<Diary>) {
    diary.note(format!("begins {}", super::shown(ctx.tick())));
    diary.told("end").await;
}

#[tokio::test(start_paused = true)]
async fn while_the_last_job_lives_ticks_are_passed_over() {
    let world = World::at("10:00:30");
    let options = ScheduleOptions::default().overlap(Overlap::Skip);
    let app = world.program(|builder| builder.schedule_with("one", lasts(), "* * * * *", "UTC", options)).await;
    let worker = app.worker().start().await.unwrap();
    world.until("10:03:30").await;
    assert_eq!(world.ran(), ["begins 10:01:00"]);
    assert_eq!(schedule(&app, "one").await.overlapped(), 2);
    world.diary.note("end");
    world.until("10:04:30").await;
    assert_eq!(world.ran(), ["begins 10:04:00", "end"]);
    assert_eq!(schedule(&app, "one").await.overlapped(), 2);
    world.diary.note("end");
    worker.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_tick_that_something_refuses_is_no_job_and_stops_no_other() {
    struct Refuses;
    impl qtasks::Around for Refuses {
        fn enqueue(&self, job: &mut qtasks::NewJobInfo<'_>) -> Result<(), qtasks::Reject> {
            if job.task() == "lasts" { Err(qtasks::Reject::because("not today")) } else { Ok(()) }
        }
    }
    let world = World::at("10:00:30");
    let app = world
        .program(|builder| {
            let builder = builder.around(Refuses).schedule("refused", lasts(), "* * * * *", "UTC");
            builder.schedule("taken", reports("taken".into()), "* * * * *", "UTC")
        })
        .await;
    let worker = app.worker().start().await.unwrap();
    world.until("10:02:30").await;
    assert_eq!(world.ran(), ["taken 10:01:00", "taken 10:02:00"]);
    assert_eq!(schedule(&app, "refused").await.next(1), [monday("10:03:00")]);
    worker.shutdown().await.unwrap();
}

/// A store that refuses some calls which change notes.
#[derive(Clone, Debug, Default)]
struct RefusesNotes(Arc<AtomicUsize>);

impl Edge for RefusesNotes {
    async fn pass<T: Send + 'static>(&self, call: &'static str, carry_out: CarryOut<T>) -> qtasks::Result<T> {
        let refuses = |left: usize| left.checked_sub(1);
        if call == "note" && self.0.fetch_update(Relaxed, Relaxed, refuses).is_ok() {
            return Err(qtasks::Error::Refused { doing: "enqueue a job", source: "it is too large".into() });
        }
        carry_out().await
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_that_the_store_refuses_for_good_holds_up_no_other_schedule() {
    let mut world = World::at("10:00:30");
    let refuses = RefusesNotes::default();
    world.store = Arc::new(Behind::new(refuses.clone(), world.store, &Ledger::default()));
    let app = world
        .program(|builder| {
            let builder = builder.schedule("large", reports("large".into()), "* * * * *", "UTC");
            builder.schedule("small", reports("small".into()), "* * * * *", "UTC")
        })
        .await;
    let worker = app.worker().start().await.unwrap();
    world.until("10:00:59").await;
    // Both together, and then the first of them alone.
    refuses.0.store(2, Relaxed);
    world.until("10:01:30").await;
    assert_eq!(world.ran(), ["small 10:01:00"]);
    assert_eq!(schedule(&app, "large").await.last(), None);
    world.until("10:02:30").await;
    assert_eq!(world.ran(), ["large 10:02:00", "small 10:02:00"]);
    worker.shutdown().await.unwrap();
}
