//! A job that comes after others is leased once they have ended.

use std::{sync::Arc, time::Duration};

use super::harness::*;
use crate::{
    error::Error,
    model::{
        job::{After, AfterFailure, Job, JobCall, JobId, Lease, NewJob, NextState, State, StateKind, WorkerId},
        unique::{Duplicate, Unique},
    },
    store::{Ask, Hold, Placement, Settlement, Store, Written},
};

fn after(parents: &[JobId], on_failure: AfterFailure) -> NewJob {
    let after = Some(Box::new(After { jobs: parents.to_vec(), on_failure }));
    NewJob { call: JobCall { after, ..call().call }, ..call() }
}

fn follows(parents: &[JobId]) -> NewJob {
    after(parents, AfterFailure::Cancel)
}

impl Subject {
    async fn enqueue_one(&self, new: NewJob) -> JobId {
        self.enqueue([new]).await[0]
    }

    async fn ends(&self, lease: Lease, next: NextState, now: i64) {
        self.settle(Settlement { now: at(now), ..settlement(lease, next) }).await;
    }

    async fn state(&self, id: JobId) -> State {
        self.stands_as_it_is(id).await;
        self.job(id).await.standing.state
    }

    async fn waits_for(&self, id: JobId, parents: u32) {
        let state = self.state(id).await;
        assert!(matches!(state, State::Waiting { parents: found, .. } if found == parents), "{parents}: {state:?}");
    }

    /// The jobs that are due at this time, which run from now on.
    async fn due(&self, now: i64) -> Vec<Job> {
        self.lease(Ask { now: at(now), ..ask(WorkerId::new()) }).await
    }

    /// Checks that the store counts each job where it is.
    async fn counts_rightly(&self) {
        assert_eq!(answer(self.0.recount().await), 0);
    }

    async fn refused(&self, jobs: impl IntoIterator<Item = NewJob>) -> JobId {
        match self.0.enqueue(jobs.into_iter().collect()).await {
            Err(Error::NoParent { job, .. }) => job,
            other => panic!("a job that is not there cannot be waited for: {other:?}"),
        }
    }
}

fn is_cancelled(state: &State, why: &str) -> bool {
    matches!(state, State::Cancelled { reason } if reason == why)
}

/// It is not leased before the last of them has ended, is due from then on, and says for how many it waits.
pub async fn a_job_waits_until_those_before_it_have_ended(store: Arc<dyn Store>) {
    let store = Subject(store);
    let (first, second) = (store.running().await, store.running().await);
    let new = follows(&[first.job, second.job]);
    let id = store.enqueue_one(new.clone()).await;
    store.waits_for(id, 2).await;
    assert_eq!(store.job(id).await.call, new.call);
    assert_eq!(store.lease_all(Ask { now: at(9_000), ..ask(WorkerId::new()) }).await.next_due, None);
    let counts = answer(store.0.counts(at(9_000)).await);
    let lane = counts.iter().find(|counts| counts.lane.queue == "default").expect("it is in a lane");
    assert_eq!((lane.jobs.waiting, lane.oldest_due), (1, None), "it waits, and is not due");
    assert_eq!(answer(store.0.due_lanes(at(9_000)).await), []);
    store.ends(first, done(), 1_000).await;
    store.waits_for(id, 1).await;
    assert_eq!(store.due(9_000).await, []);
    let mut work = store.0.notifier().work();
    store.ends(second, done(), 2_000).await;
    assert!(work.take_notification(), "a worker that is about to stop, for nothing is left, must know of it");
    assert_eq!(store.state(id).await, State::waiting(at(2_000)));
    assert_eq!(ids(&store.due(2_000).await), [id]);
    store.counts_rightly().await;
}

/// Its own time counts besides.
pub async fn a_job_that_waits_for_others_has_its_time_too(store: Arc<dyn Store>) {
    let store = Subject(store);
    let lease = store.running().await;
    let later = NewJob { due: at(5_000), ..follows(&[lease.job]) };
    let expires = follows(&[lease.job]);
    let expires = NewJob { call: JobCall { expires: Some(Duration::from_secs(1)), ..expires.call }, ..expires };
    let [later, expires] = [store.enqueue_one(later).await, store.enqueue_one(expires).await];
    assert_eq!(answer(store.0.expired(at(60_000), 100).await).jobs, [], "what waits for others does not expire");
    store.ends(lease, done(), 2_000).await;
    assert_eq!(store.state(later).await, State::waiting(at(5_000)));
    assert_eq!(answer(store.0.expired(at(2_999), 100).await).jobs, []);
    assert_eq!(ids(&answer(store.0.expired(at(3_000), 100).await).jobs), [expires]);
    assert_eq!(ids(&store.due(4_999).await), [expires]);
    assert_eq!(ids(&store.due(5_000).await), [later]);
}

