//! Workers that are gone: their jobs go on elsewhere, and what they still write changes nothing.

use std::sync::Arc;

use jiff::Timestamp;
use qtasks::{
    job::{Attempt, Ending, Lease, Output, Progress, Reply, State as JobState, Step, WorkerId},
    json::{self, Json},
    prelude::*,
    store::{Ask, Hold, Record, Settlement, Written},
};
use qtasks_tests::{Diary, Stage, eventually, in_time, on_every_store};

on_every_store![
    a_lost_job_goes_on_after_its_recorded_steps,
    what_a_lost_attempt_still_writes_changes_nothing,
    losing_a_worker_costs_no_failure,
    a_stream_lives_through_the_loss_of_a_worker,
    the_jobs_of_a_runtime_that_ends_go_on_elsewhere,
    two_workers_run_each_job_once,
];

fn notes(value: i64, diary: State<Diary>) -> i64 {
    diary.note(format!("handle {value}"));
    value * 10
}

#[qtask(generate_handler = notes)]
async fn builds(n: i64) -> Vec<i64> {
    let mut sum = 0;
    for value in 0..n {
        sum += yield_!(value + sum);
    }
}

/// Leases what is due to a worker that never says that it lives.
async fn vanished(stage: &Stage) -> Lease {
    let worker = WorkerId::new();
    let ask = Ask {
        worker,
        queues: ["default".to_owned()].into(),
        tasks: Arc::new(["builds", "has_no_steps"]),
        limit: 1,
        suspects: true,
        now: Timestamp::now(),
    };
    let job = stage.store.lease(ask).await.unwrap().jobs.remove(0);
    Lease { job: job.id, attempt: job.attempt, worker }
}

fn step(seq: u64, value: i64, reply: i64) -> Step {
    Step { seq, hash: json::hash(&value).unwrap(), reply: Reply::Value(Json::encode(&reply).unwrap()) }
}

fn record(lease: Lease, steps: Vec<Step>) -> Vec<Record> {
    vec![Record { lease, steps, progress: Some(Progress { done: 9, total: 9 }) }]
}

async fn a_lost_job_goes_on_after_its_recorded_steps(stage: Stage) {
    let undisturbed = stage.app.run(builds(5)).await.unwrap();
    let job = stage.app.enqueue(builds(5)).await.unwrap();
    let lease = vanished(&stage).await;
    let written = stage.store.record(record(lease, vec![step(0, 0, 0), step(1, 1, 10)])).await.unwrap();
    assert_eq!(written, [Written::Yes]);
    let before = stage.diary.lines().len();

    let worker = stage.app.worker().start().await.unwrap();
    assert_eq!(in_time(job.result()).await.unwrap(), undisturbed);
    assert_eq!(stage.diary.lines()[before..], ["handle 12", "handle 133", "handle 1464"]);
    let status = job.status().await.unwrap();
    assert_eq!((status.attempt, status.failures), (2, 0), "its loss is no failure");
    let history: Vec<_> =
        status.attempts.iter().map(|attempt| (attempt.number, attempt.worker, &attempt.ending)).collect();
    assert_eq!(history, [(1, lease.worker, &Ending::Lost), (2, worker.id(), &Ending::Done)]);
    let seqs: Vec<_> = stage.store.steps(job.id(), 0, 10).await.unwrap().iter().map(|step| step.seq).collect();
    assert_eq!(seqs, [0, 1, 2, 3, 4]);
    worker.shutdown().await.unwrap();
}

#[qtask]
async fn has_no_steps() -> u32 {
    TaskContext::current().attempt()
}

async fn losing_a_worker_costs_no_failure(stage: Stage) {
    let job = stage.app.enqueue(has_no_steps()).await.unwrap();
    for _ in 0..9 {
        vanished(&stage).await;
        let worker = stage.app.worker().queues(["elsewhere"]).start().await.unwrap();
        eventually("taken over", async || job.status().await.unwrap().state.name() == "waiting").await;
        worker.shutdown().await.unwrap();
    }
    assert_eq!(job.status().await.unwrap().failures, 0);
    stage.work().await;
    assert_eq!(job.result().await.unwrap(), 10);
}

