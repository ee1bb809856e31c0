//! Values that are empty, huge, deep or far away in time.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;

use super::harness::*;
use crate::{
    model::{
        job::{
            Attempt, Ending, JobCall, Lease, NewJob, NextState, Output, Progress, Reply, State, StateKind, Step,
            WorkerId,
        },
        json::Json,
        lifecycle::Outcome,
    },
    store::{Ask, Budget, Find, Record, Settlement, Store, Written},
};

/// Such calls change nothing. A record without steps still answers whether the lease holds.
pub async fn calls_without_anything_in_them_are_fine(store: Arc<dyn Store>) {
    let store = Subject(store);
    store.enqueue([]).await;
    assert_eq!(store.settle_all([]).await, []);
    assert_eq!(answer(store.0.record([].into()).await), []);
    assert_eq!(store.all_jobs().await, []);
    assert_eq!(answer(store.0.workers().await), []);
    assert_eq!(answer(store.0.prune(at(0), at(0), 10).await), 0);
    let lease = store.running().await;
    store.write(record(lease, [])).await;
    assert_eq!(store.try_write(record(Lease { attempt: 2, ..lease }, [])).await, Written::Fenced);
}

/// Reads take the largest limit, and numbers past every end.
pub async fn limits_without_end_are_fine(store: Arc<dyn Store>) {
    const ALL: usize = usize::MAX;
    let store = Subject(store);
    store.enqueue(calls(2)).await;
    let worker = WorkerId::new();
    let leased = store.lease(Ask { limit: ALL, ..ask(worker) }).await;
    assert_eq!(leased.len(), 2);
    let lease = lease_of(&leased[0]);
    store.write(record(lease, [step(0), step(1)])).await;
    assert_eq!(answer(store.0.steps(lease.job, 1, ALL).await), [step(1)]);
    for past in [2, 1 << 63, u64::MAX] {
        assert_eq!(answer(store.0.steps(lease.job, past, ALL).await), []);
    }
    assert_eq!(answer(store.0.find(Find::default().oldest_first(), None, Budget::jobs(ALL)).await).jobs.len(), 2);
    assert_eq!(answer(store.0.held(worker, ALL).await).len(), 2);
    store.settle(settlement(lease, done())).await;
    assert_eq!(answer(store.0.prune(at(1), at(1), ALL).await), 1);
}

/// One call takes more jobs than a database takes parameters in one statement.
pub async fn thousands_at_once_are_fine(store: Arc<dyn Store>) {
    const MANY: usize = 3_000;
    let (store, worker) = (Subject(store), WorkerId::new());
    store.enqueue(calls(MANY)).await;
    let leased = store.lease(Ask { limit: MANY, ..ask(worker) }).await;
    assert_eq!(leased.len(), MANY);
    let leases: Vec<_> = leased.iter().map(lease_of).collect();
    assert_eq!(store.renew(worker, 1).await.len(), MANY);
    let records: Vec<_> = leases.iter().map(|lease| record(*lease, [step(0), step(1)])).collect();
    assert_eq!(answer(store.0.record(records.into()).await), [Written::Yes; MANY]);
    let settlements = leases
        .iter()
        .map(|lease| Settlement { attempt: Some(attempt(*lease, Ending::Done)), ..settlement(*lease, done()) });
    assert_eq!(store.settle_all(settlements).await, [Written::Yes; MANY]);
    let queues: Vec<_> = (0..300).map(|number| format!("q{number}")).chain(["default".into()]).collect();
    assert_eq!(ids(&store.lease(Ask { queues: queues.into(), ..ask(worker) }).await), []);
    assert_eq!(answer(store.0.prune(at(1), at(1), MANY).await), MANY);
}

