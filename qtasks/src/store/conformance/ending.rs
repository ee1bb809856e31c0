//! Attempts are kept, and ended jobs pruned.

use std::sync::Arc;

use jiff::Timestamp;

use super::harness::*;
use crate::{
    model::job::{Attempt, Ending, JobCall, Lease, NewJob, StateKind, WorkerId},
    store::{Ask, Budget, Find, Hold, Settlement, Store, Written},
};

/// The attempts of a job are read oldest first, as they were written, whatever happens to the job meanwhile.
pub async fn attempts_that_ended_are_kept(store: Arc<dyn Store>) {
    let store = Subject(store);
    let id = store.running().await.job;
    let reason = || "because".to_owned();
    let endings = [
        Ending::Failed { error: "no\nat all".into() },
        Ending::Snoozed,
        Ending::Released,
        Ending::Lost,
        Ending::Discarded { reason: reason() },
        Ending::Cancelled { reason: reason() },
        Ending::Done,
    ];
    let mut kept = Vec::new();
    for (seq, ending) in (0..).zip(endings) {
        let lease = lease_of(&store.job(id).await);
        store.write(record(lease, [step(seq)])).await;
        let ended = Attempt { steps: None, ..attempt(lease, ending) };
        let settled = Settlement { attempt: Some(ended.clone()), ..settlement(lease, waiting(0)) };
        store.settle(settled).await;
        kept.push(with_steps(ended, seq + 1));
        assert_eq!(store.attempts(id).await, kept);
        store.lease(ask_for(id, at(0))).await;
    }
    let lease = lease_of(&store.job(id).await);
    store.settle(settlement(lease, done())).await;
    assert_eq!(store.attempts(id).await, kept, "a settlement without an attempt adds none");
}

/// The attempt that ended a job well knows how many steps the job had, as all others do.
pub async fn each_attempt_knows_how_many_steps_there_were(store: Arc<dyn Store>) {
    let store = Subject(store);
    let first = store.running().await;
    store.write(record(first, (0..3).map(step))).await;
    let failed = Settlement { attempt: Some(attempt(first, Ending::Lost)), ..settlement(first, waiting(0)) };
    store.settle(failed).await;
    let second = lease_of(&store.lease(ask_for(first.job, at(0))).await[0]);
    store.write(record(second, [step(3), step(4)])).await;
    store.settle(Settlement { steps: Some(5), ..ended_well(second) }).await;
    let expected = [with_steps(attempt(first, Ending::Lost), 3), with_steps(attempt(second, Ending::Done), 5)];
    assert_eq!(store.attempts(first.job).await, expected);
    let again = Settlement {
        hold: Hold::Seen { job: first.job, state: StateKind::Done, attempt: 2 },
        ..settlement(first, waiting(0))
    };
    store.settle(again).await;
    let third = lease_of(&store.lease(ask_for(first.job, at(0))).await[0]);
    store.write(record(third, [step(5)])).await;
    assert_eq!(store.attempts(first.job).await, expected, "it had no more then");
}

/// The first 10 and the last 90 attempts of the history are kept: while the job goes on, when it has ended, and when it is tried
/// again.
pub async fn of_many_attempts_the_first_and_the_last_are_kept(store: Arc<dyn Store>) {
    let store = Subject(store);
    let id = store.running().await.job;
    let mut all: Vec<Attempt> = Vec::new();
    for number in 1..=150 {
        let lease = lease_of(&store.job(id).await);
        assert_eq!(lease.attempt, number);
        // Some are given back before they are started.
        let ended = (number % 4 != 0).then(|| attempt(lease, Ending::Snoozed));
        let next = if number % 50 == 49 { dead() } else { waiting(0) };
        all.extend(ended.clone());
        store.settle(Settlement { attempt: ended, ..settlement(lease, next.clone()) }).await;
        if all.len() > 95 || next.is_ended() {
            assert_eq!(store.attempts(id).await, first_and_last(&all), "after {number} attempts");
        }
        if next.is_ended() {
            let hold = Hold::Seen { job: lease.job, state: StateKind::Dead, attempt: number };
            store.settle(Settlement { hold, ..settlement(lease, waiting(0)) }).await;
            assert_eq!(store.attempts(id).await, first_and_last(&all), "when it is tried again");
        }
        store.lease(ask_for(id, at(0))).await;
    }
}

fn first_and_last(attempts: &[Attempt]) -> Vec<Attempt> {
    let left_out = 10..attempts.len().saturating_sub(90);
    attempts.iter().enumerate().filter(|(index, _)| !left_out.contains(index)).map(|(_, kept)| kept.clone()).collect()
}

