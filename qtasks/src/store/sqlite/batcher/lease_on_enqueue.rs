//! Workers are leased new jobs in the transaction that enqueues them.

use std::sync::Arc;

use futures::{FutureExt as _, future::BoxFuture};
use jiff::SignedDuration;

use crate::{
    error::Result,
    model::job::{Job, JobCall, JobId, NewJob, State},
    store::{
        Ask, Budget, Find, Store,
        sqlite::{
            Sqlite,
            fixture::{NOW, ask, lease, neighbour, new_job, soon, store},
        },
    },
};

type Pending = BoxFuture<'static, Result<Vec<Job>>>;

/// A waiter that the writer will find, of a worker that may have something to catch up on.
fn asked(store: &Sqlite, ask: Ask, free: usize) -> Pending {
    let mut pending = store.lease_on_enqueue(ask, Arc::new(move || free)).unwrap();
    assert!((&mut pending).now_or_never().is_none());
    pending
}

async fn standing(store: &Sqlite, ask: Ask) -> Pending {
    let pending = asked(store, ask.clone(), 9);
    assert!(store.lease(ask).await.unwrap().jobs.is_empty());
    pending
}

async fn ids(pending: Pending) -> Vec<JobId> {
    soon(pending).await.unwrap().iter().map(|job| job.call.id).collect()
}

async fn states(store: &Sqlite) -> Vec<(JobId, State)> {
    let jobs = store.find(Find::default().oldest_first(), None, Budget::jobs(100)).await.unwrap().jobs;
    jobs.into_iter().map(|job| (job.call.id, job.standing.state)).collect()
}

#[tokio::test]
async fn a_job_is_leased_as_it_comes() {
    let (_folder, store) = store().await;
    let (ask, job, mut work) = (ask(9), new_job(), store.notifier().work());
    let (worker, pending) = (ask.worker, standing(&store, ask).await);
    store.enqueue(vec![job.clone()]).await.unwrap();
    let leased = pending.now_or_never().expect("it came before the job was known to be enqueued").unwrap();
    assert_eq!((leased[0].call.id, leased[0].standing.attempt), (job.call.id, 1));
    assert_eq!(states(&store).await, [(job.call.id, State::Running { worker, due: job.due })]);
    assert!(!work.take_notification(), "no worker needs to look for it");
}

#[tokio::test]
async fn of_many_jobs_the_most_urgent_are_leased_and_the_others_wait() {
    let (_folder, store) = store().await;
    let (pending, mut work) = (standing(&store, ask(2)).await, store.notifier().work());
    let jobs = [0, 7, -7, 8].map(|priority| NewJob::from(JobCall { priority, ..new_job().call }));
    store.enqueue(jobs.to_vec()).await.unwrap();
    assert_eq!(ids(pending).await, [jobs[3].call.id, jobs[1].call.id]);
    assert!(work.take_notification());
    assert_eq!(lease(&store, 9).await.len(), 2);
}

#[tokio::test]
async fn what_waits_already_comes_first() {
    let (_folder, store) = store().await;
    let ask = ask(1);
    let mut pending = asked(&store, ask.clone(), 9);
    let jobs = [(); 4].map(|()| new_job());
    let mut in_order = Vec::new();
    for job in &jobs[..2] {
        store.enqueue(vec![job.clone()]).await.unwrap();
    }
    for _ in 0..3 {
        in_order.extend(store.lease(ask.clone()).await.unwrap().jobs.into_iter().map(|job| job.call.id));
    }
    // Nothing waits now, until another worker's job does.
    for job in &jobs[2..] {
        assert!((&mut pending).now_or_never().is_none());
        store.enqueue(vec![job.clone()]).await.unwrap();
        in_order.extend(ids(std::mem::replace(&mut pending, asked(&store, ask.clone(), 9))).await);
    }
    assert_eq!(in_order, jobs.map(|job| job.call.id));
    store.enqueue(vec![NewJob::from(JobCall { task: "u".into(), ..new_job().call })]).await.unwrap();
    store.enqueue(vec![new_job()]).await.unwrap();
    assert!(pending.now_or_never().is_none());
    assert_eq!(lease(&store, 9).await.len(), 1);
}

#[tokio::test]
async fn what_was_enqueued_after_a_worker_read_its_clock_comes_first() {
    let (_folder, store) = store().await;
    let ask = ask(1);
    let pending = asked(&store, ask.clone(), 9);
    let enqueued = NOW + SignedDuration::from_millis(1);
    let jobs = [(); 2].map(|()| NewJob { call: JobCall { enqueued, ..new_job().call }, due: enqueued, unique: None });
    store.enqueue(vec![jobs[0].clone()]).await.unwrap();
    let leased = store.lease(ask.clone()).await.unwrap();
    assert_eq!((leased.jobs, leased.next_due), (vec![], Some(enqueued)), "by the worker's clock it is not due yet");
    store.enqueue(vec![jobs[1].clone()]).await.unwrap();
    assert!(pending.now_or_never().is_none());
    let leased = store.lease(Ask { now: enqueued, ..ask }).await.unwrap().jobs;
    assert_eq!(leased[0].call.id, jobs[0].call.id);
}

#[tokio::test]
async fn what_is_rolled_back_is_not_leased() {
    let (folder, store) = store().await;
    // The one behind the one that is leased.
    let refuse = "CREATE TRIGGER refuse BEFORE INSERT ON qtasks_jobs WHEN NEW.rank = 9
                  BEGIN SELECT raise(ABORT, 'no'); END";
    let mut work = store.notifier().work();
    neighbour(&folder).execute_batch(refuse).unwrap();
    soon(work.notification()).await;
    let (pending, job) = (standing(&store, ask(1)).await, new_job());
    store.enqueue(vec![job.clone(), NewJob::from(JobCall { priority: -9, ..new_job().call })]).await.unwrap_err();
    assert_eq!(states(&store).await, []);
    store.enqueue(vec![job.clone()]).await.unwrap();
    assert_eq!(ids(pending).await, [job.call.id]);
    assert!(matches!(states(&store).await[..], [(id, State::Running { .. })] if id == job.call.id));
}
