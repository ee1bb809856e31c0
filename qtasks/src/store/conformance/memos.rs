//! Memos are appended without gaps, and the jobs of a record are enqueued with it.

use std::sync::Arc;

use super::harness::*;
use crate::{
    error::Error,
    model::job::{JobCall, JobId, Lease, Memo, NewJob},
    store::{Record, Store, Written},
};

/// Memos are appended, with steps and without, and read back as they were written, in pages too; the job counts them.
pub async fn memos_are_kept_in_order(store: Arc<dyn Store>) {
    let store = Subject(store);
    let lease = store.running().await;
    assert_eq!(store.memos(lease.job, None).await, []);
    for (memos, steps, count) in [(0..2, 0..1, 2), (2..3, 1..1, 3), (3..3, 1..4, 3), (3..6, 4..5, 6)] {
        let memos = memos.map(|number| memo(number, None)).collect();
        store.write(Record { memos, ..record(lease, steps.map(step)) }).await;
        assert_eq!(store.job(lease.job).await.counts.memos, count);
    }
    let all: Vec<_> = (0..6).map(|number| memo(number, None)).collect();
    assert_eq!(store.memos(lease.job, None).await, all);
    assert_eq!(answer(store.0.memos(lease.job, None, 2, 3).await), all[2..5]);
    assert_eq!(store.steps(lease.job).await, (0..5).map(step).collect::<Vec<_>>());
    assert_eq!(store.memos(JobId::new(), None).await, [], "a job that is not there has none");
}

/// The memos of the step that comes next are there. Those of recorded steps may be gone, but are never read as those of another.
pub async fn memos_for_a_step_are_found_by_it(store: Arc<dyn Store>) {
    let store = Subject(store);
    let lease = store.running().await;
    let of = |numbers: std::ops::Range<u64>, step| numbers.map(move |number| memo(number, Some(step)));
    store.write(noted(lease, of(0..2, 0).chain([memo(2, None)]))).await;
    assert_eq!(store.memos(lease.job, Some(0)).await, of(0..2, 0).collect::<Vec<_>>());
    let memos = of(3..5, 1).collect();
    store.write(Record { memos, ..record(lease, [step(0)]) }).await;
    assert_eq!(store.memos(lease.job, Some(1)).await, of(3..5, 1).collect::<Vec<_>>());
    assert_eq!(answer(store.0.memos(lease.job, Some(1), 4, 9).await), [memo(4, Some(1))]);
    assert_eq!(store.memos(lease.job, Some(2)).await, []);
    assert_eq!(store.memos(lease.job, None).await, [memo(2, None)]);
    assert_eq!(store.job(lease.job).await.counts.memos, 5);
}

/// A memo that is there already is passed over, also where its content differs now, and the rest is appended.
pub async fn memos_can_be_written_again(store: Arc<dyn Store>) {
    let store = Subject(store);
    let lease = store.running().await;
    for _ in 0..2 {
        store.write(noted(lease, [memo(0, None), memo(1, None)])).await;
    }
    let other = Memo { name: "other".into(), ..memo(1, None) };
    store.write(noted(lease, [other, memo(2, None), memo(2, None)])).await;
    assert_eq!(store.memos(lease.job, None).await, [memo(0, None), memo(1, None), memo(2, None)]);
    assert_eq!(store.job(lease.job).await.counts.memos, 3);
}

/// Nothing of such a call is written, and the error is not one that a later try could mend.
pub async fn a_gap_between_memos_is_an_error_and_writes_nothing(store: Arc<dyn Store>) {
    let store = Subject(store);
    let (lease, other) = (store.running().await, store.running().await);
    store.write(noted(lease, [memo(0, None)])).await;
    for memos in [vec![memo(2, None)], vec![memo(1, None), memo(3, Some(0))]] {
        let job = call();
        let jobs = vec![job.clone()];
        let records = vec![noted(other, [memo(0, None)]), Record { memos, jobs, ..record(lease, [step(0)]) }];
        let error = store.0.record(records.into()).await.expect_err("memos that leave a gap were taken");
        assert!(matches!(error, Error::BrokenContract(_)), "the caller is to blame, and {error:?} does not say so");
        assert_eq!(store.memos(lease.job, None).await, [memo(0, None)]);
        assert_eq!(store.steps(lease.job).await, []);
        assert_eq!(store.memos(other.job, None).await, [], "a call that fails writes nothing");
        assert_eq!(answer(store.0.job(job.call.id).await), None, "a call that fails enqueues nothing");
    }
}

/// The jobs are there if the record was written, and only then. A job that was there before stays as it is.
pub async fn jobs_of_a_record_are_enqueued_with_it(store: Arc<dyn Store>) {
    let store = Subject(store);
    let lease = store.running().await;
    let (kept, dropped) = (call(), call());
    let jobs = vec![kept.clone()];
    for _ in 0..2 {
        store.write(Record { jobs: jobs.clone(), ..noted(lease, [memo(0, None)]) }).await;
        let changed = NewJob::from(JobCall { priority: 9, ..kept.call.clone() });
        store.write(Record { jobs: vec![changed], ..record(lease, [step(0)]) }).await;
    }
    let found = store.job(kept.call.id).await;
    assert_eq!((found.standing.state.name(), found.call.priority), ("waiting", 0));
    let stale = Lease { attempt: 7, ..lease };
    let record = Record { jobs: vec![dropped.clone()], ..noted(stale, [memo(1, None)]) };
    assert_eq!(store.try_write(record).await, Written::Fenced);
    assert_eq!(answer(store.0.job(dropped.call.id).await), None, "an attempt that is fenced off has enqueued a job");
}

/// A worker that waits for work is notified of them.
pub async fn jobs_of_a_record_are_notified_as_work(store: Arc<dyn Store>) {
    let store = Subject(store);
    let lease = store.running().await;
    let mut work = store.0.notifier().work();
    store.write(Record { jobs: vec![call()], ..noted(lease, [memo(0, None)]) }).await;
    expect_notification(&mut work, "a job that is enqueued by a record").await;
}