/// A job that is run again after it was done has the attempts from before and after.
pub async fn the_attempt_of_a_job_that_is_done_is_kept_when_it_is_run_again(store: Arc<dyn Store>) {
    let store = Subject(store);
    let first = store.running().await;
    store.settle(ended_well(first)).await;
    let mut kept = vec![attempt(first, Ending::Done)];
    assert_eq!(store.attempts(first.job).await, kept);
    for state in [StateKind::Dead, StateKind::Done] {
        let again = Settlement { hold: seen(first.job, state), ..settlement(first, waiting(0)) };
        let expected = if state == StateKind::Done { Written::Yes } else { Written::Fenced };
        assert_eq!(store.try_settle(again).await, expected);
        assert_eq!(store.attempts(first.job).await, kept, "a {state} job was to wait again");
    }
    let second = lease_of(&store.lease(ask_for(first.job, at(0))).await[0]);
    assert_eq!(store.attempts(first.job).await, kept);
    store.settle(ended_well(second)).await;
    kept.push(attempt(second, Ending::Done));
    assert_eq!(store.attempts(first.job).await, kept);
}

/// A change that was not made adds no attempt.
pub async fn a_settlement_that_is_fenced_off_leaves_no_history(store: Arc<dyn Store>) {
    let store = Subject(store);
    let lease = store.running().await;
    let stale = Lease { attempt: 2, ..lease };
    let lost = Some(attempt(lease, Ending::Lost));
    for hold in [Hold::Lease(stale), Hold::Silent { lease, beat: None }, seen(lease.job, StateKind::Waiting)] {
        let settlement = Settlement { hold, attempt: lost.clone(), ..settlement(lease, dead()) };
        assert_eq!(store.try_settle(settlement).await, Written::Fenced);
    }
    assert_eq!(store.attempts(lease.job).await, []);
}

/// Dead jobs have one retention and all other ended jobs another. It counts from the end of the job, not from its enqueue.
pub async fn ended_jobs_are_pruned_after_their_retention(store: Arc<dyn Store>) {
    let store = Subject(store);
    let mut ended = Vec::new();
    for (next, now) in [(done(), 100), (cancelled(), 200), (dead(), 100), (dead(), 200), (done(), 300)] {
        let lease = store.running().await;
        store.settle(Settlement { now: at(now), ..settlement(lease, next) }).await;
        ended.push(lease.job);
    }
    let mut remaining = ended.clone();
    for (finished, dead, gone) in [
        (at(100), at(100), vec![]),
        (at(0), at(101), vec![ended[2]]),
        (at(101), at(0), vec![ended[0]]),
        (at(300), at(200), vec![ended[1]]),
        (at(300), at(201), vec![ended[3]]),
        (at(301), at(201), vec![ended[4]]),
    ] {
        assert_eq!(answer(store.0.prune(finished, dead, 10).await), gone.len(), "{finished} and {dead}");
        remaining.retain(|id| !gone.contains(id));
        assert_eq!(ids(&store.all_jobs().await), remaining);
    }
}

/// Neither a job that waits nor one that runs is pruned, however old, lost or late it is.
pub async fn live_jobs_are_never_pruned(store: Arc<dyn Store>) {
    let store = Subject(store);
    store.running().await;
    let given_back = store.running().await;
    store.settle(settlement(given_back, waiting(0))).await;
    store
        .enqueue([NewJob {
            call: JobCall { enqueued: Timestamp::MIN, ..call().call },
            due: Timestamp::MIN,
            unique: None,
        }])
        .await;
    assert_eq!(answer(store.0.prune(Timestamp::MAX, Timestamp::MAX, 10).await), 0);
    assert_eq!(store.all_jobs().await.len(), 3);
}

/// The first end of such a job, which was taken back, counts no more.
pub async fn a_job_that_has_ended_twice_is_pruned_after_its_last_end(store: Arc<dyn Store>) {
    let store = Subject(store);
    let lease = store.running().await;
    store.settle(Settlement { now: at(100), ..settlement(lease, dead()) }).await;
    let hold = seen(lease.job, StateKind::Dead);
    store.settle(Settlement { hold, ..settlement(lease, waiting(0)) }).await;
    let again = store.lease(ask_for(lease.job, at(200))).await;
    store.settle(Settlement { now: at(300), ..settlement(lease_of(&again[0]), dead()) }).await;
    for (before, pruned) in [(at(200), 0), (at(300), 0), (at(301), 1)] {
        assert_eq!(answer(store.0.prune(before, before, 10).await), pruned, "{before}");
    }
}

