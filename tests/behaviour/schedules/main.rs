//! Schedules: each tick enqueues one job, whatever programs run, stop, and are replaced meanwhile.

mod by_hand;
mod code;
mod outages;
mod stores;
mod wrong;

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use qtasks::{
    Builder, Clock, Schedule, ScheduleOptions, Worker,
    prelude::*,
    store::{Memory, Store},
};
use qtasks_tests::Diary;
use tokio::time::{Instant, sleep_until};

/// Notes the tick for which it runs.
#[qtask(echo = true)]
async fn reports(ctx: TaskContext, line: String, diary: State<Diary>) {
    diary.note(format!("{line} {}", shown(ctx.tick())));
}

fn shown(tick: Option<Timestamp>) -> String {
    tick.map_or_else(|| "by a call".to_owned(), |tick| tick.strftime("%H:%M:%S").to_string())
}

/// A store in memory, and a clock that programs on it share: it is paused, and set to a time of a Monday.
struct World {
    store: Arc<dyn Store>,
    clock: Clock,
    began: Timestamp,
    diary: Diary,
}

impl World {
    fn at(time: &str) -> Self {
        let began = monday(time);
        let clock = Clock::Tokio { start: began, origin: Instant::now() };
        Self { store: Arc::new(Memory::new()), clock, began, diary: Diary::default() }
    }

    /// The same store so much later.
    fn later(&self, time: Duration) -> Self {
        let began = self.began + time;
        let clock = Clock::Tokio { start: began, origin: Instant::now() };
        Self { store: self.store.clone(), clock, began, diary: Diary::default() }
    }

    /// A program with these schedules in its code.
    async fn program(&self, schedules: impl FnOnce(Builder) -> Builder) -> QueueTasks {
        let builder = QueueTasks::builder().store_at(self.store.clone()).clock(self.clock).state(self.diary.clone());
        schedules(builder).build().await.unwrap()
    }

    /// A worker of a program with one schedule in its code.
    async fn worker_with(&self, name: &str, expression: &str) -> (QueueTasks, Worker) {
        let app = self.program(|builder| builder.schedule(name, reports(name.into()), expression, "UTC")).await;
        let worker = app.worker().start().await.unwrap();
        (app, worker)
    }

    /// Waits for a time of this Monday.
    async fn until(&self, time: &str) {
        let Clock::Tokio { origin, .. } = self.clock else { unreachable!("it is made so") };
        let passed = monday(time).duration_since(self.began).unsigned_abs();
        sleep_until(origin + passed).await;
    }

    /// What has run since the last call, in the order of the ticks.
    fn ran(&self) -> Vec<String> {
        let mut lines = self.diary.lines();
        lines.sort();
        self.diary.clear();
        lines
    }
}

fn monday(time: &str) -> Timestamp {
    format!("2026-11-02T{time}Z").parse().unwrap()
}

async fn schedule(app: &QueueTasks, name: &str) -> Schedule {
    app.find_schedule(name).await.unwrap().expect("there is such a schedule")
}

/// At nine in Moscow, on weekdays.
#[qtask(schedule = "0 9 * * MON-FRI", timezone = "Europe/Moscow", missed = "once", echo = true)]
async fn digest(ctx: TaskContext, diary: State<Diary>) {
    diary.note(format!("digest {}", shown(ctx.tick())));
}

#[tokio::test(start_paused = true)]
async fn a_task_runs_at_the_times_in_its_attribute() {
    let world = World::at("05:59:50");
    let app = world.program(|builder| builder).await;
    let worker = app.worker().start().await.unwrap();
    world.until("05:59:59").await;
    assert_eq!(world.ran(), Vec::<String>::new());
    world.until("06:00:01").await;
    assert_eq!(world.ran(), ["digest 06:00:00"]);
    let digest = schedule(&app, "digest").await;
    assert_eq!(digest.to_string(), "digest: at 09:00, Monday to Friday (Europe/Moscow)");
    assert_eq!(digest.next(1)[0].to_string(), "2026-11-03T06:00:00Z");
    assert_eq!((digest.last().unwrap().0, digest.missed(), digest.is_in_code()), (monday("06:00:00"), 0, true));
    worker.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn each_tick_fires_once_on_however_many_workers() {
    let world = World::at("09:55:00");
    let mut workers = Vec::new();
    for _ in 0..3 {
        workers.push(world.worker_with("each", "*/10 * * * *").await);
    }
    world.until("11:01:00").await;
    let ticks = ["10:00:00", "10:10:00", "10:20:00", "10:30:00", "10:40:00", "10:50:00", "11:00:00"];
    assert_eq!(world.ran(), ticks.map(|tick| format!("each {tick}")));
    let each = schedule(&workers[0].0, "each").await;
    assert_eq!((each.missed(), each.next(2)), (0, vec![monday("11:10:00"), monday("11:20:00")]));
    for (_, worker) in workers {
        worker.shutdown().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn when_the_worker_that_fires_is_gone_the_next_tick_fires_within_a_second() {
    let world = World::at("10:00:30");
    let mut workers = Vec::new();
    for _ in 0..3 {
        workers.push(world.worker_with("moves", "* * * * *").await);
    }
    for minute in ["10:01", "10:02", "10:03"] {
        world.until(&format!("{minute}:01")).await;
        assert_eq!(world.ran(), [format!("moves {minute}:00")]);
        let (_, worker) = workers.pop().unwrap();
        worker.shutdown().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn jitter_makes_jobs_due_later_and_never_at_another_tick() {
    let world = World::at("10:00:30");
    let jitter = ScheduleOptions::default().jitter(Duration::from_secs(30));
    let app = world
        .program(|builder| builder.schedule_with("spread", reports("spread".into()), "* * * * *", "UTC", jitter))
        .await;
    let worker = app.worker().start().await.unwrap();
    world.until("10:01:00.500").await;
    let job = app.any_job(schedule(&app, "spread").await.last().unwrap().1).await.unwrap();
    let status = job.status().await.unwrap();
    assert_eq!(status.state.name(), "waiting", "it can be seen from its tick on");
    world.until("10:01:31").await;
    assert_eq!(world.ran(), ["spread 10:01:00"]);
    worker.shutdown().await.unwrap();
}
