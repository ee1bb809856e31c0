//! Steps are appended without gaps.

use std::sync::Arc;

use super::harness::*;
use crate::{
    error::Error,
    model::{
        job::{Lease, Progress, Reply, Step, Suspect},
        lifecycle::Outcome,
    },
    store::{Ask, Record, Store, Suspects, Written},
};

/// Steps are appended, and read back as they were written; the job counts them.
pub async fn recorded_steps_are_kept_in_order(store: Arc<dyn Store>) {
    let store = Subject(store);
    let lease = store.running().await;
    assert_eq!(store.steps(lease.job).await, []);
    assert_eq!(answer(store.0.last_step(lease.job).await), None);
    for (steps, count) in [(0..3, 3), (3..4, 4), (4..4, 4), (4..9, 9)] {
        store.write(record(lease, steps.map(step))).await;
        assert_eq!(store.job(lease.job).await.counts.steps, count);
        assert_eq!(answer(store.0.last_step(lease.job).await), Some(step(count - 1)));
    }
    assert_eq!(store.steps(lease.job).await, (0..9).map(step).collect::<Vec<_>>());
}

/// A step that is recorded already is passed over, also where its content differs now, and the rest is appended.
pub async fn a_record_can_be_written_again(store: Arc<dyn Store>) {
    let store = Subject(store);
    let lease = store.running().await;
    let skipped = Step { reply: Reply::Skipped("no".into()), ..step(1) };
    for _ in 0..2 {
        store.write(record(lease, [step(0), skipped.clone(), step(2)])).await;
    }
    let other = Step { hash: 99, reply: Reply::Value(json("99")), ..step(1) };
    store.write(record(lease, [other, step(2), step(3)])).await;
    store.write(record(lease, [step(3), step(3), step(4), step(4)])).await;
    assert_eq!(store.steps(lease.job).await, [step(0), skipped, step(2), step(3), step(4)]);
    let job = store.job(lease.job).await;
    assert_eq!((job.counts.steps, job.counts.skipped), (5, 1));
}

/// Nothing of such a call is written, not even for other jobs, and the error is not one that a later try could mend.
pub async fn a_gap_between_steps_is_an_error_and_writes_nothing(store: Arc<dyn Store>) {
    let store = Subject(store);
    let (lease, other) = (store.running().await, store.running().await);
    store.write(record(lease, [step(0)])).await;
    for steps in [vec![step(2)], vec![step(1), step(3)], vec![step(2), step(1)], vec![step(u64::MAX)]] {
        let progress = Some(Progress { done: 1, total: 2 });
        let records = vec![record(other, [step(0)]), Record { progress, ..record(lease, steps.clone()) }];
        let error = store.0.record(records.into()).await.expect_err("steps that leave a gap were taken");
        assert!(matches!(error, Error::BrokenContract(_)), "the caller is to blame, and {error:?} does not say so");
        assert_eq!(store.steps(lease.job).await, [step(0)], "after {steps:?}");
        assert_eq!(store.job(lease.job).await.counts.progress, None);
        assert_eq!(store.steps(other.job).await, [], "a call that fails writes nothing");
    }
    store.write(record(lease, [step(1)])).await;
}

/// That is so whatever the failures came from. A record without new steps changes nothing of them, nor does one under another
/// lease.
pub async fn a_new_step_sets_the_failures_to_0(store: Arc<dyn Store>) {
    let store = Subject(store);
    let old = store.running().await;
    store.write(record(old, [step(0)])).await;
    store
        .settle(settlement_to(old, Outcome { failures: 3, suspect: Some(Suspect::default()), ..outcome(waiting(0)) }))
        .await;
    let lease = lease_of(&store.lease(Ask { suspects: Suspects::OneAlone, ..ask_for(old.job, at(0)) }).await[0]);
    let progress = Some(Progress { done: 1, total: 2 });
    for forgiven_nothing in [record(lease, [step(0)]), Record { progress, ..record(lease, []) }] {
        store.write(forgiven_nothing).await;
        assert_eq!(store.job(lease.job).await.standing.failures, 3);
    }
    assert_eq!(store.try_write(record(old, [step(1)])).await, Written::Fenced);
    assert_eq!(store.job(lease.job).await.standing.failures, 3);
    store.write(record(lease, [step(0), step(1)])).await;
    let job = store.job(lease.job).await;
    assert_eq!((job.standing.failures, job.standing.suspect.is_some()), (0, true));
}

