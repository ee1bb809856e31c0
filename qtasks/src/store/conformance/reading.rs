//! Steps and jobs, of which there may be many, are read in pages.

use std::{sync::Arc, time::Duration};

use super::harness::*;
use crate::{
    model::{
        job::{JobCall, JobId, Lease, NewJob, Progress, Reply, StateKind, Step, Suspect, WorkerId},
        lifecycle::Outcome,
    },
    store::{Ask, Hold, Record, Settlement, Store, Suspects},
};

/// A page has the steps from a number on, as many as asked for.
pub async fn steps_are_read_in_pages(store: Arc<dyn Store>) {
    let store = Subject(store);
    let (lease, other) = (store.running().await, store.running().await);
    store.write(record(other, (0..30).map(step))).await;
    store.write(record(lease, (0..25).map(step))).await;
    for (from, limit, page) in
        [(0, 10, 0..10), (10, 10, 10..20), (20, 10, 20..25), (25, 10, 25..25), (7, 1, 7..8), (7, 0, 7..7)]
    {
        let steps = answer(store.0.steps(lease.job, from, limit).await);
        assert_eq!(steps, page.map(step).collect::<Vec<_>>(), "from {from}, up to {limit}");
    }
}

/// A lane is found if a job that waits in it is due; not if its jobs are due later, run, or have ended.
pub async fn lanes_with_due_jobs_are_found(store: Arc<dyn Store>) {
    let store = Subject(store);
    let in_lane = |queue: &str, task: &str, due| NewJob {
        call: JobCall { queue: queue.into(), task: task.into(), ..call().call },
        due: at(due),
        unique: None,
    };
    let due = async |now| {
        let lanes = answer(store.0.due_lanes(at(now)).await);
        let mut lanes: Vec<_> = lanes.into_iter().map(|lane| format!("{} {}", lane.queue, lane.task)).collect();
        lanes.sort_unstable();
        lanes
    };
    assert_eq!(due(0).await, Vec::<String>::new());
    let cancelled = store.running().await;
    store.settle(cancel(cancelled)).await;
    store.running().await;
    store
        .enqueue([in_lane("a", "x", 0), in_lane("a", "x", 1), in_lane("a", "y:z", 5_000), in_lane("b", "y:z", 0)])
        .await;
    assert_eq!(due(1).await, ["a x", "b y:z"]);
    assert_eq!(due(5_000).await, ["a x", "a y:z", "b y:z"]);
    assert_eq!(due(1).await, ["a x", "b y:z"]);
}

/// The standing and the counts are those of the job in each state. A job that is not there has none.
pub async fn how_a_job_stands_is_what_the_job_says(store: Arc<dyn Store>) {
    let store = Subject(store);
    assert_eq!(answer(store.0.standing(JobId::new()).await), None);
    let delayed = store.enqueue([NewJob { due: at(9_000), ..call() }]).await[0];
    let called_off = store.enqueue([call()]).await[0];
    let first = Hold::Seen { job: called_off, state: StateKind::Waiting, attempt: 0 };
    let never_ran = Lease { job: called_off, attempt: 0, worker: WorkerId::new() };
    store.settle(Settlement { hold: first, ..settlement(never_ran, cancelled()) }).await;
    for id in [delayed, called_off, store.running().await.job] {
        store.stands_as_it_is(id).await;
    }
    for next in [waiting(500), done(), dead(), cancelled()] {
        let suspect = Some(Suspect { survived: Duration::from_millis(7), losses: 2, ..Suspect::default() });
        let lost = store.running().await;
        store.settle(settlement_to(lost, Outcome { failures: 3, suspect, ..outcome(waiting(0)) })).await;
        store.stands_as_it_is(lost.job).await;
        let ask = Ask { suspects: Suspects::OneAlone, ..ask_for(lost.job, at(0)) };
        let lease = lease_of(&store.lease(ask).await[0]);
        store.stands_as_it_is(lost.job).await;
        let skipped = Step { reply: Reply::Skipped("no".into()), ..step(1) };
        let progress = Some(Progress { done: 1, total: 3 });
        let memos = vec![memo(0, None), memo(1, None), memo(2, None)];
        store.write(Record { memos, progress, ..record(lease, [step(0), skipped]) }).await;
        store.stands_as_it_is(lost.job).await;
        store.settle(settlement_to(lease, Outcome { failures: 4, ..outcome(next) })).await;
        store.stands_as_it_is(lost.job).await;
    }
}
