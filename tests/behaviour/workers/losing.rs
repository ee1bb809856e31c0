//! Workers that are gone: their jobs go on elsewhere, and what they still write changes nothing.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use qtasks::{
    Update,
    job::{Attempt, Ending, Lease, NextState, Output, Progress, Reply, Step, WorkerId},
    json::{self, Json},
    lifecycle::Outcome,
    prelude::*,
    sqlite::rusqlite::{self, Connection},
    store::{Ask, Hold, Record, Settlement, Suspects, Written},
};
use qtasks_tests::{Diary, Stage, eventually, in_time, on_every_store};
use tempfile::TempDir;

on_every_store![
    a_lost_job_goes_on_after_its_recorded_steps,
    what_a_lost_attempt_still_writes_changes_nothing,
    a_stream_lives_through_the_loss_of_a_worker,
    a_watcher_lives_through_the_loss_of_a_worker,
    the_jobs_of_a_runtime_that_ends_go_on_elsewhere,
    two_workers_run_each_job_once,
];

pub(super) fn notes(value: i64, diary: State<Diary>) -> i64 {
    diary.note(format!("handle {value}"));
    value * 10
}

#[qtask(generate_handler = notes)]
pub(super) async fn builds(n: i64) -> Vec<i64> {
    let mut sum = 0;
    for value in 0..n {
        sum += yield_!(value + sum);
    }
}

/// Leases the job that is due to a worker that is gone.
pub(super) async fn vanished(stage: &Stage) -> Lease {
    let [lease] = all_vanished(stage, 1).await[..] else { panic!("one job is due") };
    lease
}

/// Leases up to `limit` jobs to such a worker.
pub(super) async fn all_vanished(stage: &Stage, limit: usize) -> Vec<Lease> {
    let leases = leased(stage, limit).await;
    if let Some(lease) = leases.first() {
        stage.store.leave(lease.worker).await.unwrap();
    }
    leases
}

/// Leases up to `limit` jobs that are due to a worker without a process.
pub(super) async fn leased(stage: &Stage, limit: usize) -> Vec<Lease> {
    let worker = WorkerId::new();
    let ask = Ask {
        worker,
        queues: ["default".to_owned()].into(),
        tasks: Arc::new(["builds", "has_no_steps", "comes_and_goes", "holds_up", "makes_a_step_and_stays"]),
        limit,
        suspects: Suspects::OneAlone,
        // What is due now by the clock of a server may be due a moment later by ours.
        now: Timestamp::now() + Duration::from_secs(1),
    };
    stage.store.renew(worker, 1).await.unwrap();
    let jobs = stage.store.lease(ask).await.unwrap().jobs;
    jobs.iter().map(|job| Lease { job: job.call.id, attempt: job.standing.attempt, worker }).collect()
}

/// Has the jobs of lost workers taken over by a worker that runs none.
pub(super) async fn taken_over(stage: &Stage, leases: &[Lease]) {
    let worker = stage.app.worker().queues(["elsewhere"]).start().await.unwrap();
    for lease in leases {
        let state = async || stage.store.job(lease.job).await.unwrap().unwrap().standing.state;
        eventually("taken over", async || state().await.name() != "running").await;
    }
    worker.shutdown().await.unwrap();
}

pub(super) fn step(seq: u64, value: i64, reply: i64) -> Step {
    Step { seq, hash: json::hash(&value).unwrap(), reply: Reply::Value(Json::encode(&reply).unwrap()) }
}

pub(super) fn record(lease: Lease, steps: Vec<Step>) -> Vec<Record> {
    let progress = Some(Progress { done: 9, total: 9 });
    vec![Record { lease, steps, memos: Vec::new(), jobs: Vec::new(), progress, passed: false }]
}