/// A record that is fenced off keeps no other from being written; two of one job go on from each other.
pub async fn records_are_answered_in_order(store: Arc<dyn Store>) {
    let store = Subject(store);
    let (first, second) = (store.running().await, store.running().await);
    let stale = Lease { attempt: 7, ..first };
    let records = vec![
        record(first, [step(0)]),
        record(stale, [step(5)]),
        record(second, [step(0), step(1)]),
        record(first, [step(1), step(2)]),
    ];
    let written = answer(store.0.record(records.into()).await);
    assert_eq!(written, [Written::Yes, Written::Fenced, Written::Yes, Written::Yes]);
    assert_eq!(store.steps(first.job).await, [step(0), step(1), step(2)]);
    assert_eq!(store.steps(second.job).await, [step(0), step(1)]);
}

/// The latest progress counts, reported with steps or without. A record without progress does not change it, nor does the end of
/// the job.
pub async fn progress_stays_until_it_is_said_anew(store: Arc<dyn Store>) {
    let store = Subject(store);
    let lease = store.running().await;
    let at_1 = Some(Progress { done: 1, total: 10 });
    let at_0 = Some(Progress { done: 0, total: 0 });
    for (progress, steps, kept) in
        [(None, 0..0, None), (at_1, 0..0, at_1), (None, 0..1, at_1), (at_0, 0..2, at_0), (None, 0..2, at_0)]
    {
        let record = Record { progress, ..record(lease, steps.map(step)) };
        store.write(record).await;
        assert_eq!(store.job(lease.job).await.counts.progress, kept);
    }
    store.settle(settlement(lease, done())).await;
    assert_eq!(store.job(lease.job).await.counts.progress, at_0);
}

/// Skipped steps have a number and are read with the others; the last step is the last one with a value.
pub async fn skipped_steps_are_counted_and_never_the_last(store: Arc<dyn Store>) {
    let store = Subject(store);
    let lease = store.running().await;
    let skipped = |seq| Step { reply: Reply::Skipped(format!("no {seq}")), ..step(seq) };
    for (next, count, last) in [
        (skipped(0), 1, None),
        (skipped(1), 2, None),
        (step(2), 2, Some(step(2))),
        (skipped(3), 3, Some(step(2))),
        (skipped(4), 4, Some(step(2))),
        (step(5), 4, Some(step(5))),
    ] {
        let seq = next.seq;
        store.write(record(lease, [next])).await;
        let job = store.job(lease.job).await;
        assert_eq!((job.counts.steps, job.counts.skipped), (seq + 1, count));
        assert_eq!(answer(store.0.last_step(lease.job).await), last);
    }
    let steps = store.steps(lease.job).await;
    assert_eq!(steps, [skipped(0), skipped(1), step(2), skipped(3), skipped(4), step(5)]);
}

/// Steps belong to the job, not to the attempt.
pub async fn a_later_attempt_goes_on_where_the_steps_end(store: Arc<dyn Store>) {
    let store = Subject(store);
    let lease = store.running().await;
    store.write(record(lease, [step(0), step(1)])).await;
    store.settle(settlement(lease, waiting(0))).await;
    let next = store.lease(ask_for(lease.job, at(0))).await;
    assert_eq!((next[0].standing.attempt, next[0].counts.steps), (2, 2));
    store.write(record(lease_of(&next[0]), [step(2)])).await;
    assert_eq!(store.steps(lease.job).await, [step(0), step(1), step(2)]);
}