/// Such a job is pruned also where the jobs that ended together with it the first time have been pruned since.
pub async fn one_of_many_that_has_ended_twice_is_pruned(store: Arc<dyn Store>) {
    let store = Subject(store);
    store.enqueue(calls(2)).await;
    let leased = store.lease(ask(WorkerId::new())).await;
    let dead_at = |job, now| Settlement { now: at(now), ..settlement(lease_of(job), dead()) };
    store.settle_all(leased.iter().map(|job| dead_at(job, 100))).await;
    let hold = seen(leased[1].call.id, StateKind::Dead);
    store.settle(Settlement { hold, ..settlement(lease_of(&leased[1]), waiting(0)) }).await;
    let again = store.lease(ask(WorkerId::new())).await;
    store.settle(dead_at(&again[0], 300)).await;
    for (before, limit, pruned) in [(at(200), 1, 1), (at(200), 9, 0), (at(301), 9, 1)] {
        assert_eq!(answer(store.0.prune(before, before, limit).await), pruned, "{before}");
    }
    assert_eq!(store.all_jobs().await, []);
}

/// Jobs whose ends come in one call may have ended at other times: each is pruned at its own age, also where a prune has come
/// between.
pub async fn jobs_that_were_settled_together_are_pruned_each_at_its_age(store: Arc<dyn Store>) {
    let store = Subject(store);
    store.enqueue(calls(3)).await;
    let leased = store.lease(ask(WorkerId::new())).await;
    let ends = leased.iter().zip([100, 300, 500]);
    store.settle_all(ends.map(|(job, now)| Settlement { now: at(now), ..settlement(lease_of(job), done()) })).await;
    for (before, pruned) in [(at(100), 0), (at(200), 1), (at(300), 0), (at(400), 1), (at(501), 1)] {
        assert_eq!(answer(store.0.prune(before, before, 10).await), pruned, "{before}");
    }
    assert_eq!(store.all_jobs().await, []);
}

/// The jobs before, between and after the pruned ones are still listed in order, whether they wait, run or have ended.
pub async fn what_is_pruned_leaves_the_others_in_order(store: Arc<dyn Store>) {
    let store = Subject(store);
    let mut remaining = Vec::new();
    for round in 0..3 {
        let jobs = store.enqueue(calls(20)).await;
        let leased = store.lease(Ask { limit: 17, ..ask(WorkerId::new()) }).await;
        let ended = leased.iter().filter(|job| ![jobs[5], jobs[9]].contains(&job.call.id));
        let ended: Vec<_> = ended.map(|job| settlement(lease_of(job), done())).collect();
        let count = ended.len();
        remaining.extend(jobs);
        remaining.retain(|id| ended.iter().all(|settlement| settlement.job() != *id));
        store.settle_all(ended).await;
        assert_eq!(answer(store.0.prune(at(1), at(1), 100).await), count, "round {round}");
        assert_eq!(ids(&store.all_jobs().await), remaining, "round {round}");
        for (index, id) in remaining.iter().enumerate() {
            let next = answer(store.0.find(Find::default().oldest_first(), Some(*id), Budget::jobs(1)).await).jobs;
            assert_eq!(ids(&next), remaining[index + 1..].iter().take(1).copied().collect::<Vec<_>>());
        }
    }
}

/// The steps and the history of a job are deleted with it: a job that is enqueued under the same id begins anew.
pub async fn pruning_deletes_all_that_belongs_to_a_job(store: Arc<dyn Store>) {
    let store = Subject(store);
    let (gone, stays) = (store.running().await, store.running().await);
    for lease in [gone, stays] {
        store.write(record(lease, [step(0), step(1)])).await;
    }
    store.settle(Settlement { attempt: Some(attempt(gone, Ending::Done)), ..settlement(gone, done()) }).await;
    assert_eq!(answer(store.0.prune(Timestamp::MAX, Timestamp::MIN, 10).await), 1);
    assert_eq!(answer(store.0.job(gone.job).await), None);
    let new = NewJob::from(JobCall { id: gone.job, ..call().call });
    for _ in 0..2 {
        assert_eq!(store.steps(gone.job).await, []);
        assert_eq!(store.attempts(gone.job).await, []);
        assert_eq!(answer(store.0.last_step(gone.job).await), None);
        store.enqueue([new.clone()]).await;
    }
    let job = store.job(gone.job).await;
    assert_eq!((job.standing.attempt, job.counts.steps, job.standing.state), (0, 0, waiting(0).into()));
    assert_eq!(store.steps(stays.job).await, [step(0), step(1)]);
}

/// The limit counts dead and other jobs together, and the next call deletes more.
pub async fn pruning_keeps_to_its_limit(store: Arc<dyn Store>) {
    let store = Subject(store);
    for next in [done(), dead(), done(), dead(), cancelled()] {
        let lease = store.running().await;
        store.settle(settlement(lease, next)).await;
    }
    for (limit, pruned, remaining) in [(0, 0, 5), (3, 3, 2), (3, 2, 0), (3, 0, 0)] {
        assert_eq!(answer(store.0.prune(at(1), at(1), limit).await), pruned);
        assert_eq!(store.all_jobs().await.len(), remaining);
    }
}
