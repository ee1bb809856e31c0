//! Real processes on one SQLite file, killed with SIGKILL or ending by themselves.

mod tasks;

use std::{
    collections::HashMap,
    io::{BufRead as _, BufReader, Read as _},
    process::{Child, Command, Stdio},
    sync::Mutex,
    time::Duration,
};

use qtasks::{prelude::*, sqlite::rusqlite::Connection};
use qtasks_tests::{eventually, in_time};
use tasks::{Ledger, doubles, inserts};
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
            *calls.entry(line.parse().unwrap()).or_default() += 1;
            calls
        })
    }
}

/// A process that is killed at the latest when the test ends.
struct Victim(Child);

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
