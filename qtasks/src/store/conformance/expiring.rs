//! Jobs that were not started in time are found.

use std::{sync::Arc, time::Duration};

use super::harness::*;
use crate::{
    model::job::{Ending, Job, JobCall, JobId, NewJob, State, StateKind, WorkerId},
    store::{Hold, Placement, Record, Settlement, Store, Written},
};

/// A job that expires a minute after it is due.
fn expiring(due: i64) -> NewJob {
    NewJob { call: JobCall { expires: Some(Duration::from_secs(60)), ..call().call }, due: at(due), unique: None }
}

impl Subject {
    /// The jobs that have expired, by their ids. Where the store looks at a few jobs at a time, it is asked until it has looked at all.
    async fn expired(&self, now: i64) -> Vec<JobId> {
        for _ in 0..100 {
            let expired = answer(self.0.expired(at(now), 1_000).await);
            if !expired.more {
                for job in &expired.jobs {
                    assert_eq!(*job, self.job(job.call.id).await, "it is given as it is");
                }
                return ids(&sorted_jobs(expired.jobs));
            }
        }
        panic!("the look for jobs that have expired has no end");
    }

    async fn call_off(&self, id: JobId) {
        let hold = Hold::Seen { job: id, state: StateKind::Waiting, attempt: 0 };
        let settlement = Settlement { hold, outcome: outcome(cancelled()), steps: None, attempt: None, now: at(0) };
        self.settle(settlement).await;
    }
}

fn sorted_jobs(mut jobs: Vec<Job>) -> Vec<Job> {
    jobs.sort_by_key(|job| job.call.id);
    jobs
}

/// From its time on a job is found until it ends, however it was enqueued; others are not.
pub async fn a_job_that_was_not_started_in_time_is_found(store: Arc<dyn Store>) {
    let store = Subject(store);
    let lease = store.running().await;
    let new: Vec<_> = [0, 1_000, 0, 0].into_iter().map(expiring).collect();
    store.enqueue([call(), new[0].clone(), new[1].clone()]).await;
    store.write(Record { jobs: vec![call(), new[2].clone()], ..record(lease, []) }).await;
    assert_eq!(store.note([], vec![new[3].clone(), call()]).await, Written::Yes);
    let [first, later, recorded, noted] = [0, 1, 2, 3].map(|index: usize| new[index].call.id);
    assert_eq!(store.expired(59_999).await, []);
    for _ in 0..2 {
        assert_eq!(store.expired(60_000).await, [first, recorded, noted], "until it ends");
    }
    for id in [first, recorded, noted] {
        store.call_off(id).await;
    }
    assert_eq!(store.expired(60_999).await, []);
    assert_eq!(store.expired(61_000).await, [later]);
    store.call_off(later).await;
    assert_eq!(store.expired(i64::from(i32::MAX)).await, []);
}

/// A job whose id is there already stays as it is, and so does the time at which it expires.
pub async fn a_job_that_is_enqueued_again_expires_as_before(store: Arc<dyn Store>) {
    let store = Subject(store);
    let (new, plain) = (expiring(0), call());
    store.enqueue([new.clone(), plain.clone()]).await;
    let sooner = |call: &JobCall| NewJob::from(JobCall { expires: Some(Duration::from_secs(1)), ..call.clone() });
    store.enqueue([sooner(&new.call), sooner(&plain.call)]).await;
    assert_eq!(store.expired(59_999).await, []);
    assert_eq!(store.expired(60_000).await, [new.call.id]);
}

/// A job that was started once does not expire, whatever became of that attempt. One that was only handed out, and was given back,
/// does; while it is held it does not.
pub async fn a_job_that_has_started_does_not_expire(store: Arc<dyn Store>) {
    let store = Subject(store);
    let ids = store.enqueue((0..6).map(|_| expiring(0))).await;
    let leased = store.lease(ask(WorkerId::new())).await;
    assert_eq!(leased.len(), 6);
    let mut endings = vec![Ending::Released, Ending::Lost, Ending::Snoozed, Ending::Failed { error: "no".into() }];
    for job in &leased[..4] {
        let lease = lease_of(job);
        let attempt = endings.pop().map(|ending| attempt(lease, ending));
        store.settle(Settlement { attempt, ..settlement(lease, waiting(0)) }).await;
    }
    assert_eq!(store.expired(60_000).await, [], "two are held");
    store.settle(settlement(lease_of(&leased[4]), waiting(0))).await;
    store.settle(settlement(lease_of(&leased[5]), waiting(60_000))).await;
    assert_eq!(store.expired(125_000).await, [ids[4], ids[5]]);
    assert!(matches!(store.job(ids[0]).await.standing.state, State::Waiting { .. }));
}

/// A job that is moved to another time expires after that.
pub async fn a_job_that_is_moved_expires_after_its_new_time(store: Arc<dyn Store>) {
    let store = Subject(store);
    let ids = store.enqueue([expiring(100_000), expiring(0), expiring(0)]).await;
    let place = |job, due| Placement { job, queue: None, priority: None, due };
    assert_eq!(answer(store.0.place(place(ids[0], Some(at(0)))).await), Written::Yes);
    assert_eq!(answer(store.0.place(place(ids[1], Some(at(50_000)))).await), Written::Yes);
    let elsewhere = Placement { queue: Some("elsewhere".into()), ..place(ids[2], None) };
    assert_eq!(answer(store.0.place(elsewhere).await), Written::Yes);
    assert_eq!(store.expired(60_000).await, [ids[0], ids[2]]);
    store.call_off(ids[0]).await;
    store.call_off(ids[2]).await;
    assert_eq!(store.expired(109_999).await, []);
    assert_eq!(store.expired(110_000).await, [ids[1]]);
    store.call_off(ids[1]).await;
    assert_eq!(store.expired(300_000).await, []);
}

/// Many jobs are looked at some at a time, those that expired first in front, and none is left out.
pub async fn jobs_that_have_expired_are_found_some_at_a_time(store: Arc<dyn Store>) {
    let store = Subject(store);
    let mut ids = store.enqueue((0..25).map(|index| expiring(index % 2))).await;
    ids.sort();
    let mut found = Vec::new();
    for _ in 0..100 {
        let expired = answer(store.0.expired(at(90_000), 10).await);
        assert!(expired.jobs.len() <= 10);
        for job in &expired.jobs {
            store.call_off(job.call.id).await;
            found.push(job.call.id);
        }
        if !expired.more {
            break;
        }
    }
    found.sort();
    assert_eq!(found, ids);
}

/// A job that has expired and is tried again by hand has its time anew.
pub async fn a_job_that_has_expired_may_expire_again(store: Arc<dyn Store>) {
    let store = Subject(store);
    let id = store.enqueue([expiring(0)]).await[0];
    store.call_off(id).await;
    assert_eq!(store.expired(60_000).await, []);
    let hold = Hold::Seen { job: id, state: StateKind::Cancelled, attempt: 0 };
    let again = Settlement { hold, outcome: outcome(waiting(70_000)), steps: None, attempt: None, now: at(70_000) };
    store.settle(again).await;
    assert_eq!(store.expired(129_999).await, []);
    assert_eq!(store.expired(130_000).await, [id]);
}
