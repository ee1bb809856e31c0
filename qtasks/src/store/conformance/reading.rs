//! Steps and jobs, of which there may be many, are read in pages.

use std::{sync::Arc, time::Duration};

use super::harness::*;
use crate::{
    model::{
        job::{JobCall, JobId, Lease, NewJob, Progress, Reply, StateKind, Step, Suspect, WorkerId},
        lifecycle::Outcome,
    },
    store::{Ask, Filter, Hold, Record, Settlement, Store, Suspects},
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

/// A page goes on, by id, after the last job of the page before, which may be gone by then.
pub async fn jobs_are_read_in_pages(store: Arc<dyn Store>) {
    let store = Subject(store);
    let mut jobs = calls(7);
    let ids: Vec<_> = jobs.iter().map(|job| job.call.id).collect();
    let between = ids[3];
    jobs.remove(3);
    jobs.reverse();
    store.enqueue(jobs).await;
    for (after, limit, page) in [
        (None, 3, vec![ids[0], ids[1], ids[2]]),
        (Some(ids[2]), 2, vec![ids[4], ids[5]]),
        (Some(between), 2, vec![ids[4], ids[5]]),
        (Some(ids[5]), 2, vec![ids[6]]),
        (Some(ids[6]), 2, vec![]),
        (None, 0, vec![]),
    ] {
        let read = answer(store.0.jobs(Filter::default(), after, limit).await);
        assert_eq!(self::ids(&read), page, "after {after:?}, up to {limit}");
    }
}

/// A lane is found if a job that waits in it is due; not if its jobs are due later, run, or have ended.
pub async fn lanes_with_due_jobs_are_found(store: Arc<dyn Store>) {
    let store = Subject(store);
    let in_lane = |queue: &str, task: &str, due| NewJob {
        call: JobCall { queue: queue.into(), task: task.into(), ..call().call },
        due: at(due),
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

/// Jobs are filtered by task, queue and state, alone and together; a page is full of jobs that pass.
pub async fn jobs_are_filtered(store: Arc<dyn Store>) {
    let store = Subject(store);
    for next in [None, Some(waiting(0)), Some(done()), Some(dead()), Some(cancelled())] {
        let lease = store.running().await;
        if let Some(next) = next {
            store.settle(settlement(lease, next)).await;
        }
    }
    for (queue, task) in [("a", "x"), ("a", "y"), ("b", "x"), ("b", "y")] {
        store.enqueue([NewJob::from(JobCall { queue: queue.into(), task: task.into(), ..call().call })]).await;
    }
    let all = store.jobs(Filter::default()).await;
    assert_eq!(all.len(), 9);
    for task in [None, Some("x"), Some("none"), Some("")] {
        for queue in [None, Some("a"), Some("b")] {
            for state in [None].into_iter().chain(STATES.map(Some)) {
                let filter = Filter { task: task.map(Into::into), queue: queue.map(Into::into), state };
                let passing: Vec<_> = all.iter().filter(|job| filter.passes(job)).cloned().collect();
                assert_eq!(store.jobs(filter.clone()).await, passing, "{filter:?}");
                let (head, tail) = passing.split_at(passing.len().min(1));
                let first = answer(store.0.jobs(filter.clone(), None, 1).await);
                assert_eq!(first, head, "{filter:?}");
                if let [first] = &first[..] {
                    assert_eq!(answer(store.0.jobs(filter.clone(), Some(first.call.id), 9).await), tail, "{filter:?}");
                }
            }
        }
    }
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
