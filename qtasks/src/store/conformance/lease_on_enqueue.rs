//! Workers wait for new jobs: a store may lease these as they are enqueued, or leave them to the next lease.

use std::sync::Arc;

use futures::{FutureExt as _, future::BoxFuture};

use super::harness::*;
use crate::{
    error::Result,
    model::job::{Job, JobCall, NewJob, State, StateKind, WorkerId},
    store::{Ask, Find, Store},
};

/// A worker that waits for new jobs.
struct Waiter<'s> {
    store: &'s Subject,
    ask: Ask,
    free: usize,
    pending: Option<BoxFuture<'static, Result<Vec<Job>>>>,
}

impl<'s> Waiter<'s> {
    fn new(store: &'s Subject, limit: usize, free: usize) -> Self {
        let mut waiter = Self { store, ask: Ask { limit, ..ask(WorkerId::new()) }, free, pending: None };
        waiter.wait();
        waiter
    }

    fn wait(&mut self) {
        let free = self.free;
        self.pending = self.store.0.lease_on_enqueue(self.ask.clone(), Arc::new(move || free));
        assert_eq!(self.given(), None, "no job is enqueued yet");
    }

    /// The jobs that were leased to the worker as they were enqueued.
    fn given(&mut self) -> Option<Vec<Job>> {
        Some(answer(self.pending.as_mut()?.now_or_never()?))
    }

    /// The jobs that were leased to the worker as they were enqueued, or those that it leases now.
    async fn leased(&mut self) -> Vec<Job> {
        match self.given() {
            Some(jobs) => {
                self.wait();
                jobs
            }
            None => self.store.lease(self.ask.clone()).await,
        }
    }
}

/// Each job is leased once, at its first attempt, the most urgent first; and its lease is like any other.
pub async fn new_jobs_come_to_a_worker_that_waits(store: Arc<dyn Store>) {
    let store = Subject(store);
    let mut waiter = Waiter::new(&store, 2, 9);
    store.renew(waiter.ask.worker, 1).await;
    for round in 0..3 {
        assert_eq!(waiter.leased().await, [], "round {round}");
        let all = store.enqueue([0, 7, -7, 8].map(|priority| NewJob::from(JobCall { priority, ..call().call }))).await;
        for expected in [[all[3], all[1]], [all[0], all[2]]] {
            let leased = waiter.leased().await;
            assert_eq!(ids(&leased), expected, "round {round}");
            for job in leased {
                assert_eq!((job.standing.attempt, &job), (1, &store.job(job.call.id).await));
                assert_eq!(store.held(waiter.ask.worker).await.iter().filter(|held| **held == job.call.id).count(), 1);
                store.settle(settlement(lease_of(&job), done())).await;
            }
        }
    }
}

/// That is so when the worker begins to wait, and whenever a job waits that it has not leased yet.
pub async fn what_waits_already_comes_before_what_is_new(store: Arc<dyn Store>) {
    let store = Subject(store);
    let mut all = store.enqueue(calls(2)).await;
    let mut waiter = Waiter::new(&store, 1, 9);
    all.extend(store.enqueue(calls(1)).await);
    let first = waiter.leased().await;
    all.extend(store.enqueue(calls(1)).await);
    assert_eq!(waiter.given(), None);
    let mut leased = ids(&first);
    for _ in 0..3 {
        leased.extend(ids(&waiter.leased().await));
    }
    assert_eq!(leased, all);
}

/// Each job comes once, and the first question is answered first.
pub async fn a_worker_may_wait_more_than_once(store: Arc<dyn Store>) {
    let store = Subject(store);
    let mut first = Waiter::new(&store, 9, 2);
    let mut second = Waiter { store: &store, ask: first.ask.clone(), free: 2, pending: None };
    second.wait();
    assert_eq!(store.lease(first.ask.clone()).await, []);
    for _ in 0..4 {
        let jobs = store.enqueue(calls(2)).await;
        let (at_first, at_second) = (first.given(), second.given());
        assert!(at_first.is_none() || at_second.is_none(), "{at_first:?} {at_second:?}");
        for (waiter, given) in [(&mut first, &at_first), (&mut second, &at_second)] {
            given.iter().for_each(|_| waiter.wait());
        }
        let mut came: Vec<_> = at_first.into_iter().chain(at_second).flatten().collect();
        came.extend(store.lease(first.ask.clone()).await);
        assert_eq!(ids(&came), jobs);
    }
}

/// It gets no job that is due later, none of other queues or tasks, and none that is there already.
pub async fn a_worker_that_waits_gets_only_new_jobs_that_are_due_and_its_own(store: Arc<dyn Store>) {
    let store = Subject(store);
    let mut waiter = Waiter::new(&store, 9, 9);
    assert_eq!(waiter.leased().await, []);
    let known = call();
    store.enqueue([known.clone()]).await;
    assert_eq!(ids(&waiter.leased().await), [known.call.id]);
    assert_eq!(waiter.leased().await, []);
    let delayed = NewJob { call: JobCall { enqueued: at(0), ..call().call }, due: at(1), unique: None };
    let others = [
        NewJob::from(JobCall { task: "other".into(), ..call().call }),
        NewJob::from(JobCall { queue: "other".into(), ..call().call }),
    ];
    let due = NewJob { call: JobCall { enqueued: at(0), ..call().call }, due: at(0), unique: None };
    store.enqueue(others.into_iter().chain([delayed, known, due.clone(), due.clone()])).await;
    assert_eq!(ids(&waiter.leased().await), [due.call.id]);
    assert_eq!(waiter.leased().await, []);
    assert_eq!(store.find(Find::default().state(StateKind::Waiting)).await.len(), 3);
    assert!(store.find(Find::default().state(StateKind::Running)).await.iter().all(|job| job.standing.attempt == 1));
}

/// New jobs are then for other workers, or for later.
pub async fn a_worker_that_waits_without_a_free_slot_is_given_nothing(store: Arc<dyn Store>) {
    let store = Subject(store);
    let mut waiter = Waiter::new(&store, 9, 0);
    assert_eq!(waiter.leased().await, []);
    let jobs = store.enqueue(calls(3)).await;
    assert_eq!(waiter.given(), None);
    assert_eq!(ids(&waiter.leased().await), jobs);
}

/// New jobs are then for other workers, also where the caller has dropped the call.
pub async fn a_worker_that_waits_no_more_is_given_nothing(store: Arc<dyn Store>) {
    let store = Subject(store);
    let (mut leaving, mut dropped) = (Waiter::new(&store, 9, 9), Waiter::new(&store, 9, 9));
    assert_eq!((leaving.leased().await, dropped.leased().await), (vec![], vec![]));
    store.0.stop_lease_on_enqueue(leaving.ask.worker).await;
    if leaving.pending.is_some() {
        assert_eq!(leaving.given(), Some(vec![]), "a question that is taken back is answered");
    }
    drop(dropped);
    let jobs = store.enqueue(calls(3)).await;
    let running = store.all_jobs().await.iter().any(|job| matches!(job.standing.state, State::Running { .. }));
    assert!(!running, "nobody has asked for it");
    assert_eq!(ids(&store.lease(ask(WorkerId::new())).await), jobs);
}
