//! What a program puts around the attempts of its jobs, and before all that it enqueues.

mod door;

use std::{
    result,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use jiff::Timestamp;
use qtasks::{
    Around, Ended, Next,
    job::{Ending, Job, State as JobState, WorkerId},
    prelude::*,
    store::{Ask, Memory, Store, Suspects},
};
use qtasks_tests::{Diary, NotesDrop, Place, Stage, eventually, in_time};

const HOUR: Duration = Duration::from_secs(3_600);

/// A store in memory whose application has something around its attempts.
async fn stage(around: impl FnOnce(qtasks::Builder, &Diary) -> qtasks::Builder) -> Stage {
    let diary = Diary::default();
    let store = Arc::new(Memory::new());
    // One of the tasks here takes a state that comes with its attempts.
    let builder = QueueTasks::builder().store_at(store.clone()).state(diary.clone()).provides::<Tenant>();
    let app = around(builder, &diary).build().await.unwrap();
    Stage { app, diary, store, place: Place::memory() }
}

/// Notes when an attempt begins and how it ended, with its name.
struct Notes(&'static str, Diary);

impl Around for Notes {
    async fn attempt(&self, job: &Job, next: Next<'_>) -> Ended {
        self.1.note(format!("{} before {} {}", self.0, job.call.task, job.standing.attempt));
        let ended = next.run().await;
        self.1.note(format!("{} after: {ended}", self.0));
        ended
    }

    async fn ended(&self, job: &Job) {
        let JobState::Dead { error } = &job.standing.state else { panic!("{job:?}") };
        self.1.note(format!("{} hears of {}: {error}", self.0, job.call.task));
    }
}

/// Does what its function makes of an attempt.
struct Does<F>(F);

impl<F: Fn(&Job) -> Option<Ended> + Send + Sync + 'static> Around for Does<F> {
    async fn attempt(&self, job: &Job, next: Next<'_>) -> Ended {
        match (self.0)(job) {
            Some(ended) => ended,
            None => next.run().await,
        }
    }
}

fn noted(value: u32, diary: State<Diary>) -> u32 {
    diary.note(format!("handle {value}"));
    value
}

#[qtask(generate_handler = noted)]
async fn enclosed(n: u32) -> Vec<u32> {
    for value in 0..n {
        yield_!(value);
    }
}

#[qtask(generate_handler = noted)]
fn enclosed_on_a_thread(n: u32) -> Vec<u32> {
    for value in 0..n {
        yield_!(value);
    }
}

#[tokio::test]
async fn the_first_of_several_is_outermost() {
    let stage =
        stage(|builder, diary| builder.around(Notes("outer", diary.clone())).around(Notes("inner", diary.clone())))
            .await;
    let job = stage.app.enqueue(enclosed(1)).await.unwrap();
    stage.work().await;
    assert_eq!(job.result().await.unwrap(), [0]);
    let attempt = |name| ["outer before", "inner before"].map(|line| format!("{line} {name} 1")).into_iter();
    let rest = ["handle 0", "inner after: done", "outer after: done"].map(str::to_owned);
    assert_eq!(stage.diary.lines(), attempt("enclosed").chain(rest.clone()).collect::<Vec<_>>());
    stage.diary.clear();
    let job = stage.app.enqueue(enclosed_on_a_thread(1)).await.unwrap();
    stage.work().await;
    assert_eq!(job.result().await.unwrap(), [0]);
    assert_eq!(stage.diary.lines(), attempt("enclosed_on_a_thread").chain(rest.clone()).collect::<Vec<_>>());
    stage.diary.clear();
    assert_eq!(stage.app.run(enclosed(1)).await.unwrap(), [0]);
    assert_eq!(stage.diary.lines(), attempt("enclosed").chain(rest).collect::<Vec<_>>(), "here and now too");
}

#[tokio::test]
async fn an_attempt_can_be_put_off_without_a_failure_and_without_its_body() {
    let stage = stage(|builder, _| builder.around(Does(|_: &Job| Some(Ended::snooze(HOUR))))).await;
    let job = stage.app.enqueue(enclosed(1)).await.unwrap();
    stage.work().await;
    let status = job.status().await.unwrap();
    assert!(matches!(status.state, JobState::Waiting { due, .. } if due > Timestamp::now()), "{status:?}");
    assert_eq!((status.attempt, status.failures, status.steps), (1, 0, 0));
    assert_eq!(status.attempts[0].ending, Ending::Snoozed);
    assert_eq!(stage.diary.lines(), [""; 0]);
    let error = stage.app.run(enclosed(1)).await.unwrap_err().to_string();
    assert_eq!(error, "the task `enclosed` failed: snoozed");
}

#[tokio::test]
async fn an_attempt_can_be_ended_in_any_way_but_well() {
    type End = fn() -> Ended;
    let ends: [(&str, End); 3] = [
        ("dead", || Ended::from(TaskError::discard("not for us"))),
        ("cancelled", || Ended::from(TaskError::cancel("not for us"))),
        ("waiting", || Ended::failed("not for us")),
    ];
    for (state, end) in ends {
        let stage = stage(|builder, _| builder.around(Does(move |_: &Job| Some(end())))).await;
        let job = stage.app.enqueue(enclosed(1)).await.unwrap();
        stage.work().await;
        let status = job.status().await.unwrap();
        assert_eq!(status.state.name(), state);
        assert_eq!(status.failures, u32::from(state == "waiting"));
        assert_eq!(stage.diary.lines(), [""; 0]);
    }
}

#[qtask(retry = 0)]
async fn enclosed_failing(n: u32) -> result::Result<Vec<u32>, String> {
    for value in 0..n {
        yield_!(value);
    }
    Err("the end".to_owned())
}

#[qtask(retry = 0, max_time = "10ms")]
async fn enclosed_for_ever() -> u32 {
    std::future::pending().await
}

#[qtask(retry = 0)]
fn enclosed_panicking() -> u32 {
    panic!("{}", "out of order")
}

#[qtask]
async fn enclosed_leaving(how: u8) -> result::Result<(), TaskError> {
    Err(match how {
        0 => TaskError::snooze(HOUR),
        1 => TaskError::cancel("no need"),
        _ => TaskError::discard("no use"),
    })
}

#[tokio::test]
async fn what_stands_around_sees_how_each_attempt_ended() {
    let stage = stage(|builder, diary| builder.around(Notes("it", diary.clone()))).await;
    let app = &stage.app;
    app.enqueue(enclosed_failing(1)).await.unwrap();
    app.enqueue(enclosed_for_ever()).await.unwrap();
    app.enqueue(enclosed_panicking()).await.unwrap();
    app.enqueue_all((0..3).map(enclosed_leaving)).await.unwrap();
    app.enqueue_json("enclosed", &serde_json::json!({ "n": "many" })).await.unwrap();
    in_time(app.worker().concurrency(1).run_until_idle()).await.unwrap();
    let lines = stage.diary.lines();
    let after: Vec<_> = lines.iter().filter_map(|line| line.strip_prefix("it after: ")).collect();
    assert_eq!(
        after[..6],
        [
            "failed: the end",
            "failed: the attempt took longer than its max_time of 10ms",
            "failed: the task panicked: out of order",
            "snoozed",
            "cancelled: no need",
            "discarded: no use",
        ]
    );
    assert!(after[6].starts_with("failed: the stored arguments cannot be read as `enclosed`"), "{after:?}");
}

/// Turns a failure into a delay.
struct Forgives;

impl Around for Forgives {
    async fn attempt(&self, _job: &Job, next: Next<'_>) -> Ended {
        let ended = next.run().await;
        if matches!(ended.ending(), Ending::Failed { .. }) { Ended::snooze(HOUR) } else { ended }
    }
}

#[tokio::test]
async fn a_failure_can_be_forgiven_and_the_steps_are_kept() {
    let stage = stage(|builder, _| builder.around(Forgives)).await;
    let job = stage.app.enqueue(enclosed_failing(2)).await.unwrap();
    stage.work().await;
    let status = job.status().await.unwrap();
    assert_eq!((status.state.name(), status.failures, status.steps), ("waiting", 0, 2));
}

/// Panics before or after the attempt.
struct Panics {
    after: bool,
}

impl Around for Panics {
    async fn attempt(&self, _job: &Job, next: Next<'_>) -> Ended {
        if !self.after {
            panic!("{}", "around");
        }
        let _ended = next.run().await;
        panic!("{}", "around")
    }
}

#[tokio::test]
async fn a_panic_around_an_attempt_is_a_failure_of_that() {
    for (after, steps) in [(false, 0), (true, 1)] {
        let stage = stage(|builder, _| builder.around(Panics { after })).await;
        let job = stage.app.enqueue(enclosed(1)).await.unwrap();
        stage.work().await;
        let status = job.status().await.unwrap();
        assert_eq!((status.state.name(), status.failures, status.steps), ("waiting", 1, steps));
        assert_eq!(status.attempts[0].ending, Ending::Failed { error: "the task panicked: around".into() });
        let error = stage.app.run(enclosed(1)).await.unwrap_err().to_string();
        assert_eq!(error, "the task `enclosed` failed: the task panicked: around");
    }
}

#[qtask(generate_handler = noted)]
async fn enclosed_and_stays(diary: State<Diary>) -> Vec<u32> {
    let _durable: u32 = yield_!(0);
    let _guard = NotesDrop(diary.clone(), "dropped");
    diary.note("stays");
    diary.told("go on").await;
    yield_!(1);
}

/// Gives an attempt up when its body says that it stays.
struct Impatient(Diary);

impl Around for Impatient {
    async fn attempt(&self, _job: &Job, next: Next<'_>) -> Ended {
        tokio::select! {
            ended = next.run() => ended,
            () = self.0.told("stays") => Ended::snooze(HOUR),
        }
    }
}

#[tokio::test]
async fn an_attempt_that_is_given_up_half_way_is_stopped_and_keeps_its_steps() {
    let stage = stage(|builder, diary| builder.around(Impatient(diary.clone()))).await;
    let job = stage.app.enqueue(enclosed_and_stays()).await.unwrap();
    stage.work().await;
    stage.diary.until("dropped").await;
    let status = job.status().await.unwrap();
    assert_eq!((status.state.name(), status.failures, status.steps), ("waiting", 0, 1));
    assert_eq!(stage.diary.count("handle 1"), 0);
}

#[tokio::test]
async fn what_stands_around_a_cancelled_body_sees_that_the_lease_is_lost() {
    let stage = stage(|builder, diary| builder.around(Notes("it", diary.clone()))).await;
    let worker = stage.app.worker().start().await.unwrap();
    let job = stage.app.enqueue(enclosed_and_stays()).await.unwrap();
    stage.diary.until("stays").await;
    job.cancel().await.unwrap();
    stage.diary.until("it after: lost").await;
    assert!(stage.diary.count("dropped") == 1);
    assert_eq!(job.status().await.unwrap().state.name(), "cancelled");
    worker.shutdown().await.unwrap();
}

#[tokio::test]
async fn what_stands_around_a_body_that_is_given_back_sees_that_and_cannot_make_it_a_failure() {
    let stage = stage(|builder, diary| builder.around(Blames).around(Notes("it", diary.clone()))).await;
    let worker = stage.app.worker().grace(Duration::ZERO).start().await.unwrap();
    let job = stage.app.enqueue(enclosed_and_stays()).await.unwrap();
    stage.diary.until("stays").await;
    worker.shutdown().await.unwrap();
    assert_eq!(stage.diary.count("it after: given back"), 1);
    let status = job.status().await.unwrap();
    assert_eq!((status.state.name(), status.failures, status.steps), ("waiting", 0, 1));
    assert_eq!(status.attempts[0].ending, Ending::Released);
}

/// Makes a failure of every attempt.
struct Blames;

impl Around for Blames {
    async fn attempt(&self, _job: &Job, next: Next<'_>) -> Ended {
        let _ended = next.run().await;
        Ended::failed("blamed")
    }
}

/// Never goes on, before or after the attempt.
struct Hangs {
    after: bool,
    diary: Diary,
}

impl Around for Hangs {
    async fn attempt(&self, _job: &Job, next: Next<'_>) -> Ended {
        if self.after {
            let _ended = next.run().await;
        }
        self.diary.note("hangs");
        std::future::pending().await
    }
}

#[tokio::test]
async fn what_hangs_around_an_attempt_holds_up_no_worker_that_stops() {
    for (after, state) in [(false, "waiting"), (true, "done")] {
        let stage = stage(|builder, diary| builder.around(Hangs { after, diary: diary.clone() })).await;
        let worker = stage.app.worker().grace(Duration::ZERO).start().await.unwrap();
        let job = stage.app.enqueue(enclosed(1)).await.unwrap();
        stage.diary.until("hangs").await;
        in_time(worker.shutdown()).await.unwrap();
        let status = job.status().await.unwrap();
        assert_eq!((status.state.name(), status.failures), (state, 0), "what the body came to counts");
    }
}

/// A state of its own for each attempt.
struct Tenant(u64);

struct Tenants(AtomicU64);

impl Around for Tenants {
    async fn attempt(&self, job: &Job, next: Next<'_>) -> Ended {
        if job.call.arg::<bool>("known").unwrap_or(false) {
            return next.with_extension(Tenant(self.0.fetch_add(1, Relaxed))).run().await;
        }
        next.run().await
    }
}

fn of_tenant(value: u64, tenant: State<Tenant>) -> u64 {
    value + tenant.0
}

#[qtask(generate_handler = of_tenant, retry = 0)]
async fn for_a_tenant(known: bool, tenant: State<Tenant>) -> Vec<u64> {
    assert!(known);
    yield_!(tenant.0 * 100);
}

#[tokio::test]
async fn bodies_and_handlers_get_what_is_passed_on_to_their_attempt() {
    let stage = stage(|builder, _| builder.around(Tenants(AtomicU64::new(5)))).await;
    let jobs = stage.app.enqueue_all([true, true, false].map(for_a_tenant)).await.unwrap();
    in_time(stage.app.worker().queues(["default"]).concurrency(1).run_until_idle()).await.unwrap();
    assert_eq!(jobs[0].result().await.unwrap(), [505]);
    assert_eq!(jobs[1].result().await.unwrap(), [606]);
    let error = jobs[2].result().await.unwrap_err().to_string();
    assert!(error.ends_with("which was promised by `provides`") && error.contains("Tenant"), "{error}");
    assert_eq!(stage.app.run(for_a_tenant(true)).await.unwrap(), [707]);
    let error = stage.app.run(for_a_tenant(false)).await.unwrap_err().to_string();
    assert!(error.ends_with("which was promised by `provides`"), "{error}");
}

#[qtask(retry = 1)]
async fn kills_its_worker() -> u32 {
    std::future::pending().await
}

/// Leases the job that is due to a worker that is gone, as a suspect that has to answer for its loss.
async fn lost_again(store: &Arc<dyn Store>) {
    let worker = WorkerId::new();
    let ask = Ask {
        worker,
        queues: ["default".to_owned()].into(),
        tasks: ["kills_its_worker"].into(),
        limit: 1,
        suspects: Suspects::OneAlone,
        now: Timestamp::now() + Duration::from_secs(1),
    };
    store.renew(worker, 1).await.unwrap();
    assert_eq!(store.lease(ask).await.unwrap().jobs.len(), 1);
    store.leave(worker).await.unwrap();
}

#[tokio::test]
async fn the_end_of_a_job_that_is_lost_for_the_last_time_is_heard_of_once() {
    let stage = stage(|builder, diary| builder.around(Notes("it", diary.clone()))).await;
    let job = stage.app.enqueue(kills_its_worker()).await.unwrap();
    let others = [stage.app.worker().queues(["elsewhere"]), stage.app.worker().queues(["elsewhere"])];
    let [one, other] = others.map(|worker| worker.start());
    let (one, other) = (one.await.unwrap(), other.await.unwrap());
    for state in ["waiting", "dead"] {
        lost_again(&stage.store).await;
        eventually("taken over", async || job.status().await.unwrap().state.name() == state).await;
        if state == "waiting" {
            assert_eq!(stage.diary.lines(), [""; 0]);
        }
    }
    one.shutdown().await.unwrap();
    other.shutdown().await.unwrap();
    let lines = stage.diary.lines();
    assert!(
        matches!(&lines[..], [line] if line.starts_with("it hears of kills_its_worker: its worker was lost")),
        "{lines:?}"
    );
}
