//! How jobs are found and kept that run once and are done: fresh ones, by the marks of their lanes.

use std::time::Duration;

use jiff::Timestamp;
use qtasks::{
    job::{Attempt, Ending, Job, JobCall, JobId, NewJob, NextState, Output, StateKind},
    json::Json,
    lifecycle::Outcome,
    postgres::Postgres,
    store::{Ask, Hold, Settlement, Store, Written},
};
use qtasks_tests::{
    eventually,
    servers::postgres::{shared, tell},
};

use crate::{NOW, ask, enqueueing::connect, new_job, open};

/// Nothing waits with an id before this, says the mark that is made when all of these have been leased.
async fn with_a_mark(url: &str) -> Vec<Job> {
    let store = open(url).await;
    store.enqueue((0..10_000).map(|_| minutes_ago(1)).collect()).await.unwrap();
    let mut jobs = Vec::new();
    while jobs.len() < 10_000 {
        jobs.extend(store.lease(ask(2_000)).await.unwrap().jobs);
    }
    let marked = "SELECT count(*) > 0 FROM qtasks.lanes";
    eventually("how far jobs have been taken is marked", async || tell(url, marked).unwrap() == "t").await;
    jobs
}

/// A job whose id was made some minutes ago, as one that could not be enqueued for so long.
fn minutes_ago(minutes: u64) -> NewJob {
    let mut id = JobId::new().to_bytes();
    let time = u64::from_be_bytes([0, 0, id[0], id[1], id[2], id[3], id[4], id[5]]) - minutes * 60_000;
    id[..6].copy_from_slice(&time.to_be_bytes()[2..]);
    with_id(JobId::from_bytes(id), new_job())
}

fn with_id(id: JobId, job: NewJob) -> NewJob {
    NewJob { call: JobCall { id, ..job.call }, ..job }
}

fn insert(job: &NewJob) -> String {
    format!(
        "INSERT INTO qtasks.jobs (id, queue, task, priority, fresh, enqueued, due, state, args)
         VALUES ('{}', 'default', 'task', 0, true, 0, 0, 1, '{{}}')",
        job.call.id
    )
}

async fn leased(store: &Postgres) -> Vec<JobId> {
    ids(&store.lease(ask(9)).await.unwrap().jobs)
}

fn ids(jobs: &[Job]) -> Vec<JobId> {
    jobs.iter().map(|job| job.call.id).collect()
}

fn to(next: NextState) -> Outcome {
    Outcome { next, failures: 0, suspect: None }
}

fn done(job: &Job) -> Settlement {
    let lease = job.lease().unwrap();
    Settlement {
        hold: Hold::Lease(lease),
        outcome: to(NextState::Done { output: Output::Value(Json::from_stored("1")) }),
        steps: None,
        attempt: Some(Attempt {
            number: lease.attempt,
            worker: lease.worker,
            started: Some(NOW),
            ended: NOW,
            ending: Ending::Done,
            steps: None,
        }),
        now: NOW,
    }
}

