//! What is said through `tracing`: of all that goes wrong something, of what goes well nothing that is seen by default, and
//! never an argument or a reply.

mod masked;
mod said;
mod tasks;

use std::{
    process::{Child, Command},
    time::Duration,
};

use qtasks::{Error, WorkerBuilder, prelude::*, store::Memory};
use qtasks_tests::{
    Place, Stage,
    edge::{Behind, CarryOut, Edge},
    eventually, in_time,
    ledger::Ledger,
};
use tokio::sync::Mutex;
use tracing::Level;

use self::{
    masked::masked,
    said::{Said, is_of_qtasks},
};

/// All tests of this program hear the same lines, so one runs at a time.
static TURN: Mutex<()> = Mutex::const_new(());

/// The name of the variable that makes another process of this program a worker, to be killed.
const VICTIM: &str = "QTASKS_LOGS_VICTIM";

/// No test, but the other process.
#[tokio::test]
async fn victim() {
    let Ok(url) = std::env::var(VICTIM) else { return };
    let app = QueueTasks::open(&url).await.unwrap();
    worker_of(&app).start().await.unwrap().until_signal().await.unwrap();
}

/// A process that works until it is dropped, which kills it.
struct Victim(Child);

impl Victim {
    fn start(url: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        Self(command.args(["victim", "--exact"]).env(VICTIM, url).spawn().unwrap())
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

/// One of the tasks that all stores can run, and of those with handlers in transactions of SQLite.
fn worker_of(app: &QueueTasks) -> WorkerBuilder {
    app.worker().queues(["default", "sqlite"])
}

/// Jobs of a SQLite file, one scene after the other, and what is said in each.
struct Scenes {
    said: Said,
    app: QueueTasks,
    place: Place,
    log: String,
}

impl Scenes {
    async fn open() -> Self {
        let place = Place::sqlite();
        Self { said: Said::listen(), app: QueueTasks::open(&place.url).await.unwrap(), place, log: String::new() }
    }

    /// Runs what is due, and notes what is said meanwhile.
    async fn work(&mut self, scene: &str) {
        in_time(worker_of(&self.app).run_until_idle()).await.unwrap();
        self.note(scene);
    }

    /// Has a worker run until this is said, and notes what is said meanwhile.
    async fn work_until(&mut self, last: &str, scene: &str) {
        let worker = worker_of(&self.app).start().await.unwrap();
        self.said.until(last).await;
        worker.shutdown().await.unwrap();
        self.note(scene);
    }

    /// Notes what has been said of this scene.
    fn note(&mut self, scene: &str) {
        self.log += &format!("# {scene}\n{}\n", masked(self.said.take().iter().filter(|line| is_of_qtasks(line))));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_fails_in_every_way_says_so() {
    let _turn = TURN.lock().await;
    let mut scenes = Scenes::open().await;
    tasks_end_in_every_way(&mut scenes).await;
    tasks_are_ended(&mut scenes).await;
    insta::assert_snapshot!(scenes.log);
}

async fn tasks_end_in_every_way(scenes: &mut Scenes) {
    let app = scenes.app.clone();
    app.enqueue(tasks::says_something()).await.unwrap();
    scenes.work("an `async fn` task, its handler, and what it has spawned say something").await;
    app.enqueue(tasks::says_something_on_a_thread()).await.unwrap();
    scenes.work("a `fn` task and its handler say something").await;
    app.enqueue(tasks::says_something_in_a_transaction()).await.unwrap();
    scenes.work("a handler in a transaction says something").await;
    app.enqueue(tasks::fails_once()).await.unwrap();
    scenes.work_until("the attempt ends well", "fails, is tried again, and ends well").await;
    app.enqueue(tasks::fails()).await.unwrap();
    scenes.work("fails for the last time").await;
    app.enqueue(tasks::gives_up()).await.unwrap();
    scenes.work("is discarded by its task").await;
    app.enqueue(tasks::panics()).await.unwrap();
    scenes.work("panics").await;
    app.enqueue(tasks::takes_too_long()).await.unwrap();
    scenes.work("takes too long").await;
    app.enqueue(tasks::takes_too_long_on_a_thread()).await.unwrap();
    scenes.work("takes too long on a thread, which cannot be stopped").await;
    app.enqueue(tasks::skips(5)).await.unwrap();
    scenes.work("skips five values").await;
    app.enqueue(tasks::skips_in_a_transaction(2)).await.unwrap();
    scenes.work("skips two values in transactions").await;
    app.enqueue(tasks::diverges()).await.unwrap();
    scenes.work_until("the job is dead", "fails, and yields another value than the one recorded").await;
    app.enqueue_json("wants_a_number", &serde_json::json!({ "number": "a secret" })).await.unwrap();
    scenes.work("its arguments cannot be read").await;
    app.enqueue(tasks::snoozes()).await.unwrap();
    scenes.work_until("the attempt ends well", "goes on later").await;
    app.enqueue(tasks::calls_itself_off()).await.unwrap();
    scenes.work("is cancelled by its task").await;
}

/// By a user, by the end of a worker, and by the loss of one.
async fn tasks_are_ended(scenes: &mut Scenes) {
    let app = scenes.app.clone();
    let job = app.enqueue(tasks::never_ends()).await.unwrap();
    let worker = worker_of(&app).start().await.unwrap();
    eventually("runs", async || job.status().await.unwrap().state.name() == "running").await;
    scenes.said.until("the attempt starts").await;
    job.cancel().await.unwrap();
    scenes.said.until("was cancelled").await;
    worker.shutdown().await.unwrap();
    scenes.note("is cancelled by a user while it runs");

    let job = app.enqueue(tasks::never_ends()).await.unwrap();
    let worker = worker_of(&app).grace(Duration::ZERO).start().await.unwrap();
    scenes.said.until("the attempt starts").await;
    worker.shutdown().await.unwrap();
    job.cancel().await.unwrap();
    scenes.note("is given back by a worker that stops");

    let job = app.enqueue(tasks::never_ends()).await.unwrap();
    let victim = Victim::start(&scenes.place.url);
    eventually("runs elsewhere", async || job.status().await.unwrap().state.name() == "running").await;
    drop(victim);
    // One that runs no such job takes it over: otherwise the next attempt may start before that is said.
    let rescuer = app.worker().queues(["elsewhere"]).start().await.unwrap();
    scenes.said.until("a job is taken over").await;
    rescuer.shutdown().await.unwrap();
    let worker = worker_of(&app).start().await.unwrap();
    scenes.said.until("the attempt starts").await;
    scenes.note("is lost with its process, and taken over");
    job.cancel().await.unwrap();
    scenes.said.until("was cancelled").await;
    worker.shutdown().await.unwrap();
}

/// Passes the time until a job has ended, whatever its error.
async fn ended<T>(app: &QueueTasks, jobs: impl IntoIterator<Item = JobHandle<T>>) {
    let worker = worker_of(app).start().await.unwrap();
    for job in jobs {
        eventually("it ends", async || job.status().await.unwrap().state.is_ended()).await;
    }
    worker.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_what_goes_well_nothing_is_said_above_debug() {
    let _turn = TURN.lock().await;
    let scenes = Scenes::open().await;
    let app = &scenes.app;
    ended(app, app.enqueue_all((0..50).map(tasks::counts)).await.unwrap()).await;
    ended(app, [app.enqueue(tasks::snoozes()).await.unwrap()]).await;
    ended(app, [app.enqueue(tasks::calls_itself_off()).await.unwrap()]).await;
    let lines = scenes.said.at(Level::INFO);
    assert!(lines.is_empty(), "{lines:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_argument_value_or_reply_is_said_above_trace() {
    let _turn = TURN.lock().await;
    let scenes = Scenes::open().await;
    let app = &scenes.app;
    let secret = || "hunter2".to_owned();
    ended(app, [app.enqueue(tasks::keeps_a_secret(secret())).await.unwrap()]).await;
    ended(app, [app.enqueue(tasks::keeps_a_secret_and_skips(secret())).await.unwrap()]).await;
    ended(app, [app.enqueue(tasks::keeps_a_secret_and_diverges(secret())).await.unwrap()]).await;
    for (task, args) in [
        ("wants_a_number", serde_json::json!({ "number": secret() })),
        ("wants_a_number", serde_json::json!({ "number": 5, "hunter2": 5 })),
        ("wants_a_number", serde_json::json!({ "number": { "hunter2": 5 } })),
        ("wants_a_colour", serde_json::json!({ "colour": secret() })),
        ("wants_a_colour", serde_json::json!({ "colour": { "hunter2": 1 } })),
        ("wants_a_colour", serde_json::json!({ "colour": "x, expected hunter2, expected y" })),
        ("wants_a_small_number", serde_json::json!({ "number": 7_355_608 })),
        ("wants_a_character", serde_json::json!({ "character": secret() })),
    ] {
        ended(app, [app.enqueue_json(task, &args).await.unwrap()]).await;
    }
    let lines = scenes.said.take();
    let shown: Vec<_> = lines.iter().filter(|line| line.contains("hunter2") || line.contains("7355608")).collect();
    assert!(shown.is_empty(), "{shown:#?}");
    assert!(lines.iter().filter(|line| line.contains("the job is dead")).count() >= 7, "{lines:#?}");
}

/// Lets no call pass while the store is away.
#[derive(Debug, Default)]
struct Away(std::sync::atomic::AtomicBool);

impl Edge for Away {
    async fn pass<T: Send + 'static>(&self, _call: &'static str, carry_out: CarryOut<T>) -> qtasks::Result<T> {
        if self.0.load(std::sync::atomic::Ordering::SeqCst) {
            return Err(Error::Store { doing: "hear us", source: "the cable is out".into() });
        }
        carry_out().await
    }
}

impl Away {
    fn set(&self, away: bool) {
        self.0.store(away, std::sync::atomic::Ordering::SeqCst);
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_is_said_once_and_each_minute_and_how_long_it_was_away() {
    let _turn = TURN.lock().await;
    let said = Said::listen();
    let store =
        std::sync::Arc::new(Behind::new(Away::default(), std::sync::Arc::new(Memory::new()), &Ledger::default()));
    let stage = Stage::on(store.clone()).await;
    let worker = stage.app.worker().queues(["default"]).start().await.unwrap();
    let jobs = stage.app.enqueue_all((0..3).map(tasks::counts_slowly)).await.unwrap();
    said.until("the attempt starts").await;
    said.take();
    for seconds in [10, 200] {
        store.edge.set(true);
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        store.edge.set(false);
        tokio::time::sleep(Duration::from_secs(30)).await;
        let lines = said.at(Level::WARN);
        said.take();
        let each_minute = (seconds / 60) as usize;
        assert_eq!(lines.len(), 2 + each_minute, "{lines:#?}");
        assert!(lines[0].contains("the store does not do what it is asked to"), "{lines:#?}");
        assert!(lines[0].contains("the store could not hear us: the cable is out"), "{lines:#?}");
        assert!(lines[1..=each_minute].iter().all(|line| line.contains("the store is still away")), "{lines:#?}");
        assert!(lines[1 + each_minute].contains("the store does again what it is asked to"), "{lines:#?}");
        // Each call looks again after some seconds.
        let said_away =
            (seconds - 1..=seconds + 6).any(|away| lines[1 + each_minute].ends_with(&format!("away={away}")));
        assert!(said_away, "{lines:#?}");
    }
    for job in jobs {
        job.result().await.unwrap();
    }
    worker.shutdown().await.unwrap();
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_in_a_transaction_of_postgres_says_something_in_the_span_of_its_attempt() {
    let _turn = TURN.lock().await;
    let said = Said::listen();
    let app = QueueTasks::open(&Place::postgres().url).await.unwrap();
    let job = app.enqueue(tasks::says_something_in_postgres()).await.unwrap();
    in_time(app.worker().queues(["postgres"]).run_until_idle()).await.unwrap();
    assert_eq!(job.result().await.unwrap(), [1]);
    let lines = said.take();
    let line = lines.iter().find(|line| line.contains("the handler says something in its transaction")).unwrap();
    assert!(line.contains(&format!("messaging.message.id={}", job.id())), "{line}");
}
