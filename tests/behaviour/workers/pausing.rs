//! What is paused is not started: not by any worker, not from a lease that it has already, and not while the worker cannot know.

use std::{
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use qtasks::{Clock, Error, Pause, Result, Scope, prelude::*, store::Memory};
use qtasks_tests::{
    Diary, Stage,
    edge::{Behind, CarryOut, Edge},
    eventually, in_time,
    ledger::Ledger,
    on_every_store,
};

on_every_store![
    a_paused_queue_is_left_alone_until_it_is_resumed,
    a_paused_task_is_left_alone_in_every_queue,
    while_everything_is_paused_nothing_is_started,
    a_pause_is_seen_with_all_that_was_said_of_it,
    jobs_that_were_leased_ahead_are_given_back,
    what_runs_goes_on_unless_it_is_to_stop,
    a_drain_ends_when_nothing_runs,
    a_pause_in_the_flow_holds_within_a_second,
];

#[qtask]
async fn notes(line: String, diary: State<Diary>) {
    diary.note(line);
}

#[qtask(queue = "mail")]
async fn sends(line: String, diary: State<Diary>) {
    diary.note(line);
}

/// The lines of jobs that ran, in some order.
async fn ran(stage: &Stage) -> Vec<String> {
    stage.work().await;
    let mut lines = stage.diary.lines();
    lines.sort();
    stage.diary.clear();
    lines
}

async fn a_paused_queue_is_left_alone_until_it_is_resumed(stage: Stage) {
    let other = stage.neighbour().await;
    stage.app.enqueue(sends("before".into())).await.unwrap();
    other.pause(Scope::Queue("mail")).await.unwrap();
    stage.app.enqueue(sends("after".into())).await.unwrap();
    stage.app.enqueue(notes("moved".into()).queue("mail")).await.unwrap();
    stage.app.enqueue(notes("elsewhere".into())).await.unwrap();
    assert_eq!(ran(&stage).await, ["elsewhere"]);
    assert!(other.resume(Scope::Queue("mail")).await.unwrap());
    assert_eq!(ran(&stage).await, ["after", "before", "moved"]);
    assert!(!other.resume(Scope::Queue("mail")).await.unwrap(), "it is not paused any more");
}

async fn a_paused_task_is_left_alone_in_every_queue(stage: Stage) {
    stage.app.pause(Scope::Task("notes")).await.unwrap();
    stage.app.enqueue(notes("paused".into())).await.unwrap();
    stage.app.enqueue(notes("paused in mail".into()).queue("mail")).await.unwrap();
    stage.app.enqueue(sends("sent".into())).await.unwrap();
    assert_eq!(ran(&stage).await, ["sent"]);
    stage.app.pause(Scope::Queue("mail")).await.unwrap();
    stage.app.resume(Scope::Task("notes")).await.unwrap();
    assert_eq!(ran(&stage).await, ["paused"], "another pause still holds");
    stage.app.resume(Scope::Queue("mail")).await.unwrap();
    assert_eq!(ran(&stage).await, ["paused in mail"]);
}

async fn while_everything_is_paused_nothing_is_started(stage: Stage) {
    stage.app.pause(Scope::All).await.unwrap();
    let worker = stage.app.worker().queues(["new", "default", "mail"]).start().await.unwrap();
    let jobs = ["default", "new"].map(|queue| notes(queue.into()).queue(queue));
    let jobs = stage.app.enqueue_all(jobs).await.unwrap();
    stage.app.enqueue(sends("c".into())).await.unwrap();
    // A worker that could start them would have: this one is woken by each, and begins with the oldest.
    eventually("the worker holds nothing", async || {
        jobs[0].status().await.unwrap().state.name() == "waiting" && stage.diary.lines().is_empty()
    })
    .await;
    stage.app.resume(Scope::All).await.unwrap();
    for line in ["default", "new", "c"] {
        stage.diary.until(line).await;
    }
    worker.shutdown().await.unwrap();
}

async fn a_pause_is_seen_with_all_that_was_said_of_it(stage: Stage) {
    let (app, other) = (&stage.app, stage.neighbour().await);
    assert_eq!(app.pauses().await.unwrap(), []);
    let hour = Duration::from_secs(3_600);
    let made = app.pause(Scope::Queue("mail")).lasting(hour).because("provider down").by("ann").await.unwrap();
    let over = "2001-01-01T00:00:00Z".parse().unwrap();
    app.pause(Scope::Task("notes")).until(over).await.unwrap();
    let seen = other.pauses().await.unwrap();
    let [Pause { because, by, until, stops: false, .. }] = &seen[..] else { panic!("{seen:?}") };
    assert_eq!((because.as_deref(), by.as_deref()), (Some("provider down"), Some("ann")));
    assert!(until.is_some() && seen[0].scope() == Scope::Queue("mail") && made.scope() == Scope::Queue("mail"));
    other.pause(Scope::Queue("mail")).by("bob").await.unwrap();
    let seen = app.pauses().await.unwrap();
    let [Pause { because: None, by: Some(by), until: None, .. }] = &seen[..] else { panic!("{seen:?}") };
    assert_eq!(by, "bob", "the last word counts");
    let error = app.pause(Scope::Queue("no such")).await.unwrap_err();
    assert_eq!(error.to_string(), "`no such` cannot name a queue: a name is 1 to 128 letters, digits and `_.:-`");
    assert!(app.resume(Scope::Task("")).await.is_err());
}

#[qtask]
async fn waits_for_a_word(diary: State<Diary>) -> u32 {
    diary.note("runs");
    diary.told("go on").await;
    7
}

async fn jobs_that_were_leased_ahead_are_given_back(stage: Stage) {
    // A worker leases ahead what ends soon: so it has learned that these do.
    let worker = stage.app.worker().concurrency(1).start().await.unwrap();
    let quick = stage.app.enqueue_all((0..200).map(|_| notes("quick".into()))).await.unwrap();
    stage.diary.until_times("quick", 200).await;
    let held = stage.app.enqueue(waits_for_a_word()).await.unwrap();
    stage.diary.until("runs").await;
    let ahead = stage.app.enqueue(notes("ahead".into())).await.unwrap();
    // The worker knows of the pause then, and holds no such job.
    stage.app.pause(Scope::Task("notes")).drain().await.unwrap();
    assert_eq!(ahead.status().await.unwrap().state.name(), "waiting");
    stage.diary.note("go on");
    assert_eq!(held.result().await.unwrap(), 7);
    let sent = stage.app.enqueue(sends("sent".into())).await.unwrap();
    sent.result().await.unwrap();
    let status = ahead.status().await.unwrap();
    assert_eq!((status.state.name(), status.failures, stage.diary.count("ahead")), ("waiting", 0, 0));
    stage.app.resume(Scope::Task("notes")).await.unwrap();
    ahead.result().await.unwrap();
    in_time(worker.shutdown()).await.unwrap();
    drop(quick);
}

async fn handled(value: u32, diary: State<Diary>) -> u32 {
    diary.note(format!("handle {value}"));
    value
}

#[qtask(generate_handler = handled, echo = true)]
async fn yields(ctx: TaskContext, diary: State<Diary>) -> Vec<u32> {
    for value in 0..4 {
        yield_!(value);
        if value == 1 && ctx.attempt() == 1 {
            diary.note("waits");
            while !ctx.is_shutting_down() {
                tokio::task::yield_now().await;
            }
        }
    }
}

async fn what_runs_goes_on_unless_it_is_to_stop(stage: Stage) {
    let worker = stage.app.worker().start().await.unwrap();
    let job = stage.app.enqueue(yields()).await.unwrap();
    stage.diary.until("waits").await;
    stage.app.pause(Scope::Task("yields")).await.unwrap();
    stage.app.pause(Scope::Task("notes")).drain().await.unwrap();
    assert_eq!(job.status().await.unwrap().state.name(), "running", "the worker knows of both");
    stage.app.pause(Scope::Task("yields")).stop().await.unwrap();
    eventually("the job is given back", async || job.status().await.unwrap().state.name() == "waiting").await;
    let status = job.status().await.unwrap();
    assert_eq!((status.failures, status.steps, stage.diary.count("handle 2")), (0, 2, 0));
    stage.app.resume(Scope::Task("yields")).await.unwrap();
    assert_eq!(job.result().await.unwrap(), [0, 1, 2, 3]);
    assert_eq!(stage.diary.count("handle 1"), 1);
    in_time(worker.shutdown()).await.unwrap();
}

async fn a_drain_ends_when_nothing_runs(stage: Stage) {
    let worker = stage.app.worker().concurrency(2).start().await.unwrap();
    let job = stage.app.enqueue(waits_for_a_word()).await.unwrap();
    stage.diary.until("runs").await;
    let (app, drained) = (stage.app.clone(), Arc::new(AtomicBool::new(false)));
    let is_drained = drained.clone();
    let draining = tokio::spawn(async move {
        app.pause(Scope::Task("waits_for_a_word")).drain().await.unwrap();
        is_drained.store(true, Relaxed);
    });
    eventually("it is paused", async || !stage.app.pauses().await.unwrap().is_empty()).await;
    let other = stage.app.enqueue(notes("beside".into())).await.unwrap();
    other.result().await.unwrap();
    assert!(!drained.load(Relaxed) && job.status().await.unwrap().state.name() == "running");
    stage.diary.note("go on");
    in_time(draining).await.unwrap();
    assert_eq!(job.status().await.unwrap().state.name(), "done");
    in_time(worker.shutdown()).await.unwrap();
}

/// Notes when it was started, in microseconds.
#[qtask]
async fn starts(diary: State<Diary>) {
    diary.note(microseconds());
}

/// Since the first call of this.
fn microseconds() -> u128 {
    static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
    BEGAN.elapsed().as_micros()
}

async fn a_pause_in_the_flow_holds_within_a_second(stage: Stage) {
    let other = stage.neighbour().await;
    let worker = stage.app.worker().concurrency(4).start().await.unwrap();
    let (flows, from) = (Arc::new(AtomicBool::new(true)), stage.app.clone());
    let flowing = flows.clone();
    let flow = tokio::spawn(async move {
        while flowing.load(Relaxed) {
            from.enqueue_all((0..20).map(|_| starts())).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let count = || stage.diary.lines().len();
    eventually("jobs flow", async || count() > 200).await;
    other.pause(Scope::Task("starts")).await.unwrap();
    let paused = microseconds();
    eventually("the worker knows", async || {
        let before = count();
        tokio::time::sleep(Duration::from_millis(150)).await;
        microseconds() - paused > 1_100_000 && count() == before
    })
    .await;
    flows.store(false, Relaxed);
    flow.await.unwrap();
    let last: u128 = stage.diary.lines().iter().map(|line| line.parse().unwrap()).max().unwrap();
    // A thread that was about to start a body may be late on a machine that is busy.
    let late = 500_000;
    let after = last.saturating_sub(paused);
    assert!(after < 1_000_000 + late, "a job was started {after} us after the pause");
    in_time(worker.shutdown()).await.unwrap();
}

/// A store whose notes cannot be read for a while.
#[derive(Clone, Debug, Default)]
struct Unread(Arc<AtomicBool>);

impl Edge for Unread {
    async fn pass<T: Send + 'static>(&self, call: &'static str, carry_out: CarryOut<T>) -> Result<T> {
        if call == "notes" && self.0.load(Relaxed) {
            return Err(Error::Store { doing: "read notes", source: "it is away".into() });
        }
        carry_out().await
    }
}

#[tokio::test(start_paused = true)]
async fn no_job_is_started_while_a_worker_cannot_know_what_is_paused() {
    let (unread, store) = (Unread::default(), Arc::new(Memory::new()));
    let stage = Stage::on(Arc::new(Behind::new(unread.clone(), store, &Ledger::default()))).await;
    let worker = stage.app.worker().start().await.unwrap();
    stage.app.enqueue(notes("first".into())).await.unwrap();
    stage.diary.until("first").await;
    unread.0.store(true, Relaxed);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let job = stage.app.enqueue(notes("later".into())).await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(stage.diary.count("later"), 0);
    assert!(job.status().await.unwrap().attempt <= 1, "it is not leased again and again");
    unread.0.store(false, Relaxed);
    job.result().await.unwrap();
    worker.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_pause_ends_by_itself() {
    let stage = Stage::in_memory(|builder| builder.clock(Clock::tokio())).await;
    let hour = Duration::from_secs(3_600);
    stage.app.pause(Scope::Queue("default")).lasting(hour).await.unwrap();
    let worker = stage.app.worker().start().await.unwrap();
    let (began, job) = (tokio::time::Instant::now(), stage.app.enqueue(notes("later".into())).await.unwrap());
    tokio::time::sleep(hour - Duration::from_secs(1)).await;
    assert_eq!(stage.diary.lines(), Vec::<String>::new());
    job.result().await.unwrap();
    assert!((hour..hour + Duration::from_secs(2)).contains(&began.elapsed()), "{:?}", began.elapsed());
    worker.shutdown().await.unwrap();
}
