//! The counts of lanes are those of their jobs, whatever is done, in whatever order.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;

use super::harness::*;
use crate::{
    model::job::{JobCall, NewJob, StateKind, WorkerId},
    store::{Hold, JobCounts, Lane, LaneCounts, Placement, Record, Settlement, Store, Written},
};

impl Subject {
    async fn counts(&self, now: Timestamp) -> BTreeMap<Lane, LaneCounts> {
        let counts = answer(self.0.counts(now).await);
        let lanes = counts.len();
        let counts: BTreeMap<_, _> = counts.into_iter().map(|counts| (counts.lane.clone(), counts)).collect();
        assert_eq!(counts.len(), lanes, "each lane is there once");
        counts
    }

    /// Checks that the counts are those of the jobs that are there.
    async fn counts_are_right(&self, after: &str) {
        let mut expected = BTreeMap::<Lane, JobCounts>::new();
        for job in self.all_jobs().await {
            let lane = Lane { queue: job.call.queue, task: job.call.task };
            *expected.entry(lane).or_default().of_mut(job.standing.state.kind()) += 1;
        }
        let mut counts = self.counts(at(0)).await;
        counts.retain(|_, counts| counts.jobs.total() > 0);
        let counts: BTreeMap<_, _> = counts.into_iter().map(|(lane, counts)| (lane, counts.jobs)).collect();
        assert_eq!(counts, expected, "after {after}");
    }
}

fn in_lane(queue: &str, task: &str) -> NewJob {
    NewJob::from(JobCall { queue: queue.into(), task: task.into(), ..call().call })
}

/// What is enqueued, leased, settled, tried again, cancelled, moved and pruned is counted at once; what is fenced off is not.
pub async fn jobs_are_counted_in_every_state(store: Arc<dyn Store>) {
    let store = Subject(store);
    store.counts_are_right("nothing").await;
    let jobs =
        vec![in_lane("a", "x"), in_lane("a", "y"), in_lane("b", "x"), NewJob { due: at(9_000), ..in_lane("b", "x") }];
    store.enqueue(jobs.clone()).await;
    store.counts_are_right("an enqueue").await;
    store.enqueue(jobs.clone()).await;
    store.counts_are_right("the same enqueue again").await;
    for next in [waiting(0), waiting(9_000), done(), dead(), cancelled()] {
        let lease = store.running().await;
        store.counts_are_right("a lease").await;
        store.write(Record { jobs: vec![in_lane("a", "x"), jobs[0].clone()], ..record(lease, [step(0)]) }).await;
        store.counts_are_right("a record that enqueues").await;
        store.settle(settlement(lease, next)).await;
        store.counts_are_right("a settlement").await;
        assert_eq!(store.try_settle(settlement(lease, dead())).await, Written::Fenced);
        store.counts_are_right("a settlement that was fenced off").await;
    }
    // A job that is done may take a shorter way than others.
    let lease = store.running().await;
    store.settle(ended_well(lease)).await;
    store.counts_are_right("the end of an attempt").await;
    assert_eq!(store.try_settle(ended_well(lease)).await, Written::Fenced);
    store.counts_are_right("the same end again").await;
    let lease = store.running().await;
    store.settle(lost(lease, BEAT)).await;
    store.counts_are_right("a loss").await;
    let lease = store.running().await;
    store.settle(settlement(lease, dead())).await;
    let hold = seen(lease.job, StateKind::Dead);
    store.settle(Settlement { hold, ..settlement(lease, waiting(0)) }).await;
    store.counts_are_right("a dead job that is tried again").await;
    let (waits, moves) = (jobs[3].call.id, jobs[1].call.id);
    let hold = Hold::Seen { job: waits, state: StateKind::Waiting, attempt: 0 };
    store.settle(Settlement { hold, ..settlement(lease, cancelled()) }).await;
    store.counts_are_right("a waiting job that is cancelled").await;
    let placement = Placement { job: moves, queue: Some("elsewhere".into()), priority: Some(3), due: None };
    assert_eq!(answer(store.0.place(placement).await), Written::Yes);
    store.counts_are_right("a job that is moved").await;
    assert_eq!(store.note([], vec![in_lane("a", "z"), jobs[0].clone()]).await, Written::Yes);
    store.counts_are_right("jobs that come with a note").await;
    answer(store.0.prune(at(1), at(1), 2).await);
    store.counts_are_right("pruning of some").await;
    answer(store.0.prune(at(1), at(1), 1_000).await);
    store.counts_are_right("pruning of all").await;
    assert_eq!(answer(store.0.recount().await), 0, "no count was wrong");
    store.counts_are_right("counting anew").await;
}

/// Many that enqueue, lease and settle at once are counted as if they had done so one after the other.
pub async fn what_is_done_at_once_is_counted(store: Arc<dyn Store>) {
    let store = Subject(store);
    let workers = (0..8).map(|number| {
        let store = store.clone();
        async move {
            for round in 0..6 {
                store.enqueue(calls(5)).await;
                let leased = store.lease(crate::store::Ask { limit: 4, ..ask(WorkerId::new()) }).await;
                let next = |at: usize| match (at + round + number) % 4 {
                    0 => done(),
                    1 => dead(),
                    2 => waiting(0),
                    _ => cancelled(),
                };
                let settlements = leased.iter().enumerate().map(|(at, job)| settlement(lease_of(job), next(at)));
                let settlements: Vec<_> = settlements.skip(number % 2).collect();
                store.settle_all(settlements).await;
            }
        }
    });
    at_once(workers).await;
    assert_eq!(store.all_jobs().await.len(), 240);
    store.counts_are_right("what eight did at once").await;
}

/// Since when the job that is next in line is due; and when the next one will be, where none is.
pub async fn a_lane_says_since_when_its_next_job_is_due(store: Arc<dyn Store>) {
    let store = Subject(store);
    let lane = Lane { queue: "default".into(), task: "task".into() };
    let oldest_due = async |now| store.counts(at(now)).await.get(&lane).and_then(|counts| counts.oldest_due);
    assert_eq!(oldest_due(0).await, None);
    let of = |enqueued| NewJob::from(JobCall { enqueued: at(enqueued), ..call().call });
    store.enqueue([of(-500), of(-400), NewJob { due: at(700), ..call() }]).await;
    assert_eq!(oldest_due(0).await, Some(at(-500)));
    let first = store.lease(crate::store::Ask { limit: 1, ..ask(WorkerId::new()) }).await;
    assert_eq!(oldest_due(0).await, Some(at(-400)));
    let rest = store.lease(ask(WorkerId::new())).await;
    assert_eq!(oldest_due(0).await, Some(at(700)), "none is due");
    assert_eq!(oldest_due(800).await, Some(at(700)));
    store.settle(settlement(lease_of(&first[0]), waiting(300))).await;
    assert_eq!(oldest_due(0).await, Some(at(300)));
    store.settle(settlement(lease_of(&rest[0]), done())).await;
    assert_eq!(oldest_due(0).await, Some(at(300)));
}
