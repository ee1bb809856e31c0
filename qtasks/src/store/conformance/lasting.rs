//! Leases last as long as they are renewed, and not longer.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;

use super::subject::*;
use crate::{
    job::WorkerId,
    store::{Ask, Store},
};

/// A renewal gives every lease of the worker, each time, until its job is settled.
pub async fn renewing_gives_the_leases_that_are_held(store: Arc<dyn Store>) {
    let (store, worker) = (Subject(store), WorkerId::new());
    assert_eq!(store.renew(worker, at(3_000)).await, []);
    store.enqueue(calls(4)).await;
    let leases: Vec<_> = store.lease(Ask { limit: 3, ..ask(worker) }).await.iter().map(lease_of).collect();
    store.lease(ask(WorkerId::new())).await;
    for until in [at(3_000), at(3_000), at(4_000)] {
        assert_eq!(sorted(store.renew(worker, until).await), leases);
    }
    store.settle(settlement(leases[0], done())).await;
    store.settle(settlement(leases[1], waiting(0))).await;
    assert_eq!(store.renew(worker, at(5_000)).await, [leases[2]]);
}

/// A lease is good up to the millisecond that the renewal named, and that one too.
pub async fn a_renewed_lease_runs_out_after_its_time(store: Arc<dyn Store>) {
    let store = Subject(store);
    let lease = store.running().await;
    for until in [at(3_000), at(3_000), at(5_000)] {
        store.renew(lease.worker, until).await;
        assert_eq!(store.expired(until).await, [], "at the time itself");
        assert_eq!(store.expired(until + Duration::from_millis(1)).await, [lease.job], "one millisecond later");
    }
}

/// One renewal keeps all leases of its worker, those taken after it too, and no lease of another.
pub async fn a_renewal_counts_for_all_leases_of_its_worker_only(store: Arc<dyn Store>) {
    let (store, alive, gone) = (Subject(store), WorkerId::new(), WorkerId::new());
    store.enqueue(calls(4)).await;
    store.renew(gone, at(1_000)).await;
    store.lease(Ask { limit: 1, ..ask(alive) }).await;
    let lost = store.lease(Ask { limit: 2, ..ask(gone) }).await;
    store.renew(alive, at(9_000)).await;
    store.lease(Ask { limit: 1, ..ask(alive) }).await;
    assert_eq!(store.expired(at(5_000)).await, ids(&lost));
}

/// A worker that nobody knows is not waited for.
pub async fn leases_of_a_worker_that_never_renewed_have_run_out(store: Arc<dyn Store>) {
    let (store, worker) = (Subject(store), WorkerId::new());
    store.enqueue([call()]).await;
    let leased = store.lease(ask(worker)).await;
    assert_eq!(store.expired(at(0)).await, ids(&leased));
    store.renew(worker, at(3_000)).await;
    assert_eq!(store.expired(at(0)).await, [], "the first renewal makes the worker known");
}

/// It records, it is renewed, and it settles: running out alone takes nothing away.
pub async fn a_lease_that_ran_out_and_was_not_taken_is_still_good(store: Arc<dyn Store>) {
    let store = Subject(store);
    let lease = store.running().await;
    assert_eq!(store.expired(at(9_000)).await, [lease.job]);
    store.write(record(lease, [step(0)])).await;
    assert_eq!(store.renew(lease.worker, at(12_000)).await, [lease]);
    assert_eq!(store.expired(at(9_000)).await, [], "a renewed lease has not run out");
    assert_eq!(store.expired(at(13_000)).await, [lease.job]);
    store.settle(settlement(lease, done())).await;
    assert_eq!(store.expired(at(13_000)).await, [], "a job that ended holds no lease");
}

/// Whatever is pruned, and however late: what it leases next is not lost.
pub async fn a_worker_without_jobs_outlasts_pruning(store: Arc<dyn Store>) {
    let (store, worker) = (Subject(store), WorkerId::new());
    store.renew(worker, at(3_000)).await;
    assert_eq!(answer(store.0.prune(Timestamp::MAX, Timestamp::MAX, 10).await), 0);
    store.enqueue([call()]).await;
    store.lease(ask(worker)).await;
    assert_eq!(store.expired(at(3_000)).await, []);
}

/// Found is found again until it is settled, and looking changes nothing.
pub async fn expired_jobs_are_found_up_to_the_limit(store: Arc<dyn Store>) {
    let store = Subject(store);
    store.enqueue(calls(5)).await;
    let leased = store.lease(ask(WorkerId::new())).await;
    for (limit, found) in [(0, 0), (3, 3), (5, 5), (9, 5)] {
        let expired = answer(store.0.expired(at(0), limit).await);
        assert_eq!(expired.len(), found, "limit {limit}");
        assert!(expired.iter().all(|job| leased.contains(job)), "a job is given as it is");
    }
}

/// Its leases have run out at once, those of others have not, and it can come back.
pub async fn a_worker_that_left_holds_nothing_any_more(store: Arc<dyn Store>) {
    let store = Subject(store);
    let (left, stays) = (store.running().await, store.running().await);
    answer(store.0.leave(left.worker).await);
    answer(store.0.leave(left.worker).await);
    assert_eq!(store.expired(at(0)).await, [left.job]);
    assert_eq!(store.renew(left.worker, at(3_000)).await, [left]);
    assert_eq!(store.expired(at(0)).await, []);
    assert_eq!(store.renew(stays.worker, at(3_000)).await, [stays]);
    answer(store.0.leave(WorkerId::new()).await);
}
