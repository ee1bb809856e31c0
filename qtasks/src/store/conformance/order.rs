//! Jobs wait in the order of their making, each once.

use std::sync::Arc;

use super::harness::*;
use crate::{
    model::job::{JobCall, JobId, Lease, NewJob, NextState, StateKind, WorkerId},
    store::{Ask, Budget, Find, Hold, Settlement, Store},
};

/// That is so in whatever order they get to the store, and however many are read or leased at a time.
pub async fn jobs_that_come_late_are_leased_and_read_in_order(store: Arc<dyn Store>) {
    let store = Subject(store);
    let jobs = calls(60);
    let in_order: Vec<_> = jobs.iter().map(|job| job.call.id).collect();
    for some in [&jobs[40..], &jobs[..10], &jobs[20..40], &jobs[10..20]] {
        store.enqueue(some.iter().rev().cloned()).await;
    }
    assert_eq!(ids(&store.all_jobs().await), in_order);
    let page = answer(store.0.find(Find::default().oldest_first(), Some(in_order[14]), Budget::jobs(10)).await).jobs;
    assert_eq!(ids(&page), in_order[15..25]);
    let mut leased = ids(&store.lease(Ask { limit: 45, ..ask(WorkerId::new()) }).await);
    leased.extend(ids(&store.lease(ask(WorkerId::new())).await));
    assert_eq!(leased, in_order);
}

/// Jobs that are not due by the clock of the worker go on waiting.
pub async fn a_worker_whose_clock_is_behind_passes_over_what_is_not_due(store: Arc<dyn Store>) {
    let store = Subject(store);
    let jobs = [0, 30, 0, 20, 0, 40, 0].map(|due| NewJob {
        call: JobCall { enqueued: at(50), ..call().call },
        due: at(due),
        unique: None,
    });
    let all = store.enqueue(jobs).await;
    let early = store.lease_all(Ask { limit: 3, now: at(19), ..ask(WorkerId::new()) }).await;
    assert_eq!((ids(&early.jobs), early.next_due), (vec![all[0], all[2], all[4]], Some(at(20))));
    let later = store.lease_all(Ask { now: at(30), ..ask(WorkerId::new()) }).await;
    assert_eq!((ids(&later.jobs), later.next_due), (vec![all[1], all[3], all[6]], Some(at(40))));
    assert_eq!(ids(&store.lease(Ask { now: at(50), ..ask(WorkerId::new()) }).await), [all[5]]);
}

/// A job that was called off before its turn does not count.
pub async fn a_worker_whose_clock_is_behind_learns_when_the_next_job_is_due(store: Arc<dyn Store>) {
    let store = Subject(store);
    let jobs =
        [0, 0, 30].map(|due| NewJob { call: JobCall { enqueued: at(50), ..call().call }, due: at(due), unique: None });
    let all = store.enqueue(jobs).await;
    store.settle(Settlement { now: at(20), ..change(all[1], StateKind::Waiting, cancelled()) }).await;
    let leased = store.lease_all(Ask { limit: 1, now: at(10), ..ask(WorkerId::new()) }).await;
    assert_eq!((ids(&leased.jobs), leased.next_due), (vec![all[0]], Some(at(30))));
}

/// A change of a job that never ran.
fn change(job: JobId, state: StateKind, next: NextState) -> Settlement {
    let lease = Lease { job, attempt: 0, worker: WorkerId::new() };
    Settlement { hold: Hold::Seen { job, state, attempt: 0 }, ..settlement(lease, next) }
}

/// The jobs around it are leased, and the job itself once it waits again.
pub async fn a_job_that_was_called_off_before_its_turn_is_passed_over(store: Arc<dyn Store>) {
    let store = Subject(store);
    let jobs = store.enqueue(calls(5)).await;
    store.settle(change(jobs[1], StateKind::Waiting, cancelled())).await;
    let first = store.lease(Ask { limit: 2, ..ask(WorkerId::new()) }).await;
    assert_eq!(ids(&first), [jobs[0], jobs[2]]);
    store.settle(change(jobs[1], StateKind::Cancelled, waiting(10))).await;
    assert_eq!(ids(&store.lease(ask(WorkerId::new())).await), jobs[3..]);
    let later = || Ask { now: at(10), ..ask(WorkerId::new()) };
    assert_eq!(ids(&store.lease(later()).await), [jobs[1]]);
    assert_eq!(store.lease(later()).await, []);
    assert_eq!(store.job(jobs[1]).await.standing.attempt, 1);
}

/// That is so also where the job was called off while it waited and then, before its turn came, was tried again, or pruned and
/// enqueued anew. When it waits again after that, it waits until it is due.
pub async fn a_job_that_is_in_line_again_is_leased_once(store: Arc<dyn Store>) {
    let store = Subject(store);
    let jobs = calls(3);
    for (is_pruned, limit) in [(true, 1), (false, 1), (true, 9), (false, 9)] {
        let all = store.enqueue(jobs.clone()).await;
        store.settle(change(all[1], StateKind::Waiting, cancelled())).await;
        if is_pruned {
            assert_eq!(answer(store.0.prune(at(1), at(1), 10).await), 1);
            store.enqueue([jobs[1].clone()]).await;
        } else {
            store.settle(change(all[1], StateKind::Cancelled, waiting(0))).await;
        }
        assert_eq!(ids(&store.all_jobs().await), all);
        let mut leased = Vec::new();
        for _ in 0..jobs.len().div_ceil(limit) {
            let some = store.lease(Ask { limit, ..ask(WorkerId::new()) }).await;
            store.settle_all(some.iter().map(|job| settlement(lease_of(job), waiting(10)))).await;
            leased.extend(some);
        }
        assert_eq!(ids(&leased), all);
        assert_eq!(store.lease(Ask { now: at(9), ..ask(WorkerId::new()) }).await, []);
        let leased = store.lease(Ask { now: at(10), ..ask(WorkerId::new()) }).await;
        assert_eq!(ids(&leased), all);
        store.settle_all(leased.iter().map(|job| settlement(lease_of(job), done()))).await;
        assert_eq!(answer(store.0.prune(at(1), at(1), 10).await), 3);
        assert_eq!(store.all_jobs().await, []);
    }
}
