//! A job moves to its next state once.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;

use super::harness::*;
use crate::{
    model::{
        job::{Ending, Job, JobId, Lease, NextState, Output, Shape, StateKind, Suspect, WorkerId},
        lifecycle::Outcome,
    },
    store::{Ask, Hold, Settlement, Store, Suspects, Written},
};

/// State, failures and suspicion are those that the settlement names; all else stays. The same settlement is not made twice.
pub async fn a_settled_job_is_what_it_was_settled_to(store: Arc<dyn Store>) {
    let store = Subject(store);
    let shapes = [Shape::List, Shape::Map, Shape::Text, Shape::Count, Shape::Last, Shape::Nothing];
    let collected = shapes.map(|shape| NextState::Done { output: Output::Steps(shape) });
    for next in [done(), waiting(500), dead(), cancelled()].into_iter().chain(collected) {
        let lease = store.running().await;
        store.write(record(lease, [step(0)])).await;
        let before = store.job(lease.job).await;
        let suspect = Suspect { survived: Duration::from_millis(1), losses: 2, ..Suspect::default() };
        let suspect = Some(suspect).filter(|_| !next.is_ended());
        let outcome = Outcome { next, failures: 3, suspect };
        let settled = settlement_to(lease, outcome.clone());
        store.settle(settled.clone()).await;
        assert_eq!(store.try_settle(settled).await, Written::Fenced);
        let ended = outcome.next.is_ended().then(|| at(0));
        assert_eq!(store.job(lease.job).await, Job { standing: outcome.standing(1), ended, ..before });
    }
}

/// A job that has ended says when it did, until it is tried again.
pub async fn a_job_that_has_ended_says_when(store: Arc<dyn Store>) {
    let store = Subject(store);
    for (seconds, next) in [done(), dead(), cancelled()].into_iter().enumerate() {
        let now = at(seconds as i64 * 1_000 + 7);
        let lease = store.running().await;
        assert_eq!(store.job(lease.job).await.ended, None);
        let kind = next.kind();
        store.settle(Settlement { now, ..settlement(lease, next) }).await;
        assert_eq!(store.job(lease.job).await.ended, Some(now), "{kind}");
        let again = Settlement { hold: seen(lease.job, kind), now: at(9_000), ..settlement(lease, waiting(0)) };
        store.settle(again).await;
        assert_eq!(store.job(lease.job).await.ended, None, "{kind}");
    }
}

/// It stays a suspect through every lease and every record.
pub async fn a_suspect_stays_one_until_it_is_settled_otherwise(store: Arc<dyn Store>) {
    let store = Subject(store);
    let lease = store.running().await;
    let known = |milliseconds, losses| {
        Some(Suspect { survived: Duration::from_millis(milliseconds), losses, ..Suspect::default() })
    };
    // Suspects that have survived nothing and for a day; then none; then one once more.
    for suspect in [known(0, 0), known(86_400_000, u32::MAX), None, known(1, 1)] {
        let lease = lease_of(&store.job(lease.job).await);
        store.settle(settlement_to(lease, Outcome { suspect, ..outcome(waiting(0)) })).await;
        assert_eq!(store.job(lease.job).await.standing.suspect, suspect);
        let again = store.lease(Ask { suspects: Suspects::OneBesideOthers, ..ask_for(lease.job, at(0)) }).await;
        let running = suspect.map(|suspect| Suspect { leased: Some(at(0)), ..suspect });
        assert_eq!((again[0].standing.suspect, store.job(lease.job).await.standing.suspect), (running, running));
        store.write(record(lease_of(&again[0]), [step(again[0].counts.steps)])).await;
        let after = running.map(|suspect| Suspect { losses: 0, ..suspect });
        assert_eq!(store.job(lease.job).await.standing.suspect, after);
    }
}

