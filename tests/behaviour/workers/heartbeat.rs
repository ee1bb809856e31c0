//! A worker that lives is never robbed: its renewals wait for nothing, and they end with its runtime.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use qtasks::{
    Error, Result,
    job::{Ending, WorkerId},
    prelude::*,
    sqlite::rusqlite::Connection,
    store::{Memory, Store},
};
use qtasks_tests::{
    Diary, Place, Stage,
    edge::{Behind, CarryOut, Edge},
    eventually, in_time,
    ledger::Ledger,
    on_every_store, whole,
};

on_every_store![a_worker_whose_runtime_has_ended_renews_no_more, a_job_that_lasts_longer_than_a_lease_is_never_taken,];

#[qtask]
async fn lives_on(diary: State<Diary>) -> u32 {
    diary.note("waits");
    diary.told("go on").await;
    TaskContext::current().attempt()
}

async fn beat(store: &dyn Store, worker: WorkerId) -> Option<u64> {
    store.workers().await.unwrap().into_iter().find(|seen| seen.worker == worker)?.beat
}

/// Has every call but renewals hang, once it is shut.
#[derive(Debug, Default)]
struct Hanging(AtomicBool);

impl Edge for Hanging {
    async fn pass<T: Send + 'static>(&self, call: &'static str, carry_out: CarryOut<T>) -> Result<T> {
        while call != "renew" && self.0.load(SeqCst) {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        carry_out().await
    }
}

#[tokio::test(start_paused = true)]
async fn renewals_go_on_while_every_other_call_of_the_store_hangs() {
    let memory = Arc::new(Memory::new());
    let hanging = Arc::new(Behind::new(Hanging::default(), memory.clone(), &Ledger::default()));
    let stage = Stage::on(hanging.clone()).await;
    let worker = stage.app.worker().start().await.unwrap();
    let job = stage.app.enqueue(lives_on()).await.unwrap();
    stage.diary.until("waits").await;
    // Somebody to take over from, at the moment when nothing is answered any more.
    let before = beat(&*memory, worker.id()).await.unwrap();
    hanging.edge.0.store(true, SeqCst);
    memory.notifier().notify_lost();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let after = beat(&*memory, worker.id()).await.unwrap();
    assert!(after >= before + 50, "{} renewals in a minute", after - before);
    hanging.edge.0.store(false, SeqCst);
    stage.diary.note("go on");
    assert_eq!(in_time(job.result()).await.unwrap(), 1);
    worker.shutdown().await.unwrap();
}

async fn a_job_that_lasts_longer_than_a_lease_is_never_taken(stage: Stage) {
    let neighbour = stage.neighbour().await;
    let worker = stage.app.worker().queues(["default"]).start().await.unwrap();
    let job = stage.app.enqueue(lives_on()).await.unwrap();
    stage.diary.until("waits").await;
    let looker = neighbour.worker().queues(["elsewhere"]).start().await.unwrap();
    // Leases last 3 s; the beats that are seen are those of the worker's own clock.
    let first = beat(&*stage.store, worker.id()).await.unwrap();
    let beats = async || beat(&*stage.store, worker.id()).await.unwrap() - first;
    eventually("five renewals", async || beats().await >= 5).await;
    stage.diary.note("go on");
    assert_eq!(in_time(job.result()).await.unwrap(), 1);
    let endings: Vec<_> = job.status().await.unwrap().attempts.into_iter().map(|attempt| attempt.ending).collect();
    assert_eq!(endings, [Ending::Done]);
    for worker in [worker, looker] {
        worker.shutdown().await.unwrap();
    }
}

async fn a_worker_whose_runtime_has_ended_renews_no_more(stage: Stage) {
    let other = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let neighbour = stage.neighbour().await;
    let kept = other.spawn(async move { neighbour.worker().start().await.unwrap() }).await.unwrap();
    let job = stage.app.enqueue(lives_on()).await.unwrap();
    stage.diary.until("waits").await;
    other.shutdown_background();
    eventually("no more renewals", async || beat(&*stage.store, kept.id()).await.is_none()).await;
    let worker = stage.app.worker().start().await.unwrap();
    eventually("it waits elsewhere", async || stage.diary.count("waits") == 2).await;
    stage.diary.note("go on");
    assert_eq!(in_time(job.result()).await.unwrap(), 2);
    in_time(kept.shutdown()).await.unwrap();
    worker.shutdown().await.unwrap();
}

#[test]
fn a_runtime_without_timers_is_an_error_of_the_start() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let start = async {
        let app = QueueTasks::builder().store("memory:").state(Diary::default()).build().await?;
        app.worker().start().await
    };
    let error = runtime.block_on(start).unwrap_err();
    assert_eq!(
        whole(&error),
        "a worker needs timers, and this tokio runtime has none: build it with `enable_time` or `enable_all`"
    );
    let outside = futures::executor::block_on(async {
        let app = QueueTasks::builder().store("memory:").state(Diary::default()).build().await?;
        app.worker().start().await
    });
    assert_eq!(
        whole(&outside.unwrap_err()),
        "a worker needs a tokio runtime: start it within one, as `#[tokio::main]` makes it"
    );
}

/// Answers that the store is that of a newer qtasks, once it is told to.
#[derive(Debug, Default)]
struct Migrated(AtomicBool);

impl Edge for Migrated {
    async fn pass<T: Send + 'static>(&self, call: &'static str, carry_out: CarryOut<T>) -> Result<T> {
        if call == "renew" && self.0.load(SeqCst) {
            return Err(Error::NewerStore { store: "jobs.db".into(), found: 9, known: 8 });
        }
        carry_out().await
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_whose_store_was_migrated_stops_gives_back_and_says_why() {
    let migrated = Arc::new(Behind::new(Migrated::default(), Arc::new(Memory::new()), &Ledger::default()));
    let stage = Stage::on(migrated.clone()).await;
    let worker = stage.app.worker().start().await.unwrap();
    let job = stage.app.enqueue(lives_on()).await.unwrap();
    stage.diary.until("waits").await;
    migrated.edge.0.store(true, SeqCst);
    let error = in_time(worker.until_signal()).await.unwrap_err();
    assert!(matches!(error, Error::NewerStore { found: 9, known: 8, .. }), "{error}");
    let status = job.status().await.unwrap();
    assert_eq!((status.state.name(), status.failures), ("waiting", 0));
    assert_eq!(status.attempts[0].ending, Ending::Released);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_on_a_file_that_a_newer_program_has_migrated_stops_and_gives_back() {
    let stage = Stage::open(Place::sqlite()).await;
    let worker = stage.app.worker().start().await.unwrap();
    let job = stage.app.enqueue(lives_on()).await.unwrap();
    stage.diary.until("waits").await;
    let path = stage.place.url.strip_prefix("sqlite:").unwrap().split('?').next().unwrap().to_owned();
    let newer = Connection::open(path).unwrap();
    newer.execute("UPDATE qtasks_format SET format = 99", []).unwrap();
    let error = in_time(worker.until_signal()).await.unwrap_err();
    assert!(matches!(error, Error::NewerStore { found: 99, .. }), "{error}");
    let status = job.status().await.unwrap();
    assert_eq!((status.state.name(), status.failures), ("waiting", 0));
    assert_eq!(status.attempts[0].ending, Ending::Released);
}
