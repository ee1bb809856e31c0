//! Jobs that never started are moved: into another queue, to another priority, to another time.

use std::sync::Arc;

use super::harness::*;
use crate::{
    model::job::{Job, JobCall, JobId, NewJob, Standing, State, StateKind, WorkerId},
    store::{Ask, Hold, Placement, Settlement, Store, Written},
};

impl Subject {
    async fn place(&self, placement: Placement) -> Written {
        answer(self.0.place(placement).await)
    }
}

fn stays(job: JobId) -> Placement {
    Placement { job, queue: None, priority: None, due: None }
}

/// A job that is moved is leased from where it is then, as if it had been enqueued there; the rest of it stays as it was.
pub async fn a_job_that_waits_is_moved(store: Arc<dyn Store>) {
    let store = Subject(store);
    let id = store.enqueue([call()]).await[0];
    let before = store.job(id).await;
    let (queue, priority) = ("mail".to_owned(), 7);
    let moved = Placement { queue: Some(queue.clone()), priority: Some(priority), ..stays(id) };
    assert_eq!(store.place(moved).await, Written::Yes);
    let call = JobCall { queue, priority, ..before.call.clone() };
    assert_eq!(store.job(id).await, Job { call, ..before.clone() });
    assert_eq!(store.lease(ask(WorkerId::new())).await, [], "it has left its queue");
    assert_eq!(store.place(Placement { due: Some(at(500)), ..stays(id) }).await, Written::Yes);
    let in_mail = |now| Ask { queues: queues(&["mail"]), now: at(now), ..ask(WorkerId::new()) };
    let leased = store.lease_all(in_mail(499)).await;
    assert_eq!((leased.jobs, leased.next_due), (vec![], Some(at(500))));
    assert_eq!(store.place(Placement { due: Some(at(300)), ..stays(id) }).await, Written::Yes);
    let job = store.job(id).await;
    assert_eq!(job.standing, Standing::waiting(at(300)));
    assert_eq!(ids(&store.lease(in_mail(300)).await), [id]);
}

/// A job that goes among others takes its place among them by its priority and its age, also behind younger ones that ran.
pub async fn a_moved_job_takes_its_place_among_others(store: Arc<dyn Store>) {
    let store = Subject(store);
    let elsewhere = |priority| NewJob::from(JobCall { queue: "elsewhere".into(), priority, ..call().call });
    let moved = store.enqueue([elsewhere(0), elsewhere(0), elsewhere(3), NewJob { due: at(50), ..elsewhere(0) }]).await;
    let ran = store.enqueue(calls(3)).await;
    assert_eq!(ids(&store.lease(ask(WorkerId::new())).await), ran, "the queue has been worked off");
    let rest = store.enqueue(calls(2)).await;
    for (id, priority) in [(moved[0], None), (moved[1], Some(-1)), (moved[2], None), (moved[3], None)] {
        let place = Placement { queue: Some("default".into()), priority, due: Some(at(0)), ..stays(id) };
        assert_eq!(store.place(place).await, Written::Yes);
    }
    let leased = ids(&store.lease(ask(WorkerId::new())).await);
    assert_eq!(leased, [moved[2], moved[0], moved[3], rest[0], rest[1], moved[1]]);
    let elsewhere = Ask { queues: queues(&["elsewhere"]), ..ask(WorkerId::new()) };
    assert_eq!(store.lease(elsewhere).await, []);
}

/// A job that runs, has run, or has ended stays where it is, as does one that is not there.
pub async fn a_job_that_has_started_is_not_moved(store: Arc<dyn Store>) {
    let store = Subject(store);
    let place = |id| Placement { queue: Some("elsewhere".into()), priority: Some(9), due: Some(at(9_000)), job: id };
    assert_eq!(store.place(place(JobId::new())).await, Written::Fenced);
    let runs = store.running().await;
    let mut started = vec![runs.job];
    for next in [waiting(0), waiting(9_000), done(), dead(), cancelled()] {
        let lease = store.running().await;
        store.settle(settlement(lease, next)).await;
        started.push(lease.job);
    }
    let called_off = store.enqueue([call()]).await[0];
    let hold = Hold::Seen { job: called_off, state: StateKind::Waiting, attempt: 0 };
    store.settle(Settlement { hold, ..settlement(runs, cancelled()) }).await;
    started.push(called_off);
    for id in started {
        let before = store.job(id).await;
        assert_eq!(store.place(place(id)).await, Written::Fenced, "{:?}", before.standing.state);
        assert_eq!(store.job(id).await, before);
    }
}

/// When a worker leases a job while it is moved, one of the two comes first.
pub async fn a_job_is_moved_or_leased(store: Arc<dyn Store>) {
    let store = Subject(store);
    for _ in 0..20 {
        let id = store.enqueue([call()]).await[0];
        let (mover, worker) = (store.clone(), store.clone());
        let moving = async move {
            let place = Placement { queue: Some("elsewhere".into()), ..stays(id) };
            mover.place(place).await == Written::Yes
        };
        let leasing = async move { !worker.lease(ask(WorkerId::new())).await.is_empty() };
        let (moved, leased) = futures::future::join(tokio::spawn(moving), tokio::spawn(leasing)).await;
        let (moved, leased) = (moved.expect("no panic"), leased.expect("no panic"));
        assert!(moved != leased, "moved: {moved}, leased: {leased}");
        let job = store.job(id).await;
        assert_eq!(matches!(job.standing.state, State::Running { .. }), leased);
        assert_eq!(job.call.queue, if moved { "elsewhere" } else { "default" });
    }
}

/// A job that was moved may be work for those who wait for it.
pub async fn a_moved_job_is_notified(store: Arc<dyn Store>) {
    let store = Subject(store);
    let id = store.enqueue([NewJob { due: at(9_000), ..call() }]).await[0];
    let (mut work, mut changes) = (store.0.notifier().work(), store.0.notifier().job(id));
    assert_eq!(store.place(Placement { due: Some(at(0)), ..stays(id) }).await, Written::Yes);
    expect_notification(&mut work, "a job that is moved").await;
    expect_notification(&mut changes, "a job that is moved").await;
}