/// The job keeps its position by priority and age, and its next attempt has the next number.
pub async fn a_job_that_waits_again_is_leased_again_when_it_is_due(store: Arc<dyn Store>) {
    let store = Subject(store);
    let lease = store.running().await;
    for attempt in 2..5 {
        let due = i64::from(attempt) * 100;
        let job = store.job(lease.job).await;
        store.settle(settlement(lease_of(&job), waiting(due))).await;
        let early = store.lease_all(ask_for(lease.job, at(due - 1))).await;
        assert_eq!((early.jobs, early.next_due), (vec![], Some(at(due))));
        let again = store.lease(ask_for(lease.job, at(due))).await;
        assert_eq!((again[0].call.id, again[0].standing.attempt), (lease.job, attempt));
    }
}

/// It is not taken if its worker has renewed after it was looked at, nor under another attempt or worker.
pub async fn only_a_job_of_a_silent_worker_is_taken_from_it(store: Arc<dyn Store>) {
    let store = Subject(store);
    let lease = store.running().await;
    let other = store.running().await;
    store.renew(lease.worker, 5).await;
    for (lease, beat) in [
        (lease, Some(BEAT)),
        (lease, None),
        (lease, Some(6)),
        (Lease { attempt: 0, ..lease }, Some(5)),
        (Lease { attempt: 2, ..lease }, Some(5)),
        (Lease { worker: other.worker, ..lease }, Some(BEAT)),
        (Lease { worker: WorkerId::new(), ..lease }, None),
    ] {
        assert_eq!(store.try_settle(lost(lease, beat)).await, Written::Fenced, "{lease:?} at beat {beat:?}");
    }
    assert_eq!(store.job(lease.job).await.standing.state.name(), "running");
    store.settle(lost(lease, 5)).await;
    assert_eq!(store.try_settle(lost(lease, 5)).await, Written::Fenced, "a job that waits is held by no one");
    assert_eq!(store.renew(lease.worker, 6).await, [], "a renewal tells that the lease is gone");
}

/// It must still be in the state and at the attempt that it was seen in, whichever state that is.
pub async fn a_job_is_settled_only_as_it_was_seen(store: Arc<dyn Store>) {
    let store = Subject(store);
    for state in [None, Some(waiting(0)), Some(done()), Some(dead()), Some(cancelled())] {
        let lease = store.running().await;
        if let Some(state) = &state {
            store.settle(settlement(lease, state.clone())).await;
        }
        let name = state.map_or(StateKind::Running, |state| state.kind());
        let seen = |state, attempt| {
            let hold = Hold::Seen { job: lease.job, state, attempt };
            Settlement { hold, ..settlement(lease, waiting(700)) }
        };
        let others = STATES.into_iter().filter(|other| *other != name).map(|other| (other, 1));
        for (other, attempt) in others.chain([(name, 0), (name, 2)]) {
            let written = store.try_settle(seen(other, attempt)).await;
            assert_eq!(written, Written::Fenced, "{name} at attempt 1 was seen as {other} at attempt {attempt}");
        }
        assert_eq!(store.try_settle(seen(name, 1)).await, Written::Yes, "{name} was seen as such");
        assert_eq!(store.job(lease.job).await.standing.state, waiting(700).into());
    }
}

/// A server may have lost its last seconds: then the job has not all the steps that its result is made of.
pub async fn a_job_without_all_its_steps_is_not_done(store: Arc<dyn Store>) {
    let store = Subject(store);
    for hold in [Hold::Lease, |lease: Lease| seen(lease.job, StateKind::Running)] {
        let lease = store.running().await;
        store.write(record(lease, [step(0), step(1)])).await;
        let of = |steps| Settlement { hold: hold(lease), steps: Some(steps), ..settlement(lease, done()) };
        let written = store.settle_all([of(3), of(1), of(2)]).await;
        assert_eq!(written, [Written::Fenced, Written::Fenced, Written::Yes]);
        assert_eq!(store.job(lease.job).await.standing.state, done().into());
    }
    // A job that is done may take a shorter way than others.
    let lease = store.running().await;
    store.write(record(lease, [step(0), step(1)])).await;
    for (steps, written) in [(3, Written::Fenced), (1, Written::Fenced), (2, Written::Yes)] {
        assert_eq!(store.try_settle(Settlement { steps: Some(steps), ..ended_well(lease) }).await, written, "{steps}");
    }
}