/// Where one of them ends dead or cancelled, it is cancelled in the same commit, or runs all the same.
pub async fn a_job_is_cancelled_or_runs_where_one_before_it_fails(store: Arc<dyn Store>) {
    let store = Subject(store);
    for (next, word) in [(dead(), "dead"), (cancelled(), "cancelled")] {
        let (fails, other) = (store.running().await, store.running().await);
        let cancels = store.enqueue_one(follows(&[fails.job, other.job])).await;
        let runs = store.enqueue_one(after(&[fails.job], AfterFailure::Run)).await;
        let mut end = store.0.notifier().end(cancels);
        let mut work = store.0.notifier().work();
        store.ends(fails, next, 1_000).await;
        expect_notification(&mut end, "the end of a job that waited").await;
        expect_notification(&mut work, "a job that waits no more").await;
        let job = store.job(cancels).await;
        assert!(is_cancelled(&job.standing.state, &format!("{} is {word}", fails.job)), "{job:?}");
        assert_eq!((job.ended, job.standing.attempt), (Some(at(1_000)), 0));
        assert_eq!(store.attempts(cancels).await, []);
        assert_eq!(ids(&store.due(1_000).await), [runs]);
        store.ends(other, done(), 2_000).await;
        assert_eq!(store.job(cancels).await, job, "it has ended");
        assert_eq!(store.due(9_000).await, []);
    }
    store.counts_rightly().await;
    assert_eq!(answer(store.0.prune(at(1_500), at(0), 100).await), 3, "two that waited, and one of those before them");
}

/// What waits for a job that is cancelled so is cancelled too, and so on, all in one commit.
pub async fn those_that_wait_for_a_cancelled_job_are_cancelled_too(store: Arc<dyn Store>) {
    const LONG: usize = 1_500;
    let store = Subject(store);
    let lease = store.running().await;
    let mut chain = vec![follows(&[lease.job])];
    for _ in 1..LONG {
        chain.push(follows(&[chain[chain.len() - 1].call.id]));
    }
    let middle = chain[LONG / 2].call.id;
    let runs = store.enqueue(chain.iter().cloned().chain([after(&[middle], AfterFailure::Run)])).await[LONG];
    store.ends(lease, dead(), 1_000).await;
    let mut before = format!("{} is dead", lease.job);
    for new in &chain {
        let state = store.job(new.call.id).await.standing.state;
        assert!(is_cancelled(&state, &before), "{state:?}, not: {before}");
        before = format!("{} is cancelled", new.call.id);
    }
    assert_eq!(ids(&store.due(1_000).await), [runs]);
    store.counts_rightly().await;
}

/// One that has ended when the job is enqueued is not waited for.
pub async fn a_job_comes_after_one_that_has_ended(store: Arc<dyn Store>) {
    let store = Subject(store);
    let (ends, fails, lives) = (store.running().await, store.running().await, store.running().await);
    store.ends(ends, done(), 0).await;
    store.ends(fails, dead(), 0).await;
    let free = store.enqueue_one(follows(&[ends.job])).await;
    let waits = store.enqueue_one(after(&[ends.job, fails.job, lives.job], AfterFailure::Run)).await;
    store.waits_for(waits, 1).await;
    let cancels = follows(&[lives.job, fails.job]);
    let [cancelled, next] = store.enqueue([cancels.clone(), follows(&[cancels.call.id])]).await[..] else { panic!() };
    let (job, reason) = (store.job(cancelled).await, format!("{} is dead", fails.job));
    assert!(is_cancelled(&job.standing.state, &reason) && job.ended == Some(at(0)), "{job:?}");
    assert!(is_cancelled(&store.state(next).await, &format!("{cancelled} is cancelled")));
    assert_eq!(ids(&store.due(0).await), [free]);
    store.ends(lives, done(), 1_000).await;
    assert_eq!(ids(&store.due(1_000).await), [waits]);
    store.counts_rightly().await;
    assert_eq!(answer(store.0.prune(at(1), at(0), 100).await), 3);
}

