//! Listeners are notified of what is new.

use std::sync::Arc;

use super::harness::*;
use crate::{
    model::job::{NewJob, Progress, StateKind},
    store::{Record, Settlement, Store},
};

/// A listener for work is notified of each enqueue, also of a job for later, by which a worker learns when to look again; and of
/// each job that waits once more.
pub async fn new_work_is_notified(store: Arc<dyn Store>) {
    let store = Subject(store);
    let mut work = store.0.notifier().work();
    store.enqueue([call()]).await;
    expect_notification(&mut work, "an enqueue").await;
    store.enqueue([NewJob { due: at(9_000), ..call() }]).await;
    expect_notification(&mut work, "an enqueue for later").await;
    let lease = store.running().await;
    let mut work = store.0.notifier().work();
    store.settle(settlement(lease, waiting(0))).await;
    expect_notification(&mut work, "a job that waits again").await;
}

/// A listener for a job is notified of its steps, of its progress, and of each settlement.
pub async fn changes_of_a_job_are_notified(store: Arc<dyn Store>) {
    let store = Subject(store);
    let lease = store.running().await;
    let mut changes = store.0.notifier().job(lease.job);
    store.write(record(lease, [step(0)])).await;
    expect_notification(&mut changes, "a step").await;
    let progress = Some(Progress { done: 1, total: 2 });
    store.write(Record { progress, ..record(lease, []) }).await;
    expect_notification(&mut changes, "progress").await;
    store.settle(settlement(lease, waiting(0))).await;
    expect_notification(&mut changes, "a job that waits again").await;
    let hold = seen(lease.job, StateKind::Waiting);
    store.settle(Settlement { hold, ..settlement(lease, cancelled()) }).await;
    expect_notification(&mut changes, "a cancelled job").await;
}

/// A listener for the end of a job is notified however the job ends.
pub async fn the_end_of_a_job_is_notified(store: Arc<dyn Store>) {
    let store = Subject(store);
    let lease = store.running().await;
    let mut end = store.0.notifier().end(lease.job);
    store.write(record(lease, [step(0)])).await;
    store.settle(settlement(lease, cancelled())).await;
    expect_notification(&mut end, "a cancelled job").await;
    let lease = store.running().await;
    let mut end = store.0.notifier().end(lease.job);
    store.settle(settlement(lease, done())).await;
    assert!(end.take_notification(), "a job that is done");
}

/// So the caller finds by the notifier what its call led to, before it goes on. This is tried often, since it is a matter of
/// moments.
pub async fn a_call_has_notified_when_it_returns(store: Arc<dyn Store>) {
    let store = Subject(store);
    for round in 0..50 {
        let mut work = store.0.notifier().work();
        store.enqueue([call()]).await;
        assert!(work.take_notification(), "an enqueue, in round {round}");
        let lease = store.running().await;
        let (mut work, mut changes) = (store.0.notifier().work(), store.0.notifier().job(lease.job));
        store.write(record(lease, [step(0)])).await;
        assert!(changes.take_notification(), "a step, in round {round}");
        store.settle(settlement(lease, waiting(0))).await;
        assert!(work.take_notification() && changes.take_notification(), "a job that waits again, in round {round}");
    }
}
