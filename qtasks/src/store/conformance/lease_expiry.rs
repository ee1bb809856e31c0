//! A worker keeps its leases as long as it renews them, and as long as no other has taken them.

use std::sync::Arc;

use jiff::Timestamp;

use super::harness::*;
use crate::{
    model::job::{JobCall, NewJob, State, WorkerId},
    store::{Ask, Presence, Settlement, Store},
};

/// A renewal gives every lease of the worker, each time, until its job is settled.
pub async fn renewing_gives_the_leases_that_are_held(store: Arc<dyn Store>) {
    let (store, worker) = (Subject(store), WorkerId::new());
    assert_eq!(store.renew(worker, 1).await, []);
    store.enqueue(calls(4)).await;
    let leases: Vec<_> = store.lease(Ask { limit: 3, ..ask(worker) }).await.iter().map(lease_of).collect();
    store.lease(ask(WorkerId::new())).await;
    for beat in 2..5 {
        assert_eq!(store.renew(worker, beat).await, leases);
    }
    store.settle(settlement(leases[0], done())).await;
    store.settle(settlement(leases[1], waiting(0))).await;
    assert_eq!(store.renew(worker, 5).await, [leases[2]]);
}

/// Other workers see the beat as it was given: it may be any number, also a lower one than before.
pub async fn the_beat_of_a_worker_is_that_of_its_last_renewal(store: Arc<dyn Store>) {
    let store = Subject(store);
    let lease = store.running().await;
    let presence = |beat| Some(Presence { worker: lease.worker, beat: Some(beat), holds: true, gone: false });
    assert_eq!(store.presence(lease.worker).await, presence(BEAT));
    for beat in [BEAT, 7, 3, 0, 1 << 40] {
        assert_eq!(store.renew(lease.worker, beat).await, [lease]);
        assert_eq!(store.presence(lease.worker).await, presence(beat));
    }
    store.settle(settlement(lease, done())).await;
    let idle = store.presence(lease.worker).await.expect("a worker without jobs is known until it leaves");
    assert_eq!((idle.beat, idle.holds, idle.gone), (Some(1 << 40), false, false));
}

/// A renewal changes the beat of its own worker only, and each worker holds its own jobs.
pub async fn workers_are_kept_apart(store: Arc<dyn Store>) {
    let store = Subject(store);
    let (one, other) = (store.running().await, store.running().await);
    store.renew(one.worker, 8).await;
    for (lease, beat) in [(one, 8), (other, BEAT)] {
        assert_eq!(store.presence(lease.worker).await.unwrap().beat, Some(beat));
        assert_eq!(store.held(lease.worker).await, [lease.job]);
    }
    assert_eq!(store.held(WorkerId::new()).await, []);
}

/// Such a worker has no beat, and is not gone: a missing beat proves nothing by itself.
pub async fn a_worker_that_never_renewed_is_seen_by_its_jobs(store: Arc<dyn Store>) {
    let (store, worker) = (Subject(store), WorkerId::new());
    assert_eq!(store.presence(worker).await, None);
    store.enqueue([call()]).await;
    let leased = store.lease(ask(worker)).await;
    assert_eq!(store.presence(worker).await, Some(Presence { worker, beat: None, holds: true, gone: false }));
    assert_eq!(store.held(worker).await, ids(&leased));
    assert_eq!(store.renew(worker, 1).await, [lease_of(&leased[0])]);
    assert_eq!(store.presence(worker).await.unwrap().beat, Some(1));
}

/// However much time has passed, the worker records and settles under the lease, and renews it.
pub async fn a_lease_that_was_not_taken_is_good_however_late_it_is(store: Arc<dyn Store>) {
    let store = Subject(store);
    let lease = store.running().await;
    store.lease(Ask { now: Timestamp::MAX, ..ask_for(lease.job, at(0)) }).await;
    store.write(record(lease, [step(0)])).await;
    assert_eq!(store.renew(lease.worker, 5).await, [lease]);
    store.settle(settlement(lease, done())).await;
    assert_eq!(store.held(lease.worker).await, [], "a job that ended is not held");
}

/// The clocks of other workers may be an hour ahead or behind, and may step by that much.
pub async fn clocks_that_differ_and_step_take_no_lease(store: Arc<dyn Store>) {
    const HOUR: i64 = 3_600_000;
    let store = Subject(store);
    let lease = store.running().await;
    for (round, hour) in [HOUR, -HOUR, 0, HOUR, -HOUR].into_iter().enumerate() {
        let now = at(hour);
        let id =
            store.enqueue([NewJob { call: JobCall { enqueued: now, ..call().call }, due: now, unique: None }]).await[0];
        let other = WorkerId::new();
        store.renew(other, 1).await;
        let leased = store.lease(Ask { now, ..ask(other) }).await;
        assert_eq!(ids(&leased), [id], "a job that is due by the clock of its worker");
        store.write(record(lease, [step(round as u64)])).await;
        store.settle(Settlement { now, ..settlement(lease_of(&leased[0]), done()) }).await;
        let presence = store.presence(lease.worker).await.unwrap();
        assert_eq!((presence.beat, presence.holds, presence.gone), (Some(BEAT), true, false));
    }
    assert_eq!(store.renew(lease.worker, 5).await, [lease]);
    store.settle(settlement(lease, done())).await;
}