/// Each value may have a megabyte, and a little more.
pub async fn large_values_are_kept(store: Arc<dyn Store>) {
    let store = Subject(store);
    let large = Json::encode(&"x".repeat(1 << 20)).expect("a string has a JSON form");
    let text = "y".repeat(1 << 20);
    store.enqueue([NewJob::from(JobCall { args: large.clone(), ..call().call })]).await;
    let leased = store.lease(ask(WorkerId::new())).await;
    assert_eq!(leased[0].call.args, large);
    let lease = lease_of(&leased[0]);
    let steps = [
        Step { reply: Reply::Value(large.clone()), ..step(0) },
        Step { reply: Reply::Skipped(text.clone()), ..step(1) },
    ];
    store.write(record(lease, steps.clone())).await;
    assert_eq!(store.steps(lease.job).await, steps);
    let failed = attempt(lease, Ending::Failed { error: text.clone() });
    let next = NextState::Done { output: Output::Value(large) };
    store.settle(Settlement { attempt: Some(failed.clone()), ..settlement(lease, next.clone()) }).await;
    assert_eq!(store.job(lease.job).await.standing.state, next.into());
    assert_eq!(store.attempts(lease.job).await, [with_steps(failed, 2)]);
    let lease = store.running().await;
    store.settle(settlement(lease, NextState::Dead { error: text.clone() })).await;
    assert_eq!(store.job(lease.job).await.standing.state, State::Dead { error: text });
}

/// Every character is kept, NUL too; and JSON to the letter, with its spaces, digits and order of keys.
pub async fn text_of_any_kind_is_kept(store: Arc<dyn Store>) {
    let store = Subject(store);
    for text in
        ["", "\0", "a\0b", "Обработан: 5", "🦀e\u{301}\u{202e}", "'; DROP TABLE jobs; --", "\"\\\r\n\t%_\u{feff}"]
    {
        let text = text.to_owned();
        let lease = store.running().await;
        let skipped = Step { reply: Reply::Skipped(text.clone()), ..step(0) };
        store.write(record(lease, [skipped.clone()])).await;
        assert_eq!(store.steps(lease.job).await, [skipped]);
        for (state, next) in [
            (StateKind::Running, NextState::Dead { error: text.clone() }),
            (StateKind::Dead, NextState::Cancelled { reason: text.clone() }),
        ] {
            let hold = seen(lease.job, state);
            let failed = attempt(lease, Ending::Failed { error: text.clone() });
            let attempt = (state == StateKind::Running).then_some(failed);
            store.settle(Settlement { hold, attempt, ..settlement(lease, next.clone()) }).await;
            assert_eq!(store.job(lease.job).await.standing.state, next.into());
        }
        let failed = attempt(lease, Ending::Failed { error: text });
        assert_eq!(store.attempts(lease.job).await, [with_steps(failed, 1)]);
    }
    for text in [
        r#""\u0000""#,
        r#""\ud800""#,
        r#"{"b": 1.50, "a":[ ] ,"b":2}"#,
        "1e400",
        "123456789012345678901234567890",
        "null",
    ] {
        let value = json(text);
        let job = NewJob::from(JobCall { args: value.clone(), ..call().call });
        store.enqueue([job.clone()]).await;
        let leased = store.lease(ask(WorkerId::new())).await;
        assert_eq!(leased[0].call.args, value);
        let lease = lease_of(&leased[0]);
        let replied = Step { reply: Reply::Value(value.clone()), ..step(0) };
        store.write(record(lease, [replied.clone()])).await;
        assert_eq!(store.steps(job.call.id).await, [replied]);
        let next = NextState::Done { output: Output::Value(value) };
        store.settle(settlement(lease, next.clone())).await;
        assert_eq!(store.job(job.call.id).await.standing.state, next.into());
    }
}

