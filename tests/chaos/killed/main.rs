//! Real processes on one SQLite file, killed with SIGKILL or ending by themselves.

mod tasks;

use std::{
    collections::HashMap,
    io::{BufRead as _, BufReader, Read as _},
    process::{Child, Command, Stdio},
    sync::Mutex,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use qtasks::{
    Budget, Find,
    job::{Ending, StateKind, WorkerId},
    prelude::*,
    sqlite::rusqlite::Connection,
};
use qtasks_tests::{eventually, in_time};
use tasks::{Ledger, burns, doubles, doubles_far_ahead, inserts, poison};
use tempfile::TempDir;

/// A SQLite file and a ledger that processes share.
struct Scene {
    folder: TempDir,
}

impl Scene {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn url(&self) -> String {
        format!("sqlite:{}", self.folder.path().join("jobs.db").display())
    }

    async fn app(&self) -> QueueTasks {
        let ledger = Ledger(self.folder.path().join("ledger"));
        QueueTasks::builder().store(self.url()).state(ledger).build().await.unwrap()
    }

    fn victim(&self, what: &str) -> Victim {
        let mut command = Command::new(env!("CARGO_BIN_EXE_victim"));
        command.args([what, &self.url()]).arg(self.folder.path().join("ledger"));
        Victim(command.stdout(Stdio::piped()).spawn().unwrap())
    }

    /// How often the handler was called for each value.
    fn calls(&self) -> HashMap<u64, u32> {
        let ledger = std::fs::read_to_string(self.folder.path().join("ledger")).unwrap_or_default();
        ledger.lines().fold(HashMap::new(), |mut calls, line| {
            let (value, _) = line.split_once(' ').unwrap();
            *calls.entry(value.parse().unwrap()).or_default() += 1;
            calls
        })
    }

    /// How often a process called the handler.
    fn calls_of(&self, victim: &Victim) -> usize {
        let ledger = std::fs::read_to_string(self.folder.path().join("ledger")).unwrap_or_default();
        ledger.lines().filter(|line| line.ends_with(&format!(" {}", victim.0.id()))).count()
    }

    /// The number of the last renewal of the worker that holds the job.
    async fn beat(&self, app: &QueueTasks, job: JobId) -> u64 {
        let holder = app
            .find(Find::default().state(StateKind::Running).oldest_first())
            .budget(Budget::jobs(100))
            .await
            .unwrap()
            .jobs
            .into_iter();
        let held = holder.filter(|found| found.call.id == job).find_map(|job| job.standing.state.worker());
        self.beat_of(held.unwrap())
    }

    fn beat_of(&self, worker: WorkerId) -> u64 {
        let file = self.folder.path().join("jobs.db-workers").join(format!("{worker}.beat"));
        u64::from_le_bytes(std::fs::read(file).unwrap().try_into().unwrap())
    }
}

/// How long a lease lasts.
const LEASE: Duration = Duration::from_secs(3);

/// A process that is killed at the latest when the test ends.
struct Victim(Child);

impl Victim {
    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.0.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acknowledged_enqueue_survives_the_process() {
    let scene = Scene::new();
    let mut victim = scene.victim("enqueue");
    let printed = BufReader::new(victim.0.stdout.take().unwrap()).lines();
    let acknowledged: Vec<JobId> = printed.take(200).map(|line| line.unwrap().parse().unwrap()).collect();
    drop(victim);
    let app = scene.app().await;
    for id in acknowledged {
        assert_eq!(app.job::<doubles>(id).await.unwrap().status().await.unwrap().attempt, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_generator_whose_workers_are_killed_goes_on_after_its_record() {
    const VALUES: u64 = 600;
    let scene = Scene::new();
    let app = scene.app().await;
    let job = app.enqueue(doubles(VALUES)).await.unwrap();
    let mut values = job.stream();
    let (mut seen, mut recorded) = (Vec::new(), Vec::new());
    for kill_after in [10, 300] {
        let victim = scene.victim("work");
        while seen.len() < kill_after {
            seen.push(values.next().await.unwrap().unwrap());
        }
        drop(victim);
        recorded.push(job.status().await.unwrap().steps);
    }
    let _survivor = scene.victim("work");
    while let Some(value) = values.next().await {
        seen.push(value.unwrap());
    }

    let expected: Vec<u64> = (0..VALUES).map(|value| value * 2).collect();
    assert_eq!(seen, expected, "the stream that was open all the time");
    assert_eq!(job.result().await.unwrap(), expected);
    let status = job.status().await.unwrap();
    assert_eq!((status.attempt, status.failures), (3, 0));
    // Only the value in flight at a kill may have been handled twice, and the first such is the first unrecorded one.
    for (value, calls) in scene.calls() {
        assert!(calls == 1 || calls == 2 && recorded.contains(&value), "{value} was handled {calls} times");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_handler_writes_in_the_transaction_is_there_once_however_often_processes_are_killed() {
    const VALUES: u64 = 5_000;
    let scene = Scene::new();
    let app = scene.app().await;
    let database = Connection::open(scene.folder.path().join("jobs.db")).unwrap();
    database.execute_batch("CREATE TABLE inserted (job TEXT, value INTEGER)").unwrap();
    let mut jobs = Vec::new();
    for round in 0..10 {
        // A new one each time, for the lease of the one before has to run out.
        let job = app.enqueue(inserts(VALUES)).await.unwrap();
        let victim = scene.victim("work");
        eventually("the victim gets on", async || job.status().await.unwrap().steps > 300 * round).await;
        // Somewhere on its way, and not always just after a commit.
        tokio::time::sleep(Duration::from_micros(round * 1_237 % 5_000)).await;
        drop(victim);
        let steps = job.status().await.unwrap().steps;
        assert_eq!(inserted(&database, job.id()), (0..steps).collect::<Vec<_>>(), "rows and steps are there together");
        jobs.push(job);
    }
    let _survivor = scene.victim("work");
    for job in jobs {
        assert_eq!(in_time(job.result()).await.unwrap(), VALUES);
        assert_eq!(inserted(&database, job.id()), (0..VALUES).collect::<Vec<_>>());
    }
}

/// The values that are there for a job, in the order of their insertion.
fn inserted(database: &Connection, job: JobId) -> Vec<u64> {
    let mut rows = database.prepare_cached("SELECT value FROM inserted WHERE job = ?1 ORDER BY rowid").unwrap();
    let rows = rows.query_map([job.to_string()], |row| row.get::<_, i64>(0)).unwrap();
    rows.map(|row| row.unwrap().cast_unsigned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_ends_although_a_body_never_does() {
    let scene = Scene::new();
    let victim = Mutex::new(scene.victim("stuck"));
    let ended = || victim.lock().unwrap().0.try_wait().unwrap();
    eventually("the end of the process", async || ended().is_some()).await;
    assert!(ended().unwrap().success());
    let mut said = String::new();
    victim.lock().unwrap().0.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(said.ends_with("is dead: the attempt took longer than its max_time of 50ms\n"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_jobs_of_a_killed_process_go_on_long_before_its_leases_run_out() {
    let scene = Scene::new();
    let app = scene.app().await;
    let job = app.enqueue(doubles(100_000)).await.unwrap();
    let mut values = job.stream();
    let victim = scene.victim("work");
    for _ in 0..5 {
        values.next().await.unwrap().unwrap();
    }
    let survivor = app.worker().start().await.unwrap();
    let (killed, until) = (Instant::now(), Timestamp::now() + LEASE);
    drop(victim);
    eventually("the next attempt", async || job.status().await.unwrap().attempt == 2).await;
    let recorded = job.status().await.unwrap().steps;
    let mut rest = job.stream_from(recorded);
    in_time(rest.next()).await.unwrap().unwrap();
    println!("from the kill to the next value that is handled and recorded: {:?}", killed.elapsed());
    let lost = &job.status().await.unwrap().attempts[0];
    assert_eq!(lost.ending, Ending::Lost);
    assert!(lost.ended < until, "taken over at {}, when the leases would have run out at {until}", lost.ended);
    job.cancel().await.unwrap();
    survivor.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_aborts_its_processes_dies_and_takes_no_neighbour_with_it() {
    let scene = Scene::new();
    let app = scene.app().await;
    let before = app.enqueue_all((0..3).map(|_| doubles(3))).await.unwrap();
    let poison = app.enqueue(poison()).await.unwrap();
    let after = app.enqueue_all((0..3).map(|_| doubles(3))).await.unwrap();
    let mut deaths = 0;
    // The last one is not killed: whatever suspect runs alone then would be charged.
    let (error, _survivor) = in_time(async {
        loop {
            let victim = Mutex::new(scene.victim("work"));
            let ended = async || victim.lock().unwrap().0.try_wait().unwrap().is_some();
            let error = tokio::select! {
                ended = poison.result() => Some(ended.unwrap_err().to_string()),
                () = eventually("the end of a process", ended) => None,
            };
            match error {
                Some(error) => return (error, victim),
                None => deaths += 1,
            }
        }
    })
    .await;
    assert!(error.contains("its worker was lost while it ran, failure 2 in a row"), "{error}");
    // The first loss is charged to no job, and so are those in which another suspect ran beside it.
    assert!((3..=12).contains(&deaths), "{deaths} processes died");
    for job in before.iter().chain(&after) {
        assert_eq!(in_time(job.result()).await.unwrap(), [0, 2, 4]);
        assert_eq!(job.status().await.unwrap().failures, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_was_frozen_finishes_at_most_the_call_it_was_frozen_in() {
    let scene = Scene::new();
    let app = scene.app().await;
    let job = app.enqueue(doubles_far_ahead(300)).await.unwrap();
    let victim = scene.victim("work");
    eventually("the first calls", async || scene.calls_of(&victim) > 10).await;
    let last_beat = scene.beat(&app, job.id()).await;
    victim.signal("-STOP");
    let until = Timestamp::now() + LEASE;
    let survivor = app.worker().start().await.unwrap();
    eventually("the next attempt", async || job.status().await.unwrap().attempt == 2).await;
    let status = job.status().await.unwrap();
    assert!(status.attempts[0].ended > until, "it lived, so that its leases had to run out");
    let (frozen, before) = (status.attempts[0].worker, scene.calls_of(&victim));
    victim.signal("-CONT");
    eventually("it lives again", async || scene.beat_of(frozen) > last_beat + 1).await;
    let expected: Vec<u64> = (0..300).map(|value| value * 2).collect();
    assert_eq!(in_time(job.result()).await.unwrap(), expected);
    let after = scene.calls_of(&victim);
    assert!(before < 300 && after <= before + 1, "{before} calls before it was frozen, {after} in the end");
    assert_eq!(job.status().await.unwrap().attempt, 2);
    survivor.shutdown().await.unwrap();
}

/// Waits until the holder of a job has renewed its leases for longer than one lasts.
async fn outlive_a_lease(scene: &Scene, app: &QueueTasks, job: JobId) {
    let since = scene.beat(app, job).await;
    eventually("more than a lease has passed", async || scene.beat(app, job).await >= since + 5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_locked_for_longer_than_a_lease_robs_nobody() {
    let scene = Scene::new();
    let (app, other) = (scene.app().await, scene.app().await);
    let job = app.enqueue(doubles(2_000)).await.unwrap();
    let worker = app.worker().start().await.unwrap();
    job.stream().next().await.unwrap().unwrap();
    let onlooker = other.worker().start().await.unwrap();
    let neighbour = Connection::open(scene.folder.path().join("jobs.db")).unwrap();
    neighbour.busy_timeout(std::time::Duration::from_secs(30)).unwrap();
    neighbour.execute_batch("BEGIN IMMEDIATE").unwrap();
    outlive_a_lease(&scene, &app, job.id()).await;
    neighbour.execute_batch("COMMIT").unwrap();
    assert_eq!(in_time(job.result()).await.unwrap().len(), 2_000);
    assert_eq!(job.status().await.unwrap().attempt, 1);
    assert!(scene.calls().values().all(|calls| *calls == 1), "no value was handled twice");
    worker.shutdown().await.unwrap();
    onlooker.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_keeps_all_processors_busy_is_not_robbed() {
    let scene = Scene::new();
    let (app, other) = (scene.app().await, scene.app().await);
    let onlooker = other.worker().queues(["elsewhere"]).start().await.unwrap();
    let busy = std::thread::available_parallelism().unwrap().get();
    let burning = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let jobs = app.enqueue_all((0..busy).map(|_| burns(4_500))).await.unwrap();
            app.worker().queues(["hot"]).run_until_idle().await.unwrap();
            jobs.iter().map(|job| job.id()).collect::<Vec<_>>()
        })
    });
    for id in tokio::task::spawn_blocking(|| burning.join().unwrap()).await.unwrap() {
        let status = other.any_job(id).await.unwrap().status().await.unwrap();
        assert_eq!((status.state.name(), status.attempt), ("done", 1));
    }
    onlooker.shutdown().await.unwrap();
}