/// A call is refused that is to wait for a job which is not there, and nothing of it is enqueued. Of a call of several jobs one may wait
/// for those before it.
pub async fn what_is_not_there_is_not_waited_for(store: Arc<dyn Store>) {
    let store = Subject(store);
    let (lease, none) = (store.running().await, JobId::new());
    let other = call();
    assert_eq!(store.refused([other.clone(), follows(&[lease.job, none])]).await, none);
    assert_eq!(answer(store.0.job(other.call.id).await), None);
    let (first, second) = (call(), call());
    assert_eq!(store.refused([follows(&[second.call.id]), second.clone()]).await, second.call.id);
    let waits = follows(&[first.call.id, second.call.id]);
    let id = store.enqueue([first.clone(), second.clone(), waits.clone()]).await[2];
    store.waits_for(id, 2).await;
    let leased = store.due(0).await;
    assert_eq!(ids(&leased), [first.call.id, second.call.id]);
    for job in &leased {
        store.ends(lease_of(job), done(), 0).await;
    }
    assert_eq!(answer(store.0.prune(at(1), at(1), 100).await), 2);
    // It is there, and so it stays as it is.
    store.enqueue([waits]).await;
    assert_eq!(store.state(id).await, State::waiting(at(0)));
    store.counts_rightly().await;
}

/// A job that waits for others can be called off, and can be moved. A job that was called off and is tried again waits for no other job.
pub async fn a_job_that_waits_for_others_is_called_off_or_moved(store: Arc<dyn Store>) {
    let store = Subject(store);
    let (lease, other) = (store.running().await, store.running().await);
    let [called_off, moved] = [follows(&[lease.job, other.job]), follows(&[lease.job])];
    let [called_off, moved] = [store.enqueue_one(called_off).await, store.enqueue_one(moved).await];
    let next = store.enqueue_one(follows(&[called_off])).await;
    let seen = |state| Hold::Seen { job: called_off, state, attempt: 0 };
    let settle = |hold, next| Settlement { hold, outcome: outcome(next), steps: None, attempt: None, now: at(500) };
    store.settle(settle(seen(StateKind::Waiting), cancelled())).await;
    assert!(is_cancelled(&store.state(next).await, &format!("{called_off} is cancelled")));
    let placement = Placement { job: moved, queue: Some("fast".into()), priority: Some(3), due: Some(at(100)) };
    assert_eq!(answer(store.0.place(placement).await), Written::Yes);
    store.waits_for(moved, 1).await;
    let in_fast = || Ask { queues: queues(&["fast"]), now: at(1_000), ..ask(WorkerId::new()) };
    assert_eq!(store.lease(in_fast()).await, [], "it waits there too");
    store.settle(settle(seen(StateKind::Cancelled), waiting(500))).await;
    assert_eq!(ids(&store.due(600).await), [called_off]);
    store.ends(lease, done(), 1_000).await;
    store.ends(other, dead(), 1_000).await;
    assert_eq!(store.state(called_off).await.kind(), StateKind::Running, "it waits for nobody");
    let leased = store.lease(in_fast()).await;
    assert_eq!(ids(&leased), [moved]);
    assert_eq!((leased[0].call.priority, &*leased[0].call.queue), (3, "fast"));
    store.counts_rightly().await;
}

/// A job that is replaced while it waits for others waits for them as before.
pub async fn a_replaced_job_waits_for_the_same(store: Arc<dyn Store>) {
    let store = Subject(store);
    let lease = store.running().await;
    let keyed = |new: NewJob, args: &str| NewJob {
        call: JobCall { key: Some("k".into()), args: json(args), ..new.call },
        unique: Some(Box::new(Unique { on_duplicate: Duplicate::Replace, ..Unique::default() })),
        due: new.due,
    };
    let waits = keyed(follows(&[lease.job]), "[1]");
    let (id, after) = (waits.call.id, waits.call.after.clone());
    store.enqueue([waits]).await;
    answer(store.0.enqueue(vec![keyed(call(), "[2]")]).await);
    store.waits_for(id, 1).await;
    let found = store.job(id).await.call;
    assert_eq!((found.args, found.after), (json("[2]"), after.clone()));
    let other = store.running().await;
    answer(store.0.enqueue(vec![keyed(follows(&[other.job]), "[3]")]).await);
    store.waits_for(id, 1).await;
    let found = store.job(id).await.call;
    assert_eq!((found.args, found.after), (json("[3]"), after), "as before, whatever the other call says");
    store.ends(lease, done(), 1_000).await;
    assert_eq!(ids(&store.due(1_000).await), [id]);
    store.counts_rightly().await;
}