async fn a_lost_job_goes_on_after_its_recorded_steps(stage: Stage) {
    let undisturbed = stage.app.run(builds(5)).await.unwrap();
    let job = stage.app.enqueue(builds(5)).await.unwrap();
    let lease = vanished(&stage).await;
    let written = stage.store.record(record(lease, vec![step(0, 0, 0), step(1, 1, 10)]).into()).await.unwrap();
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

async fn what_a_lost_attempt_still_writes_changes_nothing(stage: Stage) {
    let job = stage.app.enqueue(builds(3)).await.unwrap();
    let lost = vanished(&stage).await;
    let worker = stage.app.worker().start().await.unwrap();
    in_time(job.result()).await.unwrap();
    worker.shutdown().await.unwrap();
    let before = (job.status().await.unwrap(), job.result().await.unwrap());
    let late = stage.store.record(record(lost, vec![step(3, 0, 0)]).into()).await.unwrap();
    let settlement = Settlement {
        hold: Hold::Lease(lost),
        outcome: Outcome {
            next: NextState::Done { output: Output::Value(Json::from_stored("1")) },
            failures: 9,
            suspect: None,
        },
        steps: None,
        attempt: Some(Attempt {
            number: 1,
            worker: lost.worker,
            started: None,
            ended: Timestamp::now(),
            ending: Ending::Done,
            steps: None,
        }),
        now: Timestamp::now(),
    };
    assert_eq!(
        (late, stage.store.settle([settlement].into()).await.unwrap()),
        (vec![Written::Fenced], vec![Written::Fenced])
    );
    assert_eq!((job.status().await.unwrap(), job.result().await.unwrap()), before);
}

async fn a_stream_lives_through_the_loss_of_a_worker(stage: Stage) {
    let job = stage.app.enqueue(builds(4)).await.unwrap();
    let lease = vanished(&stage).await;
    let mut values = job.stream();
    let _: Vec<Written> = stage.store.record(record(lease, vec![step(0, 0, 0)]).into()).await.unwrap();
    assert_eq!(in_time(values.next()).await.unwrap().unwrap(), 0);
    let worker = stage.app.worker().start().await.unwrap();
    let rest: Vec<_> = in_time(values.map(Result::unwrap).collect()).await;
    assert_eq!(rest, [10, 120, 1330]);
    worker.shutdown().await.unwrap();
}

async fn a_watcher_lives_through_the_loss_of_a_worker(stage: Stage) {
    let job = stage.app.enqueue(builds(4)).await.unwrap();
    let lease = vanished(&stage).await;
    let mut updates = stage.neighbour().await.any_job(job.id()).await.unwrap().watch();
    let _: Vec<Written> = stage.store.record(record(lease, vec![step(0, 0, 0)]).into()).await.unwrap();
    let worker = stage.app.worker().start().await.unwrap();
    let (mut steps, mut attempts, mut last) = (Vec::new(), Vec::new(), None);
    while let Some(update) = in_time(updates.next()).await {
        match update.unwrap() {
            Update::Step(step) => steps.push((step.seq, step.value::<i64>().unwrap())),
            Update::Status(standing) => {
                attempts.push(standing.attempt);
                last = Some(standing);
            }
            Update::Progress(progress) => assert_eq!(progress, Progress { done: 9, total: 9 }),
            other => panic!("{other:?} is new"),
        }
    }
    assert_eq!(steps, [(0, 0), (1, 10), (2, 120), (3, 1330)]);
    assert!(attempts.is_sorted(), "{attempts:?}");
    let last = last.unwrap();
    assert_eq!((last.state.name(), last.attempt, last.failures), ("done", 2, 0));
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

/// Makes a file forget the last of two steps when both are recorded, as a server whose power went may have done; gives
/// whether they were.
fn forget_the_last(path: &Path, job: JobId) -> rusqlite::Result<bool> {
    let (file, job) = (Connection::open(path)?, job.to_bytes());
    file.busy_timeout(Duration::from_secs(30))?;
    if file.execute("UPDATE qtasks_jobs SET steps = 1 WHERE id = ?1 AND steps = 2", [job])? == 0 {
        return Ok(false);
    }
    let last = "DELETE FROM qtasks_new_steps WHERE arrival = (SELECT max(arrival) FROM qtasks_new_steps)";
    Ok(file.execute(last, [])? == 1)
}

#[qtask(generate_handler = notes, echo = true, checkpoint = "each")]
async fn is_forgotten(ctx: TaskContext, path: PathBuf) -> anyhow::Result<Vec<i64>> {
    yield_!(1);
    yield_!(2);
    while ctx.attempt() == 1 && !forget_the_last(&path, ctx.job_id())? {
        tokio::task::yield_now().await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_steps_the_store_has_forgotten_goes_on_where_they_end() {
    let folder = TempDir::new().unwrap();
    let (path, diary) = (folder.path().join("jobs.db"), Diary::default());
    let app = QueueTasks::builder().store(format!("sqlite:{}", path.display())).state(diary.clone());
    let app = app.build().await.unwrap();
    let job = app.enqueue(is_forgotten(path)).await.unwrap();
    let worker = app.worker().start().await.unwrap();
    assert_eq!(in_time(job.result()).await.unwrap(), [10, 20]);
    assert_eq!(diary.lines(), ["handle 1", "handle 2", "handle 2"]);
    worker.shutdown().await.unwrap();
}