/// The least and the largest number of each type is kept, also where a database has no unsigned numbers.
pub async fn numbers_at_their_ends_are_kept(store: Arc<dyn Store>) {
    let store = Subject(store);
    for number in [0, 1, i64::MAX as u64, 1 << 63, u64::MAX] {
        let lease = store.running().await;
        let hashed = Step { hash: number, ..step(0) };
        let progress = Some(Progress { done: number, total: number });
        let record = Record { progress, ..record(lease, [hashed.clone()]) };
        store.write(record).await;
        assert_eq!(store.steps(lease.job).await, [hashed]);
        assert_eq!(store.job(lease.job).await.counts.progress, progress);
    }
    for number in [0, 1, i32::MAX as u32, 1 << 31, u32::MAX] {
        let lease = store.running().await;
        let numbered = Attempt { number, ..attempt(lease, Ending::Done) };
        let attempt = Some(numbered.clone());
        store
            .settle(Settlement { attempt, ..settlement_to(lease, Outcome { failures: number, ..outcome(waiting(0)) }) })
            .await;
        assert_eq!(store.job(lease.job).await.standing.failures, number);
        assert_eq!(store.attempts(lease.job).await, [numbered]);
    }
    for priority in [i16::MIN, -1, 0, 1, i16::MAX] {
        let [id] = store.enqueue([NewJob::from(JobCall { priority, ..call().call })]).await[..] else {
            unreachable!("one job, one id")
        };
        assert_eq!(store.job(id).await.call.priority, priority);
    }
    let century = Duration::from_secs(100 * 365 * 24 * 3_600);
    for (max_time, at_least) in [(Duration::ZERO, Duration::ZERO), (century, century), (Duration::MAX, century)] {
        let new = NewJob::from(JobCall { max_time: Some(max_time), ..call().call });
        store.enqueue([new.clone()]).await;
        let kept = store.job(new.call.id).await.call.max_time.expect("a job keeps its time limit");
        assert!(kept >= at_least && kept <= max_time, "{max_time:?} became {kept:?}");
    }
}

/// Times from the first moment to the last are kept, before 1970 too; what is finer than a millisecond may be lost.
pub async fn times_are_kept_to_the_millisecond(store: Arc<dyn Store>) {
    let store = Subject(store);
    let old = Timestamp::UNIX_EPOCH - Duration::from_millis(1_001);
    let fine = at(123) + Duration::from_nanos(456_789);
    for time in [Timestamp::MIN, old, fine, Timestamp::MAX] {
        let kept = |times: &[Timestamp]| times.iter().all(|kept| kept.as_millisecond() == time.as_millisecond());
        let new = NewJob { call: JobCall { enqueued: time, ..call().call }, due: time, unique: None };
        store.enqueue([new.clone()]).await;
        let job = store.job(new.call.id).await;
        let State::Waiting { due, .. } = job.standing.state else { panic!("a job that was enqueued waits") };
        assert!(kept(&[due, job.call.enqueued]), "{time} became {due} and {}", job.call.enqueued);
        let leased = store.lease(Ask { now: time, ..ask(WorkerId::new()) }).await;
        assert_eq!(ids(&leased), [new.call.id], "a job due at {time} is due then");

        let lease = lease_of(&leased[0]);
        let ended = Attempt { started: Some(time), ended: time, ..attempt(lease, Ending::Done) };
        let next = NextState::Waiting { due: time };
        store.settle(Settlement { attempt: Some(ended), ..settlement(lease, next) }).await;
        let first = Ask { now: Timestamp::MIN, limit: 0, ..ask(WorkerId::new()) };
        let next_due = store.lease_all(first).await.next_due.map(Timestamp::as_millisecond);
        assert_eq!(next_due, (time > Timestamp::MIN).then(|| time.as_millisecond()));
        let attempts = store.attempts(new.call.id).await;
        assert!(kept(&[attempts[0].started.unwrap_or_default(), attempts[0].ended]), "{time} became {attempts:?}");

        let hold = seen(lease.job, StateKind::Waiting);
        store.settle(Settlement { hold, now: time, ..settlement(lease, dead()) }).await;
    }
    for (before, pruned) in [(Timestamp::MIN, 0), (old, 1), (fine, 1), (Timestamp::MAX, 1)] {
        assert_eq!(answer(store.0.prune(Timestamp::MAX, before, 10).await), pruned, "before {before}");
    }
}
