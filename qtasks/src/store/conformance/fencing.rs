//! A worker that has lost a lease writes nothing.

use std::sync::Arc;

use super::harness::*;
use crate::{
    model::job::{JobId, Lease, StateKind, WorkerId},
    store::{Ask, Hold, Settlement, Store, Written},
};

/// Once a later attempt exists, no write of an earlier one succeeds, and none leaves a trace.
pub async fn an_attempt_that_was_retaken_can_write_no_more(store: Arc<dyn Store>) {
    let store = Subject(store);
    let old = store.running().await;
    store.write(record(old, [step(0)])).await;
    let now = at(9_000);
    store.settle(lost(old, BEAT)).await;
    // The same worker may be the one that gets the job again: only the attempt differs.
    let new = store.lease(Ask { worker: old.worker, ..ask_for(old.job, now) }).await;
    assert_eq!((new[0].call.id, new[0].standing.attempt), (old.job, 2));
    store.can_not_write(old).await;
    assert_eq!(store.renew(old.worker, 5).await, [lease_of(&new[0])]);
    store.write(record(lease_of(&new[0]), [step(1)])).await;
    store.settle(settlement(lease_of(&new[0]), done())).await;
    store.can_not_write(old).await;
}

/// A job that was cancelled while it ran stays cancelled.
pub async fn an_attempt_that_was_called_off_can_write_no_more(store: Arc<dyn Store>) {
    let store = Subject(store);
    let lease = store.running().await;
    store.settle(cancel(lease)).await;
    store.can_not_write(lease).await;
    assert_eq!(store.renew(lease.worker, 5).await, [], "a renewal tells that the lease is gone");
}

/// A job that waits for its next attempt is not written by the last one, and neither is one that ended.
pub async fn an_attempt_that_was_given_back_can_write_no_more(store: Arc<dyn Store>) {
    let store = Subject(store);
    for next in [waiting(0), waiting(9_000), done(), dead(), cancelled()] {
        let lease = store.running().await;
        store.settle(settlement(lease, next)).await;
        store.can_not_write(lease).await;
    }
}

/// Its attempt is kept, and gives no right any more.
pub async fn an_attempt_that_ended_its_job_well_can_write_no_more(store: Arc<dyn Store>) {
    let store = Subject(store);
    let lease = store.running().await;
    store.settle(ended_well(lease)).await;
    store.can_not_write(lease).await;
}

/// Neither another worker nor another attempt can write, be it an earlier or a later one.
pub async fn only_the_lease_itself_gives_the_right_to_write(store: Arc<dyn Store>) {
    let store = Subject(store);
    let lease = store.running().await;
    let other = store.running().await;
    store.can_not_write(Lease { worker: other.worker, ..lease }).await;
    store.can_not_write(Lease { worker: WorkerId::new(), ..lease }).await;
    store.can_not_write(Lease { attempt: 0, ..lease }).await;
    store.can_not_write(Lease { attempt: 2, ..lease }).await;
    store.can_not_write(Lease { job: other.job, ..lease }).await;
    store.write(record(lease, [step(0)])).await;
}

/// Reading such a job finds nothing, and writing to it is fenced off; neither is an error.
pub async fn a_job_that_is_not_there_gives_nothing_and_takes_nothing(store: Arc<dyn Store>) {
    let store = Subject(store);
    let id = JobId::new();
    assert_eq!(answer(store.0.job(id).await), None);
    assert_eq!(store.steps(id).await, []);
    assert_eq!(answer(store.0.last_step(id).await), None);
    assert_eq!(store.attempts(id).await, []);
    let lease = Lease { job: id, attempt: 1, worker: WorkerId::new() };
    assert_eq!(store.try_write(record(lease, [step(0)])).await, Written::Fenced);
    assert_eq!(store.try_write(record(lease, [step(5)])).await, Written::Fenced, "gap or not");
    let holds = [
        Hold::Lease(lease),
        Hold::Silent { lease, beat: None },
        Hold::Seen { job: lease.job, state: StateKind::Waiting, attempt: 0 },
    ];
    for hold in holds {
        assert_eq!(store.try_settle(Settlement { hold, ..settlement(lease, done()) }).await, Written::Fenced);
    }
    assert_eq!(answer(store.0.job(id).await), None);
    assert_eq!(store.all_jobs().await, []);
}
