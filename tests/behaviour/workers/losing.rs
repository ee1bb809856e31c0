//! Workers that are gone: their jobs go on elsewhere, and what they still write changes nothing.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use qtasks::{
    Clock,
    job::{Attempt, Ending, Lease, NextState, Output, Progress, Reply, Step, Suspect, WorkerId},
    json::{self, Json},
    lifecycle::Outcome,
    prelude::*,
    sqlite::rusqlite::{self, Connection},
    store::{Ask, Hold, Memory, Record, Settlement, Store, Suspects, Written},
};
use qtasks_tests::{
    Diary, Stage,
    edge::{Behind, CarryOut, Edge},
    eventually, in_time,
    ledger::Ledger,
    on_every_store,
};
use tempfile::TempDir;
use tokio::sync::{Notify, watch};

on_every_store![
    a_lost_job_goes_on_after_its_recorded_steps,
    what_a_lost_attempt_still_writes_changes_nothing,
    a_job_that_is_lost_again_and_again_is_dead_in_the_end,
    a_job_that_kills_its_workers_takes_no_neighbour_with_it,
    a_job_that_gets_on_between_its_losses_is_never_dead,
    a_user_has_a_suspect_tried_again_like_any_other_job,
    suspects_run_one_at_a_time_however_many_workers_an_application_has,
    a_suspect_waits_no_longer_than_others_of_its_age,
    a_suspect_that_makes_a_step_passes_its_turn_on_at_once,
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

/// Leases the job that is due to a worker that is gone.
async fn vanished(stage: &Stage) -> Lease {
    let [lease] = all_vanished(stage, 1).await[..] else { panic!("one job is due") };
    lease
}

/// Leases up to `limit` jobs to such a worker.
async fn all_vanished(stage: &Stage, limit: usize) -> Vec<Lease> {
    let leases = leased(stage, limit).await;
    if let Some(lease) = leases.first() {
        stage.store.leave(lease.worker).await.unwrap();
    }
    leases
}

/// Leases up to `limit` jobs that are due to a worker without a process.
async fn leased(stage: &Stage, limit: usize) -> Vec<Lease> {
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
async fn taken_over(stage: &Stage, leases: &[Lease]) {
    let worker = stage.app.worker().queues(["elsewhere"]).start().await.unwrap();
    for lease in leases {
        let state = async || stage.store.job(lease.job).await.unwrap().unwrap().standing.state;
        eventually("taken over", async || state().await.name() != "running").await;
    }
    worker.shutdown().await.unwrap();
}

fn step(seq: u64, value: i64, reply: i64) -> Step {
    Step { seq, hash: json::hash(&value).unwrap(), reply: Reply::Value(Json::encode(&reply).unwrap()) }
}

fn record(lease: Lease, steps: Vec<Step>) -> Vec<Record> {
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

#[qtask]
async fn has_no_steps() -> u32 {
    TaskContext::current().attempt()
}

async fn a_job_that_is_lost_again_and_again_is_dead_in_the_end(stage: Stage) {
    let job = stage.app.enqueue(has_no_steps()).await.unwrap();
    for (state, failures) in [("waiting", 0), ("waiting", 1), ("waiting", 2), ("dead", 3)] {
        taken_over(&stage, &[vanished(&stage).await]).await;
        let status = job.status().await.unwrap();
        assert_eq!((status.state.name(), status.failures), (state, failures));
    }
    let error = job.result().await.unwrap_err().to_string();
    let said = "is dead: its worker was lost while it ran, failure 3 in a row: it may be what kills its workers";
    assert!(error.ends_with(said), "{error}");
    let attempts = job.status().await.unwrap().attempts;
    assert_eq!(attempts.iter().map(|attempt| &attempt.ending).collect::<Vec<_>>(), [&Ending::Lost; 4]);
}

async fn a_job_that_kills_its_workers_takes_no_neighbour_with_it(stage: Stage) {
    let poison = stage.app.enqueue(has_no_steps().priority(1)).await.unwrap();
    let neighbours = stage.app.enqueue_all((0..6).map(|_| has_no_steps())).await.unwrap();
    let mut kills = 0;
    while poison.status().await.unwrap().state.name() != "dead" {
        let leases = leased(&stage, 4).await;
        if leases.iter().any(|lease| lease.job == poison.id()) {
            // The worker that runs the poison dies at once, with all that it has leased.
            stage.store.leave(leases[0].worker).await.unwrap();
            taken_over(&stage, &leases).await;
            kills += 1;
            continue;
        }
        assert_eq!(leases.len(), 1, "the others are suspects too by now, and run one at a time");
        let ended = given(leases[0], NextState::Done { output: Output::Value(Json::from_stored("1")) }, None);
        assert_eq!(stage.store.settle([ended].into()).await.unwrap(), [Written::Yes]);
    }
    assert_eq!(kills, 4, "the first is no failure, and the third failure ends it");
    stage.work().await;
    for job in neighbours {
        in_time(job.result()).await.unwrap();
        assert_eq!(job.status().await.unwrap().failures, 0);
        assert!(
            stage.store.job(job.id()).await.unwrap().unwrap().standing.suspect.is_none(),
            "what has ended is no suspect"
        );
    }
}

/// The settlement of a job under its lease.
fn given(lease: Lease, next: NextState, suspect: Option<Suspect>) -> Settlement {
    Settlement {
        hold: Hold::Lease(lease),
        outcome: Outcome { next, failures: 0, suspect },
        steps: None,
        attempt: None,
        now: Timestamp::now(),
    }
}

async fn a_job_that_gets_on_between_its_losses_is_never_dead(stage: Stage) {
    let job = stage.app.enqueue(builds(8)).await.unwrap();
    let (mut sum, mut value) = (0, 0);
    for seq in 0..7 {
        let lease = vanished(&stage).await;
        let yielded = value + sum;
        let written = stage.store.record(record(lease, vec![step(seq, yielded, yielded * 10)]).into()).await.unwrap();
        assert_eq!(written, [Written::Yes]);
        (sum, value) = (sum + yielded * 10, value + 1);
        taken_over(&stage, &[lease]).await;
        assert_eq!(job.status().await.unwrap().failures, 0, "after a new step it is not to blame");
    }
    stage.work().await;
    assert_eq!(job.result().await.unwrap().len(), 8);
    assert_eq!(job.status().await.unwrap().failures, 0);
}

async fn a_user_has_a_suspect_tried_again_like_any_other_job(stage: Stage) {
    let job = stage.app.enqueue(has_no_steps()).await.unwrap();
    for _ in 0..4 {
        taken_over(&stage, &[vanished(&stage).await]).await;
    }
    job.retry().await.unwrap();
    let again = stage.store.job(job.id()).await.unwrap().unwrap();
    assert_eq!((again.standing.state.name(), again.standing.failures, again.standing.suspect), ("waiting", 0, None));
    stage.work().await;
    assert_eq!(job.result().await.unwrap(), 5);
}

/// Makes suspects of jobs that are due.
async fn suspected(stage: &Stage, count: usize) {
    let leases = all_vanished(stage, count).await;
    assert_eq!(leases.len(), count);
    taken_over(stage, &leases).await;
}

#[qtask]
async fn comes_and_goes(name: String, diary: State<Diary>) {
    diary.note(format!("{name} comes"));
    tokio::task::yield_now().await;
    diary.note(format!("{name} goes"));
}

async fn suspects_run_one_at_a_time_however_many_workers_an_application_has(stage: Stage) {
    let suspects = stage.app.enqueue_all((0..20).map(|_| comes_and_goes("suspect".into()))).await.unwrap();
    suspected(&stage, 20).await;
    let others = stage.app.enqueue_all((0..20).map(|_| comes_and_goes("other".into()))).await.unwrap();
    let workers = [stage.app.worker().concurrency(3), stage.app.worker().concurrency(1)].map(|w| w.run_until_idle());
    for idle in in_time(futures::future::join_all(workers)).await {
        idle.unwrap();
    }
    for job in suspects.iter().chain(&others) {
        in_time(job.result()).await.unwrap();
        assert_eq!(job.status().await.unwrap().failures, 0);
    }
    let lines = stage.diary.lines();
    let of_suspects: Vec<_> = lines.iter().filter(|line| line.starts_with("suspect")).collect();
    assert!(of_suspects.chunks(2).all(|pair| pair == ["suspect comes", "suspect goes"]), "{of_suspects:?}");
    assert_eq!(of_suspects.len(), 40);
}

#[qtask]
async fn holds_up(diary: State<Diary>) {
    diary.note("holds up");
    diary.told("go on").await;
}

async fn a_suspect_waits_no_longer_than_others_of_its_age(stage: Stage) {
    let suspect = stage.app.enqueue(comes_and_goes("suspect".into())).await.unwrap();
    let lease = vanished(&stage).await;
    let first = stage.app.enqueue(holds_up()).await.unwrap();
    let others = stage.app.enqueue_all((0..20).map(|_| comes_and_goes("other".into()))).await.unwrap();
    let worker = stage.app.worker().concurrency(1).start().await.unwrap();
    stage.diary.until("holds up").await;
    let state = async || stage.store.job(lease.job).await.unwrap().unwrap().standing.state;
    eventually("taken over", async || state().await.name() != "running").await;
    stage.diary.note("go on");
    for job in others.iter().chain([&suspect]) {
        in_time(job.result()).await.unwrap();
    }
    in_time(first.result()).await.unwrap();
    let lines = stage.diary.lines();
    let before = lines.iter().position(|line| line == "suspect comes").unwrap();
    assert!(before < 10, "although others were leased ahead all the time: {lines:?}");
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

/// Makes suspects of so many jobs that hold up on a store in memory with tokio's clock, and starts two workers.
async fn suspects_that_hold_up(count: usize) -> (Stage, Vec<JobHandle<()>>, Vec<qtasks::Worker>) {
    let stage = Stage::in_memory(|builder| builder.clock(Clock::tokio())).await;
    let jobs = stage.app.enqueue_all((0..count).map(|_| holds_up())).await.unwrap();
    for lease in all_vanished(&stage, count).await {
        let lost = given(lease, NextState::Waiting { due: Timestamp::now() }, Some(Suspect::default()));
        assert_eq!(stage.store.settle([lost].into()).await.unwrap(), [Written::Yes]);
    }
    let workers = [stage.app.worker().concurrency(1), stage.app.worker()].map(|worker| worker.start());
    (stage, jobs, futures::future::try_join_all(workers).await.unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_suspect_that_does_not_end_passes_its_turn_on_when_it_has_lived_long_enough() {
    let (stage, jobs, workers) = suspects_that_hold_up(6).await;
    stage.diary.until("holds up").await;
    // Time passes here only when nothing is left to do.
    tokio::time::sleep(Duration::from_millis(4_900)).await;
    assert_eq!(stage.diary.count("holds up"), 1);
    let suspect =
        async |job: &JobHandle<()>| stage.store.job(job.id()).await.unwrap().unwrap().standing.suspect.unwrap();
    assert!(suspect(&jobs[0]).await.liable, "it has the turn");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(stage.diary.count("holds up"), 2);
    for job in &jobs[..2] {
        assert!(!suspect(job).await.liable, "of two that run beside each other none is to blame");
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(stage.diary.count("holds up"), 6);
    stage.diary.note("go on");
    for job in jobs {
        job.result().await.unwrap();
    }
    for worker in workers {
        worker.shutdown().await.unwrap();
    }
}

#[qtask(generate_handler = notes)]
async fn makes_a_step_and_stays(diary: State<Diary>) -> Vec<i64> {
    yield_!(1);
    diary.told("go on").await;
}

async fn a_suspect_that_makes_a_step_passes_its_turn_on_at_once(stage: Stage) {
    let jobs = stage.app.enqueue_all((0..3).map(|_| makes_a_step_and_stays())).await.unwrap();
    suspected(&stage, 3).await;
    let worker = stage.app.worker().start().await.unwrap();
    eventually("all of them handle a value", async || stage.diary.count("handle 1") == 3).await;
    for job in &jobs {
        let job = async || stage.store.job(job.id()).await.unwrap().unwrap();
        eventually("its step is recorded", async || job().await.counts.steps == 1).await;
        assert_eq!(job().await.standing.suspect.map(|suspect| (suspect.losses, suspect.liable)), Some((0, false)));
    }
    stage.diary.note("go on");
    for job in jobs {
        in_time(job.result()).await.unwrap();
    }
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

/// Lets nobody renew leases while it is shut, and tells who wants to.
#[derive(Clone, Debug, Default)]
struct Gate {
    shut: watch::Sender<bool>,
    waits: Arc<Notify>,
}

impl Edge for Gate {
    async fn pass<T: Send + 'static>(&self, call: &'static str, carry_out: CarryOut<T>) -> qtasks::Result<T> {
        if call == "renew" && *self.shut.borrow() {
            self.waits.notify_one();
            self.shut.subscribe().wait_for(|shut| !shut).await.unwrap();
        }
        carry_out().await
    }
}

#[qtask(generate_handler = notes)]
async fn waits_in_between(diary: State<Diary>) -> Vec<i64> {
    yield_!(1);
    diary.told("go on").await;
    yield_!(2);
}

/// Has a worker get into doubt about its leases as soon as the diary says `first`, and tells its job to go on. Gives what
/// the diary says when all that can go on has done so. Then leases are renewed again, and it comes to say `last`.
async fn doubted(first: &str, last: &str, enqueue: impl AsyncFnOnce(&QueueTasks)) -> Vec<String> {
    let (gate, diary, memory) = (Gate::default(), Diary::default(), Arc::new(Memory::new()));
    let store = Behind::new(gate.clone(), memory.clone(), &Ledger::default());
    let app = QueueTasks::builder().store_at(Arc::new(store)).clock(Clock::tokio()).state(diary.clone());
    let app = app.build().await.unwrap();
    enqueue(&app).await;
    let worker = app.worker().concurrency(1).start().await.unwrap();
    diary.until(first).await;
    gate.shut.send_replace(true);
    memory.notifier().notify_doubt();
    in_time(gate.waits.notified()).await;
    diary.note("go on");
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    let then = diary.lines();
    gate.shut.send_replace(false);
    diary.until(last).await;
    worker.shutdown().await.unwrap();
    then
}

#[tokio::test(start_paused = true)]
async fn while_leases_are_in_doubt_no_handler_is_called() {
    let one = async |app: &QueueTasks| _ = app.enqueue(waits_in_between()).await.unwrap();
    assert_eq!(doubted("handle 1", "handle 2", one).await, ["handle 1", "go on"]);
}

#[tokio::test(start_paused = true)]
async fn while_leases_are_in_doubt_no_body_is_started() {
    let two = async |app: &QueueTasks| {
        app.enqueue(holds_up()).await.unwrap();
        app.enqueue(comes_and_goes("later".into())).await.unwrap();
    };
    assert_eq!(doubted("holds up", "later comes", two).await, ["holds up", "go on"]);
}