/// A figure of the table `jobs`, as the server has it when the store is closed.
async fn of_jobs(url: &str, column: &str, at_least: u32) -> u32 {
    let sum = format!("SELECT {column} FROM pg_stat_user_tables WHERE relname = 'jobs'");
    let counted = || tell(url, &sum).unwrap().parse::<u32>().unwrap();
    eventually("what sessions did is counted", async || counted() >= at_least).await;
    counted()
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test]
async fn a_task_without_jobs_costs_no_look_at_those_of_others() {
    let url = shared().new_database();
    let store = open(&url).await;
    store.enqueue((0..2_000).map(|_| new_job()).collect()).await.unwrap();
    // With these figures the server takes all jobs for those of any task.
    tell(&url, "ANALYZE qtasks.jobs").unwrap();
    let tasks = ["a", "b", "c", "d", "e", "f", "task"];
    for _ in 0..10 {
        let jobs = store.lease(Ask { tasks: tasks.into(), ..ask(10) }).await.unwrap().jobs;
        assert_eq!(jobs.len(), 10);
    }
    drop(store);
    let read = of_jobs(&url, "idx_tup_fetch", 300).await;
    assert!(read < 8_000, "{read} rows were read for a hundred jobs");
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test]
async fn jobs_that_run_once_and_are_done_change_no_index_and_leave_one_row_each() {
    let url = shared().new_database();
    let store = open(&url).await;
    for _ in 0..5 {
        store.enqueue((0..100).map(|_| new_job()).collect()).await.unwrap();
        let jobs = store.lease(ask(100)).await.unwrap().jobs;
        let written = store.settle(jobs.iter().map(done).collect()).await.unwrap();
        assert_eq!(written, [Written::Yes; 100]);
    }
    drop(store);
    let counted = |column: &str| {
        let sum = format!("SELECT {column} FROM pg_stat_user_tables WHERE relname = 'jobs'");
        tell(&url, &sum).unwrap().parse::<u32>().unwrap()
    };
    eventually("updates are counted", async || counted("n_tup_upd") == 1_000).await;
    // While a transaction in any database of the server may see what was before, pages have room for one and a half changes.
    let beside = counted("n_tup_hot_upd");
    assert!(beside >= 700, "{beside} of 1000 rows were changed beside themselves");
    assert_eq!(tell(&url, "SELECT count(*) FROM qtasks.attempts").unwrap(), "0");
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test]
async fn an_attempt_that_ended_well_stays_in_the_history_when_the_job_goes_on() {
    let store = open(&shared().new_database()).await;
    store.enqueue(vec![new_job()]).await.unwrap();
    let job = store.lease(ask(1)).await.unwrap().jobs.remove(0);
    let first = done(&job);
    let attempts = vec![Attempt { steps: Some(0), ..first.attempt.clone().unwrap() }];
    let again = Settlement {
        hold: Hold::Seen { job: job.call.id, state: StateKind::Done, attempt: 1 },
        outcome: to(NextState::Waiting { due: NOW }),
        attempt: None,
        ..first.clone()
    };
    for settlement in [first, again] {
        assert_eq!(store.settle([settlement].into()).await.unwrap(), [Written::Yes]);
        assert_eq!(store.attempts(job.call.id).await.unwrap(), attempts);
    }
    let job = store.lease(ask(1)).await.unwrap().jobs.remove(0);
    assert_eq!(store.settle([done(&job)].into()).await.unwrap(), [Written::Yes]);
    let numbers: Vec<_> = store.attempts(job.call.id).await.unwrap().iter().map(|attempt| attempt.number).collect();
    assert_eq!(numbers, [1, 2]);
}

/// Another process knows of the mark alone.
#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test]
async fn a_job_behind_the_mark_that_comes_to_light_later_is_leased() {
    let url = shared().new_database();
    open(&url).await;
    let (late, later) = (minutes_ago(5), minutes_ago(5));
    let open_for_long = connect(&url).await;
    open_for_long.batch_execute(&format!("BEGIN; {}", insert(&late))).await.unwrap();
    with_a_mark(&url).await;
    let store = open(&url).await;
    assert_eq!(leased(&store).await, []);
    // The transaction began before the mark was made; of the other not even that is so.
    open_for_long.batch_execute("COMMIT").await.unwrap();
    assert_eq!(leased(&store).await, [late.call.id]);
    tell(&url, &insert(&later)).unwrap();
    assert_eq!(leased(&store).await, [later.call.id]);
    assert_eq!(leased(&*open(&url).await).await, []);
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test]
async fn no_job_that_waits_is_behind_a_mark() {
    let url = shared().new_database();
    let (store, early) = (open(&url).await, minutes_ago(5));
    // Its time has not come for a worker whose clock is behind.
    let due = NOW + Duration::from_secs(5);
    store
        .enqueue(vec![NewJob { call: JobCall { enqueued: due, ..early.call.clone() }, due, unique: None }])
        .await
        .unwrap();
    with_a_mark(&url).await;
    let upto = format!("SELECT upto = '{}' FROM qtasks.lanes", early.call.id);
    assert_eq!(tell(&url, &upto).unwrap(), "t");
    let ask = Ask { now: due, ..ask(9) };
    let jobs = open(&url).await.lease(ask).await.unwrap().jobs;
    assert_eq!(ids(&jobs), [early.call.id]);
}