/// The job goes on with the steps and the history that it has, at its next attempt.
pub async fn a_dead_job_can_be_tried_again(store: Arc<dyn Store>) {
    let store = Subject(store);
    let lease = store.running().await;
    store.write(record(lease, [step(0)])).await;
    let ended = attempt(lease, Ending::Failed { error: "no".into() });
    store
        .settle(Settlement {
            attempt: Some(ended.clone()),
            ..settlement_to(lease, Outcome { failures: 4, ..outcome(dead()) })
        })
        .await;
    let hold = seen(lease.job, StateKind::Dead);
    store.settle(Settlement { hold, ..settlement(lease, waiting(10)) }).await;
    let again = store.lease(ask_for(lease.job, at(10))).await;
    assert_eq!((again[0].standing.attempt, again[0].standing.failures, again[0].counts.steps), (2, 0, 1));
    assert_eq!(store.attempts(lease.job).await, [with_steps(ended, 1)]);
    assert_eq!(answer(store.0.prune(Timestamp::MAX, Timestamp::MAX, 10).await), 0, "it is not dead any more");
}

/// One that is fenced off keeps no other from being written; of two for one lease, the first counts.
pub async fn settlements_are_answered_in_order(store: Arc<dyn Store>) {
    let store = Subject(store);
    let (first, second) = (store.running().await, store.running().await);
    let written = store
        .settle_all([
            settlement(Lease { attempt: 7, ..first }, dead()),
            settlement(second, done()),
            settlement(first, cancelled()),
            settlement(second, dead()),
            settlement(Lease { job: JobId::new(), ..first }, done()),
        ])
        .await;
    assert_eq!(written, [Written::Fenced, Written::Yes, Written::Yes, Written::Fenced, Written::Fenced]);
    assert_eq!(store.job(first.job).await.standing.state, cancelled().into());
    assert_eq!(store.job(second.job).await.standing.state, done().into());
}

/// Never both happen, however the two meet; state, answers and history agree on which.
pub async fn a_cancel_wins_or_the_job_completes(store: Arc<dyn Store>) {
    let store = Subject(store);
    for round in 0..100 {
        let lease = store.running().await;
        let complete = Settlement { attempt: Some(attempt(lease, Ending::Done)), ..settlement(lease, done()) };
        let mut both = [complete, cancel(lease)];
        both.rotate_left(round % 2);
        let answers = at_once(both.clone().map(|settlement| {
            let store = store.clone();
            async move { store.try_settle(settlement).await }
        }))
        .await;
        let winner = match answers[..] {
            [Written::Yes, Written::Fenced] => &both[0],
            [Written::Fenced, Written::Yes] => &both[1],
            _ => panic!("of a cancel and a completion not exactly one was written: {answers:?}"),
        };
        assert_eq!(store.job(lease.job).await.standing.state, winner.outcome.next.clone().into());
        assert_eq!(store.attempts(lease.job).await, winner.attempt.clone().into_iter().collect::<Vec<_>>());
    }
}

/// Workers that find the same job settle it once, also when its own worker does so at that moment.
pub async fn one_of_many_takes_over_a_lost_job(store: Arc<dyn Store>) {
    let store = Subject(store);
    for _ in 0..50 {
        let lease = store.running().await;
        let (now, lost) = (at(9_000), lost(lease, BEAT));
        let all = [lost.clone(), settlement(lease, waiting(9_000)), lost.clone(), lost];
        let answers = at_once(all.map(|settlement| {
            let store = store.clone();
            async move {
                let written = store.try_settle(settlement).await;
                (written, store.lease(ask_for(lease.job, now)).await.len())
            }
        }))
        .await;
        let settled = answers.iter().filter(|(written, _)| *written == Written::Yes).count();
        let leased: usize = answers.iter().map(|(_, leased)| leased).sum();
        assert_eq!((settled, leased), (1, 1), "a job that is lost once is settled once and leased once");
        assert_eq!(store.job(lease.job).await.standing.attempt, 2);
    }
}