/// A prune does not make the store forget the worker, however late it is.
pub async fn a_worker_without_jobs_outlasts_pruning(store: Arc<dyn Store>) {
    let (store, worker) = (Subject(store), WorkerId::new());
    store.renew(worker, 1).await;
    assert_eq!(answer(store.0.prune(Timestamp::MAX, Timestamp::MAX, 10).await), 0);
    assert_eq!(store.presence(worker).await, Some(Presence { worker, beat: Some(1), holds: false, gone: false }));
}

/// A job that was found is found again until it is settled; looking changes nothing.
pub async fn held_jobs_are_found_up_to_the_limit(store: Arc<dyn Store>) {
    let (store, worker) = (Subject(store), WorkerId::new());
    store.enqueue(calls(5)).await;
    let leased = store.lease(ask(worker)).await;
    for (limit, found) in [(0, 0), (3, 3), (5, 5), (9, 5)] {
        let held = answer(store.0.held(worker, limit).await);
        assert_eq!(held.len(), found, "limit {limit}");
        assert!(held.iter().all(|job| leased.contains(job)), "a job is given as it is");
    }
}

/// Other workers see at once that the worker is gone, and that another one is not. It can come back.
pub async fn a_worker_that_left_is_gone(store: Arc<dyn Store>) {
    let store = Subject(store);
    let (leaver, stays) = (store.running().await, store.running().await);
    answer(store.0.leave(leaver.worker).await);
    answer(store.0.leave(leaver.worker).await);
    let gone = Presence { worker: leaver.worker, beat: None, holds: true, gone: true };
    assert_eq!(store.presence(leaver.worker).await, Some(gone));
    assert!(!store.presence(stays.worker).await.unwrap().gone);
    assert_eq!(store.renew(leaver.worker, 5).await, [leaver]);
    assert!(!store.presence(leaver.worker).await.unwrap().gone);
    answer(store.0.leave(leaver.worker).await);
    store.settle(lost(leaver, None)).await;
    assert_eq!(store.job(leaver.job).await.standing.state, waiting(9_000).into());
    answer(store.0.leave(WorkerId::new()).await);
}

/// The store does not list such a worker any more.
pub async fn a_worker_that_left_without_jobs_is_forgotten(store: Arc<dyn Store>) {
    let (store, worker) = (Subject(store), WorkerId::new());
    store.renew(worker, 1).await;
    answer(store.0.leave(worker).await);
    assert_eq!(store.presence(worker).await, None);
}

/// A worker that holds a job is not forgotten, nor one that has renewed since it was looked at.
pub async fn only_a_silent_worker_without_jobs_is_forgotten(store: Arc<dyn Store>) {
    let store = Subject(store);
    let lease = store.running().await;
    answer(store.0.forget(lease.worker, Some(BEAT)).await);
    assert_eq!(store.presence(lease.worker).await.unwrap().beat, Some(BEAT), "it holds a job");
    store.settle(settlement(lease, done())).await;
    store.renew(lease.worker, 5).await;
    answer(store.0.forget(lease.worker, Some(BEAT)).await);
    assert_eq!(store.presence(lease.worker).await.unwrap().beat, Some(5), "it has renewed");
    answer(store.0.forget(WorkerId::new(), None).await);
}

/// The job is taken once, also when its own worker renews or settles at that moment; both agree on what became of the job.
pub async fn a_renewal_in_time_or_another_takes_the_job(store: Arc<dyn Store>) {
    let store = Subject(store);
    for _ in 0..50 {
        let lease = store.running().await;
        let (renewing, taking) = (store.clone(), store.clone());
        let renewed = tokio::spawn(async move { renewing.renew(lease.worker, 5).await });
        let taken = tokio::spawn(async move { taking.try_settle(lost(lease, BEAT)).await });
        let (renewed, taken) = (renewed.await.expect("no panic"), taken.await.expect("no panic"));
        let held = matches!(store.job(lease.job).await.standing.state, State::Running { .. });
        assert_eq!(held, taken == crate::store::Written::Fenced);
        // The renewal may have come first; the next one shows what became of it.
        assert!(renewed == [lease] || !held, "a lease that no one took is told of");
        let after = store.renew(lease.worker, 6).await;
        assert_eq!(after, if held { vec![lease] } else { vec![] });
    }
}