/// A server that was filled from a dump of another begins to count transactions anew.
#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test]
async fn marks_of_another_server_are_of_no_use() {
    let url = shared().new_database();
    with_a_mark(&url).await;
    let foreign = "UPDATE qtasks.lanes SET seen = '4000000000:4000000000:',
        upto = 'ffffffff-ffff-ffff-ffff-ffffffffffff'";
    tell(&url, foreign).unwrap();
    let (store, job) = (open(&url).await, minutes_ago(0));
    tell(&url, &insert(&job)).unwrap();
    assert_eq!(leased(&store).await, [job.call.id]);
    with_a_mark(&url).await;
    let is_own = "SELECT pg_snapshot_xmax(seen) <= pg_snapshot_xmax(pg_current_snapshot()) FROM qtasks.lanes";
    eventually("the marks are made anew", async || tell(&url, is_own).unwrap() == "t").await;
}

/// Rows of leases go away when little of them runs any more, and what runs stays known.
#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test]
async fn jobs_that_run_for_long_are_found_among_very_many_that_have_ended() {
    let url = shared().new_database();
    let store = open(&url).await;
    let ask = ask(8);
    let mut running = Vec::new();
    for _ in 0..100 {
        store.enqueue((0..8).map(|_| new_job()).collect()).await.unwrap();
        let mut jobs = store.lease(ask.clone()).await.unwrap().jobs;
        running.push(jobs.pop().unwrap().call.id);
        let written = store.settle(jobs.iter().map(done).collect()).await.unwrap();
        assert_eq!(written, [Written::Yes; 7]);
    }
    let named = "SELECT sum(cardinality(jobs)) <= 400 FROM qtasks.leases";
    eventually("rows of leases are tidied", async || tell(&url, named).unwrap() == "t").await;
    let mut held = ids(&store.held(ask.worker, 999).await.unwrap());
    held.sort_unstable();
    assert_eq!(held, running);
    let renewed = store.renew(ask.worker, 1).await.unwrap();
    assert_eq!(renewed.leases.len(), 100);
}

/// A server that has lost steps refuses the settlement of a job whose lease holds still.
#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test]
async fn a_job_whose_settlement_was_refused_for_its_steps_is_found_when_its_worker_is_lost() {
    let url = shared().new_database();
    let (store, ask) = (open(&url).await, ask(256));
    store.enqueue((0..256).map(|_| new_job()).collect()).await.unwrap();
    let jobs = store.lease(ask.clone()).await.unwrap().jobs;
    let (refused, others) = jobs.split_first().unwrap();
    let settlement = Settlement { steps: Some(9), ..done(refused) };
    assert_eq!(store.settle([settlement].into()).await.unwrap(), [Written::Fenced]);
    let written = store.settle(others.iter().map(done).collect()).await.unwrap();
    assert_eq!(written, [Written::Yes; 255]);
    let tidied = "SELECT coalesce(sum(cardinality(jobs)), 0) < 256 FROM qtasks.leases";
    eventually("rows of leases are tidied", async || tell(&url, tidied).unwrap() == "t").await;
    assert_eq!(ids(&store.held(ask.worker, 9).await.unwrap()), [refused.call.id]);
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test]
async fn old_jobs_are_pruned_behind_very_many_that_stay() {
    let store = open(&shared().new_database()).await;
    let later = |seconds: i64| Timestamp::from_second(NOW.as_second() + seconds).unwrap();
    let waits = NewJob { due: later(9_999), ..new_job() };
    store.enqueue((0..4_500).map(|_| with_id(JobId::new(), waits.clone())).collect()).await.unwrap();
    store.enqueue((0..1_200).map(|_| new_job()).collect()).await.unwrap();
    let jobs = store.lease(ask(1_200)).await.unwrap().jobs;
    assert!(store.settle(jobs.iter().map(done).collect()).await.unwrap().iter().all(|it| *it == Written::Yes));
    let prune = async |limit| store.prune(later(1), later(1), limit).await.unwrap();
    assert_eq!((prune(500).await, prune(500).await, prune(500).await, prune(500).await), (500, 500, 200, 0));
    assert!(store.job(waits.call.id).await.unwrap().is_none() && store.job(jobs[0].call.id).await.unwrap().is_none());
}