async fn what_a_lost_attempt_still_writes_changes_nothing(stage: Stage) {
    let job = stage.app.enqueue(builds(3)).await.unwrap();
    let lost = vanished(&stage).await;
    let worker = stage.app.worker().start().await.unwrap();
    in_time(job.result()).await.unwrap();
    worker.shutdown().await.unwrap();
    let before = (job.status().await.unwrap(), job.result().await.unwrap());
    let late = stage.store.record(record(lost, vec![step(3, 0, 0)])).await.unwrap();
    let settlement = Settlement {
        job: job.id(),
        hold: Hold::Lease(lost),
        next: JobState::Done { output: Output::Value(Json::from_stored("1")) },
        failures: 9,
        suspect: false,
        attempt: Some(Attempt {
            number: 1,
            worker: lost.worker,
            started: None,
            ended: Timestamp::now(),
            ending: Ending::Done,
        }),
        now: Timestamp::now(),
    };
    assert_eq!(
        (late, stage.store.settle(vec![settlement]).await.unwrap()),
        (vec![Written::Fenced], vec![Written::Fenced])
    );
    assert_eq!((job.status().await.unwrap(), job.result().await.unwrap()), before);
}

async fn a_stream_lives_through_the_loss_of_a_worker(stage: Stage) {
    let job = stage.app.enqueue(builds(4)).await.unwrap();
    let lease = vanished(&stage).await;
    let mut values = job.stream();
    let _: Vec<Written> = stage.store.record(record(lease, vec![step(0, 0, 0)])).await.unwrap();
    assert_eq!(in_time(values.next()).await.unwrap().unwrap(), 0);
    let worker = stage.app.worker().start().await.unwrap();
    let rest: Vec<_> = in_time(values.map(Result::unwrap).collect()).await;
    assert_eq!(rest, [10, 120, 1330]);
    worker.shutdown().await.unwrap();
}

#[qtask(generate_handler = notes)]
async fn stands_still(diary: State<Diary>) -> Vec<i64> {
    let first = yield_!(1);
    diary.note("stands");
    if TaskContext::current().attempt() == 1 {
        std::future::pending::<()>().await;
    }
    yield_!(first);
}

async fn the_jobs_of_a_runtime_that_ends_go_on_elsewhere(stage: Stage) {
    let other = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let neighbour = stage.neighbour().await;
    let worker = other.spawn(async move { neighbour.worker().start().await.unwrap() }).await.unwrap();
    let job = stage.app.enqueue(stands_still()).await.unwrap();
    stage.diary.until("stands").await;
    other.shutdown_background();
    std::thread::spawn(move || drop(worker)).join().unwrap();
    let worker = stage.app.worker().start().await.unwrap();
    assert_eq!(in_time(job.result()).await.unwrap(), [10, 100]);
    assert_eq!(stage.diary.count("handle 1"), 1);
    worker.shutdown().await.unwrap();
}

async fn two_workers_run_each_job_once(stage: Stage) {
    let neighbour = stage.neighbour().await;
    let (here, there) = (stage.app.worker().concurrency(2), neighbour.worker().concurrency(2));
    let (here, there) = (here.start().await.unwrap(), there.start().await.unwrap());
    let jobs = stage.app.enqueue_all((0..60).map(|_| builds(3))).await.unwrap();
    for job in &jobs {
        assert_eq!(in_time(job.result()).await.unwrap(), [0, 10, 120]);
        eventually("one attempt", async || job.status().await.unwrap().attempts.len() == 1).await;
    }
    assert_eq!(stage.diary.lines().len(), 180);
    here.shutdown().await.unwrap();
    there.shutdown().await.unwrap();
}