/// A job that fails, is tried again and ends well revives none of those that were cancelled, and releases none twice.
pub async fn what_was_cancelled_stays_so_when_the_other_is_tried_again(store: Arc<dyn Store>) {
    let store = Subject(store);
    let lease = store.running().await;
    let cancels = store.enqueue_one(follows(&[lease.job])).await;
    store.ends(lease, dead(), 0).await;
    let again = Settlement { hold: seen(lease.job, StateKind::Dead), ..settlement(lease, waiting(0)) };
    store.settle(again).await;
    let other = store.running().await;
    let waits = store.enqueue_one(follows(&[lease.job, other.job])).await;
    let leased = store.lease(ask_for(lease.job, at(0))).await;
    store.ends(lease_of(&leased[0]), done(), 1_000).await;
    assert_eq!(store.state(cancels).await.kind(), StateKind::Cancelled);
    store.waits_for(waits, 1).await;
    let end = Hold::Seen { job: lease.job, state: StateKind::Done, attempt: 2 };
    store.settle(Settlement { hold: end, ..settlement(lease, waiting(0)) }).await;
    let leased = store.lease(ask_for(lease.job, at(0))).await;
    store.ends(lease_of(&leased[0]), done(), 1_000).await;
    store.waits_for(waits, 1).await;
    store.ends(other, done(), 1_000).await;
    assert_eq!(ids(&store.due(1_000).await), [waits]);
}

/// Thousands may wait for one.
pub async fn many_jobs_wait_for_one(store: Arc<dyn Store>) {
    const MANY: usize = 3_000;
    let store = Subject(store);
    let lease = store.running().await;
    let waiting = store.enqueue((0..MANY).map(|_| follows(&[lease.job]))).await;
    assert_eq!(store.due(0).await, []);
    store.ends(lease, done(), 0).await;
    let leased = store.lease(Ask { limit: MANY, ..ask(WorkerId::new()) }).await;
    assert_eq!(ids(&leased), waiting);
    store.counts_rightly().await;
}

/// Of jobs that end at the same time, each in a call of its own, exactly one is the last.
pub async fn jobs_that_end_at_once_let_go_those_that_wait_for_them(store: Arc<dyn Store>) {
    let store = Subject(store);
    for round in 0..12 {
        let mut parents = Vec::new();
        for _ in 0..6 {
            parents.push(store.running().await);
        }
        let all: Vec<_> = parents.iter().map(|lease| lease.job).collect();
        let on_failure = if round % 2 == 0 { AfterFailure::Run } else { AfterFailure::Cancel };
        let waits = store.enqueue((1..=6).map(|some| after(&all[..some], on_failure))).await;
        let ends = parents.into_iter().enumerate().map(|(number, lease)| {
            let (store, next) = (store.clone(), if round % 4 == 1 && number == 3 { dead() } else { done() });
            async move { store.ends(lease, next, 1_000).await }
        });
        at_once(ends).await;
        let due = if round % 4 == 1 { &waits[..3] } else { &waits[..] };
        assert_eq!(ids(&store.due(1_000).await), due);
    }
    store.counts_rightly().await;
}

/// A job that is enqueued while the one before it ends waits for that, or finds that it has ended: it is never forgotten.
pub async fn a_job_ends_or_is_waited_for(store: Arc<dyn Store>) {
    let store = Subject(store);
    for round in 0..40 {
        let lease = store.running().await;
        let enqueues = {
            let store = store.clone();
            async move { Some(store.enqueue_one(follows(&[lease.job])).await) }
        };
        let ends = {
            let store = store.clone();
            async move {
                store.ends(lease, done(), 1_000).await;
                None
            }
        };
        let calls: [futures::future::BoxFuture<'static, Option<JobId>>; 2] =
            if round % 2 == 0 { [Box::pin(enqueues), Box::pin(ends)] } else { [Box::pin(ends), Box::pin(enqueues)] };
        let id = at_once(calls).await.into_iter().flatten().next().expect("one enqueues");
        assert_eq!(ids(&store.due(1_000).await), [id]);
    }
}
