//! The rules that every store keeps, each a test of its own.
//!
//! Whoever writes a store has it pass them all with one line, which becomes one `#[test]` for each rule. It takes an
//! async closure that makes a fresh, empty store, and with it whatever must live as long: a directory of its own, or
//! `()`. The feature `conformance` of this crate must be on.
//!
//! ```
//! mod memory {
//!     use std::sync::Arc;
//!
//!     use qtasks::store::Memory;
//!
//!     qtasks::store_conformance!(async || ((), Arc::new(Memory::new()) as _));
//! }
//! ```
//!
//! No rule sleeps: time comes in as an argument, as it does for every store. A rule panics where it is broken.

use std::{future::Future, sync::Arc, time::Duration};

use futures::future::join_all;
use jiff::Timestamp;

use super::{Ask, Filter, Hold, Leased, Listener, Record, Settlement, Store, Written};
use crate::{
    error::Result,
    job::{Attempt, Ending, Job, JobId, Lease, NewJob, Output, Progress, Reply, Shape, State, Step, WorkerId},
    json::Json,
};

/// Makes a `#[test]` of each rule of [the suite](crate::store::conformance) for the stores that an async closure gives.
#[macro_export]
macro_rules! store_conformance {
    ($make:expr) => {
        $crate::store_conformance! { $make =>
            an_enqueued_job_is_kept_as_it_was_given
            enqueueing_again_changes_nothing
            a_batch_is_seen_whole_or_not_at_all
            a_leased_job_runs_at_its_next_attempt
            the_most_urgent_job_is_leased_first
            urgency_counts_across_queues_and_tasks
            a_lease_takes_no_more_than_its_limit
            a_job_is_not_leased_before_it_is_due
            the_next_due_time_is_that_of_a_job_the_worker_could_take
            a_clock_that_goes_back_makes_jobs_wait_again
            jobs_of_other_queues_are_left_alone
            jobs_of_unknown_tasks_are_left_alone_at_no_cost
            two_workers_never_get_the_same_job
            concurrent_leases_give_each_job_once
            renewing_gives_the_leases_that_are_held
            a_renewed_lease_runs_out_after_its_time
            a_renewal_counts_for_all_leases_of_its_worker_only
            leases_of_a_worker_that_never_renewed_have_run_out
            a_lease_that_ran_out_and_was_not_taken_is_still_good
            expired_jobs_are_found_up_to_the_limit
            a_worker_that_left_holds_nothing_any_more
            recorded_steps_are_kept_in_order
            a_record_can_be_written_again
            a_gap_between_steps_is_an_error_and_writes_nothing
            records_are_answered_in_order
            progress_stays_until_it_is_said_anew
            skipped_steps_are_counted_and_never_the_last
            a_later_attempt_goes_on_where_the_steps_end
            an_attempt_that_was_retaken_can_write_no_more
            an_attempt_that_was_called_off_can_write_no_more
            an_attempt_that_was_given_back_can_write_no_more
            only_the_lease_itself_gives_the_right_to_write
            a_job_that_is_not_there_gives_nothing_and_takes_nothing
            a_settled_job_is_what_it_was_settled_to
            a_job_that_waits_again_is_leased_again_when_it_is_due
            only_an_expired_lease_is_settled_as_expired
            a_job_is_settled_only_as_it_was_seen
            a_dead_job_can_be_tried_again
            settlements_are_answered_in_order
            a_cancel_wins_or_the_job_completes
            one_of_many_takes_over_an_expired_job
            attempts_that_ended_are_kept
            a_settlement_that_is_fenced_off_leaves_no_history
            ended_jobs_are_pruned_after_their_retention
            live_jobs_are_never_pruned
            pruning_deletes_all_that_belongs_to_a_job
            pruning_keeps_to_its_limit
            steps_are_read_in_pages
            jobs_are_read_in_pages
            jobs_are_filtered
            new_work_rings
            news_of_a_job_rings
            calls_without_anything_in_them_are_fine
            limits_without_end_are_fine
            thousands_at_once_are_fine
            large_values_are_kept
            text_of_any_kind_is_kept
            numbers_at_their_ends_are_kept
            times_are_kept_to_the_millisecond
        }
    };
    ($make:expr => $($rule:ident)+) => {$(
        #[test]
        fn $rule() {
            $crate::store::conformance::check($make, $crate::store::conformance::$rule);
        }
    )+};
}

/// Runs one rule on a store that `make` gives; the other thing that it gives is dropped after the store.
///
/// # Panics
///
/// When the store breaks the rule.
pub fn check<G>(make: impl AsyncFnOnce() -> (G, Arc<dyn Store>), rule: impl AsyncFnOnce(Arc<dyn Store>)) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build();
    runtime.expect("a test may start threads").block_on(async {
        let (_guard, store) = make().await;
        rule(store).await;
    });
}

// Enqueueing

/// A job that was enqueued can be read, whole, as soon as the call returns.
pub async fn an_enqueued_job_is_kept_as_it_was_given(store: Arc<dyn Store>) {
    let store = Subject(store);
    let plain = call();
    let special = NewJob {
        task: "emails.send:v-2_".into(),
        queue: "mail".into(),
        priority: -7,
        args: json(r#"{"to":["a","b"],"n":1.50}"#),
        due: at(60_000),
        max_time: Some(Duration::from_millis(1_500)),
        enqueued: at(-5),
        ..call()
    };
    store.enqueue([plain.clone(), special.clone()]).await;
    for new in [plain, special] {
        let job = store.job(new.id).await;
        let expected = Job {
            id: new.id,
            task: new.task,
            queue: new.queue,
            priority: new.priority,
            args: new.args,
            max_time: new.max_time,
            enqueued: new.enqueued,
            state: State::Waiting { due: new.due },
            attempt: 0,
            failures: 0,
            steps: 0,
            skipped: 0,
            progress: None,
        };
        assert_eq!(job, expected);
    }
}

/// A job whose id is there already is left as it is, wherever it stands by then, and those beside it are added.
pub async fn enqueueing_again_changes_nothing(store: Arc<dyn Store>) {
    let store = Subject(store);
    let first = call();
    let other = NewJob { args: json("[2]"), priority: 9, due: at(9), ..first.clone() };
    store.enqueue([first.clone(), other.clone()]).await;
    let waiting = store.job(first.id).await;
    assert_eq!((&waiting.args, waiting.priority), (&first.args, 0), "of two jobs with one id the first counts");

    let neighbour = call();
    store.enqueue([other.clone(), neighbour.clone()]).await;
    assert_eq!(store.job(first.id).await, waiting);
    assert_eq!(store.job(neighbour.id).await.attempt, 0, "a job beside one that is known is added");

    let leased = store.lease(Ask { limit: 1, ..ask(WorkerId::new()) }).await;
    store.enqueue([other.clone()]).await;
    assert_eq!(store.job(first.id).await, leased[0], "a job that runs goes on running");

    store.settle(settlement(lease_of(&leased[0]), done())).await;
    store.enqueue([other]).await;
    assert_eq!(store.job(first.id).await.state, done(), "a job that ended stays ended");
}

/// All jobs of a call are added at once: nobody sees a part of them.
pub async fn a_batch_is_seen_whole_or_not_at_all(store: Arc<dyn Store>) {
    const BATCH: usize = 50;
    let store = Subject(store);
    let writer = tokio::spawn({
        let store = store.clone();
        async move {
            for _ in 0..20 {
                store.enqueue(calls(BATCH)).await;
            }
        }
    });
    while !writer.is_finished() {
        assert_eq!(store.jobs(Filter::default()).await.len() % BATCH, 0, "a part of a batch was seen");
        tokio::task::yield_now().await;
    }
    writer.await.expect("the writer has ended well");
    assert_eq!(store.jobs(Filter::default()).await.len(), 20 * BATCH);
}

// Leasing

/// A lease changes the state and the attempt of a job and nothing else, and gives the job as it is from then on.
pub async fn a_leased_job_runs_at_its_next_attempt(store: Arc<dyn Store>) {
    let (store, worker) = (Subject(store), WorkerId::new());
    let [id] = store.enqueue([call()]).await[..] else { unreachable!("one job gives one id") };
    let before = store.job(id).await;
    let leased = store.lease(ask(worker)).await;
    assert_eq!(leased, [Job { state: State::Running { worker }, attempt: 1, ..before }]);
    assert_eq!(store.job(id).await, leased[0]);
    assert_eq!(store.lease(ask(worker)).await, [], "a job that runs is not leased, not even to its own worker");
}

/// By priority, the highest first; jobs of one priority by id, in whatever order they were enqueued.
pub async fn the_most_urgent_job_is_leased_first(store: Arc<dyn Store>) {
    let store = Subject(store);
    let priorities = [0, i16::MIN, 5, 0, i16::MAX, -1, 5, 0];
    let mut jobs: Vec<_> = priorities.map(|priority| NewJob { priority, ..call() }).into();
    let in_order = [4, 2, 6, 0, 3, 7, 5, 1].map(|place: usize| jobs[place].id);
    jobs.reverse();
    for job in jobs {
        store.enqueue([job]).await;
    }
    let mut leased = ids(&store.lease(Ask { limit: 3, ..ask(WorkerId::new()) }).await);
    leased.extend(ids(&store.lease(Ask { limit: 1, ..ask(WorkerId::new()) }).await));
    leased.extend(ids(&store.lease(ask(WorkerId::new())).await));
    assert_eq!(leased, in_order);
}

/// A worker of several queues and tasks gets the most urgent jobs of all, not those of one after those of another.
pub async fn urgency_counts_across_queues_and_tasks(store: Arc<dyn Store>) {
    let store = Subject(store);
    let places = [("a", "x", 0), ("b", "x", 1), ("a", "y", 1), ("b", "y", 0), ("a", "x", 1), ("b", "x", 0)];
    let jobs =
        places.map(|(queue, task, priority)| NewJob { queue: queue.into(), task: task.into(), priority, ..call() });
    let in_order = [1, 2, 4, 0, 3, 5].map(|place: usize| jobs[place].id);
    store.enqueue(jobs).await;
    // A name that is given twice changes nothing.
    let ask = Ask { queues: queues(&["b", "a", "b"]), tasks: ["y", "x", "x"].into(), ..ask(WorkerId::new()) };
    let mut leased = ids(&store.lease(Ask { limit: 4, ..ask.clone() }).await);
    leased.extend(ids(&store.lease(ask).await));
    assert_eq!(leased, in_order);
}

/// As many as there are, but never more than asked for.
pub async fn a_lease_takes_no_more_than_its_limit(store: Arc<dyn Store>) {
    let store = Subject(store);
    store.enqueue(calls(5)).await;
    for (limit, given) in [(0, 0), (2, 2), (1, 1), (10, 2), (10, 0)] {
        assert_eq!(store.lease(Ask { limit, ..ask(WorkerId::new()) }).await.len(), given, "limit {limit}");
    }
}

/// A job is due from its time on, to the millisecond; an urgent one that is not due holds up no other.
pub async fn a_job_is_not_leased_before_it_is_due(store: Arc<dyn Store>) {
    let (store, worker) = (Subject(store), WorkerId::new());
    let late = NewJob { due: at(100), priority: 9, ..call() };
    let early = NewJob { due: at(50), ..call() };
    store.enqueue([late.clone(), early.clone()]).await;

    for (now, given, next_due) in [
        (at(49), vec![], Some(at(50))),
        (at(50), vec![early.id], Some(at(100))),
        (at(99), vec![], Some(at(100))),
        (at(100), vec![late.id], None),
    ] {
        let leased = store.lease_all(Ask { now, ..ask(worker) }).await;
        assert_eq!((ids(&leased.jobs), leased.next_due), (given, next_due), "at {now}");
    }
}

/// Neither that of another queue or task, nor that of a job that is due already, whether it was taken or left over.
pub async fn the_next_due_time_is_that_of_a_job_the_worker_could_take(store: Arc<dyn Store>) {
    let store = Subject(store);
    assert_eq!(store.lease_all(ask(WorkerId::new())).await.next_due, None, "nothing waits in an empty store");
    store
        .enqueue([
            NewJob { queue: "other".into(), due: at(10), ..call() },
            NewJob { task: "other".into(), due: at(20), ..call() },
            NewJob { due: at(40), ..call() },
            NewJob { due: at(30), priority: -1, ..call() },
            call(),
            call(),
        ])
        .await;
    let leased = store.lease_all(Ask { limit: 1, ..ask(WorkerId::new()) }).await;
    assert_eq!((leased.jobs.len(), leased.next_due), (1, Some(at(30))));
    let nothing = store.lease_all(Ask { limit: 0, ..ask(WorkerId::new()) }).await;
    assert_eq!((nothing.jobs.len(), nothing.next_due), (0, Some(at(30))));
    let later = store.lease_all(Ask { limit: 1, now: at(35), ..ask(WorkerId::new()) }).await;
    assert_eq!((later.jobs.len(), later.next_due), (1, Some(at(40))));
}

/// Clocks of workers differ: what is due for one need not be due for the next.
pub async fn a_clock_that_goes_back_makes_jobs_wait_again(store: Arc<dyn Store>) {
    let store = Subject(store);
    let job = NewJob { due: at(50), ..call() };
    store.enqueue([job.clone()]).await;
    store.lease(Ask { limit: 0, now: at(100), ..ask(WorkerId::new()) }).await;
    let before = store.lease_all(Ask { now: at(49), ..ask(WorkerId::new()) }).await;
    assert_eq!((before.jobs, before.next_due), (vec![], Some(at(50))));
    assert_eq!(ids(&store.lease(Ask { now: at(50), ..ask(WorkerId::new()) }).await), [job.id]);
}

/// A worker gets jobs of the queues that it listens to, one or several, and of no other.
pub async fn jobs_of_other_queues_are_left_alone(store: Arc<dyn Store>) {
    let store = Subject(store);
    let [a, b, c] = ["a", "b", "c"].map(|queue| NewJob { queue: queue.into(), ..call() });
    store.enqueue([a.clone(), b.clone(), c.clone()]).await;
    let of = |names: &[&str]| Ask { queues: queues(names), ..ask(WorkerId::new()) };
    assert_eq!(ids(&store.lease(of(&[])).await), []);
    assert_eq!(ids(&store.lease(of(&["d", "A", ""])).await), []);
    assert_eq!(ids(&store.lease(of(&["b"])).await), [b.id]);
    assert_eq!(ids(&store.lease(of(&["c", "a", "b"])).await), [a.id, c.id]);
}

/// They stay exactly as they are, however often a worker that does not know them asks, and hold up no other job.
pub async fn jobs_of_unknown_tasks_are_left_alone_at_no_cost(store: Arc<dyn Store>) {
    let store = Subject(store);
    let unknown = NewJob { task: "unknown".into(), priority: 9, ..call() };
    let known = call();
    store.enqueue([unknown.clone(), known.clone()]).await;
    let before = store.job(unknown.id).await;
    for given in [vec![known.id], vec![], vec![]] {
        assert_eq!(ids(&store.lease(Ask { limit: 1, ..ask(WorkerId::new()) }).await), given);
    }
    assert_eq!(ids(&store.lease(Ask { tasks: [].into(), ..ask(WorkerId::new()) }).await), []);
    assert_eq!(store.job(unknown.id).await, before);
    let other_worker = Ask { tasks: ["unknown"].into(), ..ask(WorkerId::new()) };
    assert_eq!(ids(&store.lease(other_worker).await), [unknown.id]);
}

/// What one worker has taken, another does not get.
pub async fn two_workers_never_get_the_same_job(store: Arc<dyn Store>) {
    let (store, workers) = (Subject(store), [WorkerId::new(), WorkerId::new()]);
    let mut enqueued = store.enqueue(calls(20)).await;
    let mut leased = Vec::new();
    for turn in 0..10 {
        let worker = workers[turn % 2];
        let jobs = store.lease(Ask { limit: 2, ..ask(worker) }).await;
        assert!(jobs.iter().all(|job| job.state == State::Running { worker }));
        leased.extend(ids(&jobs));
    }
    enqueued.sort();
    leased.sort();
    assert_eq!(leased, enqueued);
}

/// Many workers at the same time, with limits of their own, until nothing is left.
pub async fn concurrent_leases_give_each_job_once(store: Arc<dyn Store>) {
    let store = Subject(store);
    let mut enqueued = store.enqueue(calls(400)).await;
    let mut leased: Vec<_> = at_once((1..=8).map(|limit| {
        let store = store.clone();
        async move {
            let (worker, mut mine) = (WorkerId::new(), Vec::new());
            loop {
                let jobs = store.lease(Ask { limit, ..ask(worker) }).await;
                if jobs.is_empty() {
                    return mine;
                }
                mine.extend(ids(&jobs));
            }
        }
    }))
    .await
    .into_iter()
    .flatten()
    .collect();
    enqueued.sort();
    leased.sort();
    assert_eq!(leased, enqueued, "each job is leased once and none is forgotten");
}

// Leases that last

/// A renewal gives every lease of the worker, each time, until its job is settled.
pub async fn renewing_gives_the_leases_that_are_held(store: Arc<dyn Store>) {
    let (store, worker) = (Subject(store), WorkerId::new());
    assert_eq!(store.renew(worker, at(3_000)).await, []);
    store.enqueue(calls(4)).await;
    let leases: Vec<_> = store.lease(Ask { limit: 3, ..ask(worker) }).await.iter().map(lease_of).collect();
    store.lease(ask(WorkerId::new())).await;
    for until in [at(3_000), at(3_000), at(4_000)] {
        assert_eq!(sorted(store.renew(worker, until).await), leases);
    }
    store.settle(settlement(leases[0], done())).await;
    store.settle(settlement(leases[1], waiting(0))).await;
    assert_eq!(store.renew(worker, at(5_000)).await, [leases[2]]);
}

/// A lease is good up to the millisecond that the renewal named, and that one too.
pub async fn a_renewed_lease_runs_out_after_its_time(store: Arc<dyn Store>) {
    let store = Subject(store);
    let lease = store.running().await;
    for until in [at(3_000), at(3_000), at(5_000)] {
        store.renew(lease.worker, until).await;
        assert_eq!(store.expired(until).await, [], "at the time itself");
        assert_eq!(store.expired(until + Duration::from_millis(1)).await, [lease.job], "one millisecond later");
    }
}

/// One renewal keeps all leases of its worker, those taken after it too, and no lease of another.
pub async fn a_renewal_counts_for_all_leases_of_its_worker_only(store: Arc<dyn Store>) {
    let (store, alive, gone) = (Subject(store), WorkerId::new(), WorkerId::new());
    store.enqueue(calls(4)).await;
    store.renew(gone, at(1_000)).await;
    store.lease(Ask { limit: 1, ..ask(alive) }).await;
    let lost = store.lease(Ask { limit: 2, ..ask(gone) }).await;
    store.renew(alive, at(9_000)).await;
    store.lease(Ask { limit: 1, ..ask(alive) }).await;
    assert_eq!(store.expired(at(5_000)).await, ids(&lost));
}

/// A worker that nobody knows is not waited for.
pub async fn leases_of_a_worker_that_never_renewed_have_run_out(store: Arc<dyn Store>) {
    let (store, worker) = (Subject(store), WorkerId::new());
    store.enqueue([call()]).await;
    let leased = store.lease(ask(worker)).await;
    assert_eq!(store.expired(at(0)).await, ids(&leased));
    store.renew(worker, at(3_000)).await;
    assert_eq!(store.expired(at(0)).await, [], "the first renewal makes the worker known");
}

/// It records, it is renewed, and it settles: running out alone takes nothing away.
pub async fn a_lease_that_ran_out_and_was_not_taken_is_still_good(store: Arc<dyn Store>) {
    let store = Subject(store);
    let lease = store.running().await;
    assert_eq!(store.expired(at(9_000)).await, [lease.job]);
    store.write(record(lease, [step(0)])).await;
    assert_eq!(store.renew(lease.worker, at(12_000)).await, [lease]);
    assert_eq!(store.expired(at(9_000)).await, [], "a renewed lease has not run out");
    assert_eq!(store.expired(at(13_000)).await, [lease.job]);
    store.settle(settlement(lease, done())).await;
    assert_eq!(store.expired(at(13_000)).await, [], "a job that ended holds no lease");
}

/// Found is found again until it is settled, and looking changes nothing.
pub async fn expired_jobs_are_found_up_to_the_limit(store: Arc<dyn Store>) {
    let store = Subject(store);
    store.enqueue(calls(5)).await;
    let leased = store.lease(ask(WorkerId::new())).await;
    for (limit, found) in [(0, 0), (3, 3), (5, 5), (9, 5)] {
        let expired = answer(store.0.expired(at(0), limit).await);
        assert_eq!(expired.len(), found, "limit {limit}");
        assert!(expired.iter().all(|job| leased.contains(job)), "a job is given as it is");
    }
}

/// Its leases have run out at once, those of others have not, and it can come back.
pub async fn a_worker_that_left_holds_nothing_any_more(store: Arc<dyn Store>) {
    let store = Subject(store);
    let (left, stays) = (store.running().await, store.running().await);
    answer(store.0.leave(left.worker).await);
    answer(store.0.leave(left.worker).await);
    assert_eq!(store.expired(at(0)).await, [left.job]);
    assert_eq!(store.renew(left.worker, at(3_000)).await, [left]);
    assert_eq!(store.expired(at(0)).await, []);
    assert_eq!(store.renew(stays.worker, at(3_000)).await, [stays]);
    answer(store.0.leave(WorkerId::new()).await);
}

// Recording

/// Steps are appended, and read back as they were written; the job counts them.
pub async fn recorded_steps_are_kept_in_order(store: Arc<dyn Store>) {
    let store = Subject(store);
    let lease = store.running().await;
    assert_eq!(store.steps(lease.job).await, []);
    assert_eq!(answer(store.0.last_step(lease.job).await), None);
    for (steps, count) in [(0..3, 3), (3..4, 4), (4..4, 4), (4..9, 9)] {
        store.write(record(lease, steps.map(step))).await;
        assert_eq!(store.job(lease.job).await.steps, count);
        assert_eq!(answer(store.0.last_step(lease.job).await), Some(step(count - 1)));
    }
    assert_eq!(store.steps(lease.job).await, (0..9).map(step).collect::<Vec<_>>());
}

/// What is recorded already is passed over, also where it would now say something else, and the rest is appended.
pub async fn a_record_can_be_written_again(store: Arc<dyn Store>) {
    let store = Subject(store);
    let lease = store.running().await;
    let skipped = Step { reply: Reply::Skipped("no".into()), ..step(1) };
    for _ in 0..2 {
        store.write(record(lease, [step(0), skipped.clone(), step(2)])).await;
    }
    let other = Step { hash: 99, reply: Reply::Value(json("99")), ..step(1) };
    store.write(record(lease, [other, step(2), step(3)])).await;
    store.write(record(lease, [step(3), step(3), step(4), step(4)])).await;
    assert_eq!(store.steps(lease.job).await, [step(0), skipped, step(2), step(3), step(4)]);
    let job = store.job(lease.job).await;
    assert_eq!((job.steps, job.skipped), (5, 1));
}

/// Nothing of such a call is written, not even for other jobs, and the error is not one that a later try could mend.
pub async fn a_gap_between_steps_is_an_error_and_writes_nothing(store: Arc<dyn Store>) {
    let store = Subject(store);
    let (lease, other) = (store.running().await, store.running().await);
    store.write(record(lease, [step(0)])).await;
    for steps in [vec![step(2)], vec![step(1), step(3)], vec![step(2), step(1)], vec![step(u64::MAX)]] {
        let progress = Some(Progress { done: 1, total: 2 });
        let records = vec![record(other, [step(0)]), Record { progress, ..record(lease, steps.clone()) }];
        let error = store.0.record(records).await.expect_err("steps that leave a gap were taken");
        assert!(!error.is_store_trouble(), "whoever tries again after {error:?} does so for ever");
        assert_eq!(store.steps(lease.job).await, [step(0)], "after {steps:?}");
        assert_eq!(store.job(lease.job).await.progress, None);
        assert_eq!(store.steps(other.job).await, [], "a call that fails writes nothing");
    }
    store.write(record(lease, [step(1)])).await;
}

/// A record that is fenced off keeps no other from being written; two of one job go on from each other.
pub async fn records_are_answered_in_order(store: Arc<dyn Store>) {
    let store = Subject(store);
    let (first, second) = (store.running().await, store.running().await);
    let stale = Lease { attempt: 7, ..first };
    let records = vec![
        record(first, [step(0)]),
        record(stale, [step(5)]),
        record(second, [step(0), step(1)]),
        record(first, [step(1), step(2)]),
    ];
    let written = answer(store.0.record(records).await);
    assert_eq!(written, [Written::Yes, Written::Fenced, Written::Yes, Written::Yes]);
    assert_eq!(store.steps(first.job).await, [step(0), step(1), step(2)]);
    assert_eq!(store.steps(second.job).await, [step(0), step(1)]);
}

/// The latest counts, with steps or without; a record that says nothing of it leaves it, as does all that comes after.
pub async fn progress_stays_until_it_is_said_anew(store: Arc<dyn Store>) {
    let store = Subject(store);
    let lease = store.running().await;
    let at_1 = Some(Progress { done: 1, total: 10 });
    let at_0 = Some(Progress { done: 0, total: 0 });
    for (progress, steps, kept) in
        [(None, 0..0, None), (at_1, 0..0, at_1), (None, 0..1, at_1), (at_0, 0..2, at_0), (None, 0..2, at_0)]
    {
        let record = Record { progress, ..record(lease, steps.map(step)) };
        store.write(record).await;
        assert_eq!(store.job(lease.job).await.progress, kept);
    }
    store.settle(settlement(lease, done())).await;
    assert_eq!(store.job(lease.job).await.progress, at_0);
}

/// They have a number and stand among the steps; the last step is the last one with a value.
pub async fn skipped_steps_are_counted_and_never_the_last(store: Arc<dyn Store>) {
    let store = Subject(store);
    let lease = store.running().await;
    let skipped = |seq| Step { reply: Reply::Skipped(format!("no {seq}")), ..step(seq) };
    for (next, count, last) in [
        (skipped(0), 1, None),
        (skipped(1), 2, None),
        (step(2), 2, Some(step(2))),
        (skipped(3), 3, Some(step(2))),
        (skipped(4), 4, Some(step(2))),
        (step(5), 4, Some(step(5))),
    ] {
        let seq = next.seq;
        store.write(record(lease, [next])).await;
        let job = store.job(lease.job).await;
        assert_eq!((job.steps, job.skipped), (seq + 1, count));
        assert_eq!(answer(store.0.last_step(lease.job).await), last);
    }
    let steps = store.steps(lease.job).await;
    assert_eq!(steps, [skipped(0), skipped(1), step(2), skipped(3), skipped(4), step(5)]);
}

/// Steps belong to the job, not to the attempt.
pub async fn a_later_attempt_goes_on_where_the_steps_end(store: Arc<dyn Store>) {
    let store = Subject(store);
    let lease = store.running().await;
    store.write(record(lease, [step(0), step(1)])).await;
    store.settle(settlement(lease, waiting(0))).await;
    let next = store.lease(ask_for(lease.job, at(0))).await;
    assert_eq!((next[0].attempt, next[0].steps), (2, 2));
    store.write(record(lease_of(&next[0]), [step(2)])).await;
    assert_eq!(store.steps(lease.job).await, [step(0), step(1), step(2)]);
}

// Fencing

/// Once a later attempt exists, no write of an earlier one succeeds, and none leaves a trace.
pub async fn an_attempt_that_was_retaken_can_write_no_more(store: Arc<dyn Store>) {
    let store = Subject(store);
    let old = store.running().await;
    store.write(record(old, [step(0)])).await;
    let now = at(9_000);
    let lost = Settlement { hold: Hold::Expired { attempt: 1, now }, now, ..settlement(old, waiting(9_000)) };
    store.settle(lost).await;
    // The same worker may be the one that gets the job again: the attempt alone tells the two apart.
    let new = store.lease(Ask { worker: old.worker, ..ask_for(old.job, now) }).await;
    assert_eq!((new[0].id, new[0].attempt), (old.job, 2));
    store.can_not_write(old).await;
    assert_eq!(store.renew(old.worker, at(12_000)).await, [lease_of(&new[0])]);
    store.write(record(lease_of(&new[0]), [step(1)])).await;
    store.settle(settlement(lease_of(&new[0]), done())).await;
    store.can_not_write(old).await;
}

/// A job that was cancelled while it ran stays cancelled.
pub async fn an_attempt_that_was_called_off_can_write_no_more(store: Arc<dyn Store>) {
    let store = Subject(store);
    let lease = store.running().await;
    store.settle(cancel(lease)).await;
    store.can_not_write(lease).await;
    assert_eq!(store.renew(lease.worker, at(3_000)).await, [], "a renewal tells that the lease is gone");
}

/// A job that waits for its next attempt is not written by the last one, and neither is one that ended.
pub async fn an_attempt_that_was_given_back_can_write_no_more(store: Arc<dyn Store>) {
    let store = Subject(store);
    for next in [waiting(0), waiting(9_000), done(), dead(), cancelled()] {
        let lease = store.running().await;
        store.settle(settlement(lease, next)).await;
        store.can_not_write(lease).await;
    }
}

/// Neither another worker nor another attempt can write, be it an earlier or a later one.
pub async fn only_the_lease_itself_gives_the_right_to_write(store: Arc<dyn Store>) {
    let store = Subject(store);
    let lease = store.running().await;
    let other = store.running().await;
    store.can_not_write(Lease { worker: other.worker, ..lease }).await;
    store.can_not_write(Lease { worker: WorkerId::new(), ..lease }).await;
    store.can_not_write(Lease { attempt: 0, ..lease }).await;
    store.can_not_write(Lease { attempt: 2, ..lease }).await;
    store.can_not_write(Lease { job: other.job, ..lease }).await;
    store.write(record(lease, [step(0)])).await;
}

/// Reading finds nothing, and writing is fenced off; neither is an error.
pub async fn a_job_that_is_not_there_gives_nothing_and_takes_nothing(store: Arc<dyn Store>) {
    let store = Subject(store);
    let id = JobId::new();
    assert_eq!(answer(store.0.job(id).await), None);
    assert_eq!(store.steps(id).await, []);
    assert_eq!(answer(store.0.last_step(id).await), None);
    assert_eq!(store.attempts(id).await, []);
    let lease = Lease { job: id, attempt: 1, worker: WorkerId::new() };
    assert_eq!(store.try_write(record(lease, [step(0)])).await, Written::Fenced);
    assert_eq!(store.try_write(record(lease, [step(5)])).await, Written::Fenced, "gap or not");
    let holds =
        [Hold::Lease(lease), Hold::Expired { attempt: 0, now: at(0) }, Hold::Seen { state: "waiting", attempt: 0 }];
    for hold in holds {
        assert_eq!(store.try_settle(Settlement { hold, ..settlement(lease, done()) }).await, Written::Fenced);
    }
    assert_eq!(answer(store.0.job(id).await), None);
    assert_eq!(store.jobs(Filter::default()).await, []);
}

// Settling

/// State and failures are those that the settlement names; all else stays. What was settled is not settled again.
pub async fn a_settled_job_is_what_it_was_settled_to(store: Arc<dyn Store>) {
    let store = Subject(store);
    let shapes = [Shape::List, Shape::Map, Shape::Text, Shape::Count, Shape::Last, Shape::Nothing];
    let collected = shapes.map(|shape| State::Done { output: Output::Steps(shape) });
    for next in [done(), waiting(500), dead(), cancelled()].into_iter().chain(collected) {
        let lease = store.running().await;
        store.write(record(lease, [step(0)])).await;
        let before = store.job(lease.job).await;
        let settled = Settlement { failures: 3, ..settlement(lease, next.clone()) };
        store.settle(settled.clone()).await;
        assert_eq!(store.try_settle(settled).await, Written::Fenced);
        assert_eq!(store.job(lease.job).await, Job { state: next, failures: 3, ..before });
    }
}

/// It keeps its place by priority and age, and its next attempt has the next number.
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
        assert_eq!((again[0].id, again[0].attempt), (lease.job, attempt));
    }
}

/// Not one that was renewed after it was found, and not one of another attempt.
pub async fn only_an_expired_lease_is_settled_as_expired(store: Arc<dyn Store>) {
    let store = Subject(store);
    let lease = store.running().await;
    let lost = |attempt, now| Settlement { hold: Hold::Expired { attempt, now }, ..settlement(lease, waiting(0)) };
    assert_eq!(store.expired(at(3_001)).await, [lease.job]);
    store.renew(lease.worker, at(5_000)).await;
    for (attempt, now) in [(1, at(3_001)), (1, at(5_000)), (0, at(5_001)), (2, at(5_001))] {
        assert_eq!(store.try_settle(lost(attempt, now)).await, Written::Fenced, "attempt {attempt} at {now}");
    }
    assert_eq!(store.job(lease.job).await.state.name(), "running");
    store.settle(lost(1, at(5_001))).await;
    assert_eq!(store.try_settle(lost(1, at(5_001))).await, Written::Fenced, "a job that waits holds no lease");
}

/// In the same state and at the same attempt, whichever state that is.
pub async fn a_job_is_settled_only_as_it_was_seen(store: Arc<dyn Store>) {
    let store = Subject(store);
    let names = ["waiting", "running", "done", "dead", "cancelled"];
    for state in [None, Some(waiting(0)), Some(done()), Some(dead()), Some(cancelled())] {
        let lease = store.running().await;
        if let Some(state) = &state {
            store.settle(settlement(lease, state.clone())).await;
        }
        let name = state.map_or("running", |state| state.name());
        let seen =
            |state, attempt| Settlement { hold: Hold::Seen { state, attempt }, ..settlement(lease, waiting(700)) };
        let others = names.into_iter().filter(|other| *other != name).map(|other| (other, 1));
        for (other, attempt) in others.chain([(name, 0), (name, 2)]) {
            let written = store.try_settle(seen(other, attempt)).await;
            assert_eq!(written, Written::Fenced, "{name} at attempt 1 was seen as {other} at attempt {attempt}");
        }
        assert_eq!(store.try_settle(seen(name, 1)).await, Written::Yes, "{name} was seen as such");
        assert_eq!(store.job(lease.job).await.state, waiting(700));
    }
}

/// It goes on with the steps and the history that it has, at its next attempt.
pub async fn a_dead_job_can_be_tried_again(store: Arc<dyn Store>) {
    let store = Subject(store);
    let lease = store.running().await;
    store.write(record(lease, [step(0)])).await;
    let ended = attempt(lease, Ending::Failed { error: "no".into() });
    store.settle(Settlement { failures: 4, attempt: Some(ended.clone()), ..settlement(lease, dead()) }).await;
    let hold = Hold::Seen { state: "dead", attempt: 1 };
    store.settle(Settlement { hold, ..settlement(lease, waiting(10)) }).await;
    let again = store.lease(ask_for(lease.job, at(10))).await;
    assert_eq!((again[0].attempt, again[0].failures, again[0].steps), (2, 0, 1));
    assert_eq!(store.attempts(lease.job).await, [ended]);
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
    assert_eq!(store.job(first.job).await.state, cancelled());
    assert_eq!(store.job(second.job).await.state, done());
}

/// Never both, however they meet; state, answers and history agree on which.
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
        assert_eq!(store.job(lease.job).await.state, winner.next);
        assert_eq!(store.attempts(lease.job).await, winner.attempt.clone().into_iter().collect::<Vec<_>>());
    }
}

/// Workers that find the same expired job settle it once, also when its own worker does so at that moment.
pub async fn one_of_many_takes_over_an_expired_job(store: Arc<dyn Store>) {
    let store = Subject(store);
    for _ in 0..50 {
        let lease = store.running().await;
        let now = at(9_000);
        let lost = Settlement { hold: Hold::Expired { attempt: 1, now }, ..settlement(lease, waiting(9_000)) };
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
        assert_eq!(store.job(lease.job).await.attempt, 2);
    }
}

// History and the end

/// Oldest first, as they were written, through all that happens to the job.
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
    for ending in endings {
        let lease = lease_of(&store.job(id).await);
        let ended = attempt(lease, ending);
        let settled = Settlement { attempt: Some(ended.clone()), ..settlement(lease, waiting(0)) };
        store.settle(settled).await;
        kept.push(ended);
        assert_eq!(store.attempts(id).await, kept);
        store.lease(ask_for(id, at(0))).await;
    }
    let lease = lease_of(&store.job(id).await);
    store.settle(settlement(lease, done())).await;
    assert_eq!(store.attempts(id).await, kept, "a settlement without an attempt adds none");
}

/// Only what happened is history.
pub async fn a_settlement_that_is_fenced_off_leaves_no_history(store: Arc<dyn Store>) {
    let store = Subject(store);
    let lease = store.running().await;
    let stale = Lease { attempt: 2, ..lease };
    let lost = Some(attempt(lease, Ending::Lost));
    for hold in
        [Hold::Lease(stale), Hold::Expired { attempt: 1, now: at(3_000) }, Hold::Seen { state: "waiting", attempt: 1 }]
    {
        let settlement = Settlement { hold, attempt: lost.clone(), ..settlement(lease, dead()) };
        assert_eq!(store.try_settle(settlement).await, Written::Fenced);
    }
    assert_eq!(store.attempts(lease.job).await, []);
}

/// Dead jobs after theirs and all others after another, counted from their end, which is not when they were enqueued.
pub async fn ended_jobs_are_pruned_after_their_retention(store: Arc<dyn Store>) {
    let store = Subject(store);
    let mut ended = Vec::new();
    for (next, now) in [(done(), 100), (cancelled(), 200), (dead(), 100), (dead(), 200), (done(), 300)] {
        let lease = store.running().await;
        store.settle(Settlement { now: at(now), ..settlement(lease, next) }).await;
        ended.push(lease.job);
    }
    let mut left = ended.clone();
    for (finished, dead, gone) in [
        (at(100), at(100), vec![]),
        (at(0), at(101), vec![ended[2]]),
        (at(101), at(0), vec![ended[0]]),
        (at(300), at(200), vec![ended[1]]),
        (at(300), at(201), vec![ended[3]]),
        (at(301), at(201), vec![ended[4]]),
    ] {
        assert_eq!(answer(store.0.prune(finished, dead, 10).await), gone.len(), "{finished} and {dead}");
        left.retain(|id| !gone.contains(id));
        assert_eq!(ids(&store.jobs(Filter::default()).await), left);
    }
}

/// Neither one that waits nor one that runs, however old, lost or late.
pub async fn live_jobs_are_never_pruned(store: Arc<dyn Store>) {
    let store = Subject(store);
    store.running().await;
    let given_back = store.running().await;
    store.settle(settlement(given_back, waiting(0))).await;
    store.enqueue([NewJob { due: Timestamp::MIN, enqueued: Timestamp::MIN, ..call() }]).await;
    assert_eq!(answer(store.0.prune(Timestamp::MAX, Timestamp::MAX, 10).await), 0);
    assert_eq!(store.jobs(Filter::default()).await.len(), 3);
}

/// Its steps and its history go with it: a job that is enqueued under the same id begins anew.
pub async fn pruning_deletes_all_that_belongs_to_a_job(store: Arc<dyn Store>) {
    let store = Subject(store);
    let (gone, stays) = (store.running().await, store.running().await);
    for lease in [gone, stays] {
        store.write(record(lease, [step(0), step(1)])).await;
    }
    store.settle(Settlement { attempt: Some(attempt(gone, Ending::Done)), ..settlement(gone, done()) }).await;
    assert_eq!(answer(store.0.prune(Timestamp::MAX, Timestamp::MIN, 10).await), 1);
    assert_eq!(answer(store.0.job(gone.job).await), None);
    let new = NewJob { id: gone.job, ..call() };
    for _ in 0..2 {
        assert_eq!(store.steps(gone.job).await, []);
        assert_eq!(store.attempts(gone.job).await, []);
        assert_eq!(answer(store.0.last_step(gone.job).await), None);
        store.enqueue([new.clone()]).await;
    }
    let job = store.job(gone.job).await;
    assert_eq!((job.attempt, job.steps, job.state), (0, 0, waiting(0)));
    assert_eq!(store.steps(stays.job).await, [step(0), step(1)]);
}

/// Dead and other jobs together, and as often as there is something left.
pub async fn pruning_keeps_to_its_limit(store: Arc<dyn Store>) {
    let store = Subject(store);
    for next in [done(), dead(), done(), dead(), cancelled()] {
        let lease = store.running().await;
        store.settle(settlement(lease, next)).await;
    }
    for (limit, pruned, left) in [(0, 0, 5), (3, 3, 2), (3, 2, 0), (3, 0, 0)] {
        assert_eq!(answer(store.0.prune(at(1), at(1), limit).await), pruned);
        assert_eq!(store.jobs(Filter::default()).await.len(), left);
    }
}

// Reading

/// From a number on, as many as asked for.
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

/// By id, from after the last one of the page before, which may be gone by then.
pub async fn jobs_are_read_in_pages(store: Arc<dyn Store>) {
    let store = Subject(store);
    let mut jobs = calls(7);
    let ids: Vec<_> = jobs.iter().map(|job| job.id).collect();
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

/// By task, queue and state, alone and together; a page is full of what passes.
pub async fn jobs_are_filtered(store: Arc<dyn Store>) {
    let store = Subject(store);
    for next in [None, Some(waiting(0)), Some(done()), Some(dead()), Some(cancelled())] {
        let lease = store.running().await;
        if let Some(next) = next {
            store.settle(settlement(lease, next)).await;
        }
    }
    for (queue, task) in [("a", "x"), ("a", "y"), ("b", "x"), ("b", "y")] {
        store.enqueue([NewJob { queue: queue.into(), task: task.into(), ..call() }]).await;
    }
    let all = store.jobs(Filter::default()).await;
    assert_eq!(all.len(), 9);
    for task in [None, Some("x"), Some("none"), Some("")] {
        for queue in [None, Some("a"), Some("b")] {
            for state in [None, Some("waiting"), Some("running"), Some("done"), Some("dead"), Some("cancelled")] {
                let filter = Filter { task: task.map(Into::into), queue: queue.map(Into::into), state };
                let passing: Vec<_> = all.iter().filter(|job| filter.passes(job)).cloned().collect();
                assert_eq!(store.jobs(filter.clone()).await, passing, "{filter:?}");
                let (head, tail) = passing.split_at(passing.len().min(1));
                let first = answer(store.0.jobs(filter.clone(), None, 1).await);
                assert_eq!(first, head, "{filter:?}");
                if let [first] = &first[..] {
                    assert_eq!(answer(store.0.jobs(filter.clone(), Some(first.id), 9).await), tail, "{filter:?}");
                }
            }
        }
    }
}

// The bell

/// After an enqueue, for later too since it tells when to look again, and when a job comes to wait once more.
pub async fn new_work_rings(store: Arc<dyn Store>) {
    let store = Subject(store);
    let mut work = store.0.bell().work();
    store.enqueue([call()]).await;
    hear(&mut work, "an enqueue").await;
    store.enqueue([NewJob { due: at(9_000), ..call() }]).await;
    hear(&mut work, "an enqueue for later").await;
    let lease = store.running().await;
    let mut work = store.0.bell().work();
    store.settle(settlement(lease, waiting(0))).await;
    hear(&mut work, "a job that waits again").await;
}

/// Steps, progress, and each settlement.
pub async fn news_of_a_job_rings(store: Arc<dyn Store>) {
    let store = Subject(store);
    let lease = store.running().await;
    let mut news = store.0.bell().job(lease.job);
    store.write(record(lease, [step(0)])).await;
    hear(&mut news, "a step").await;
    let progress = Some(Progress { done: 1, total: 2 });
    store.write(Record { progress, ..record(lease, []) }).await;
    hear(&mut news, "progress").await;
    store.settle(settlement(lease, waiting(0))).await;
    hear(&mut news, "a job that waits again").await;
    let hold = Hold::Seen { state: "waiting", attempt: 1 };
    store.settle(Settlement { hold, ..settlement(lease, cancelled()) }).await;
    hear(&mut news, "a cancelled job").await;
}

// Extremes

/// They do nothing and answer so; a record without steps tells whether the lease holds.
pub async fn calls_without_anything_in_them_are_fine(store: Arc<dyn Store>) {
    let store = Subject(store);
    store.enqueue([]).await;
    assert_eq!(store.settle_all([]).await, []);
    assert_eq!(answer(store.0.record(vec![]).await), []);
    assert_eq!(store.jobs(Filter::default()).await, []);
    assert_eq!(store.expired(at(0)).await, []);
    assert_eq!(answer(store.0.prune(at(0), at(0), 10).await), 0);
    let lease = store.running().await;
    store.write(record(lease, [])).await;
    assert_eq!(store.try_write(record(Lease { attempt: 2, ..lease }, [])).await, Written::Fenced);
}

/// The largest limit, and numbers past every end.
pub async fn limits_without_end_are_fine(store: Arc<dyn Store>) {
    const ALL: usize = usize::MAX;
    let store = Subject(store);
    store.enqueue(calls(2)).await;
    let leased = store.lease(Ask { limit: ALL, ..ask(WorkerId::new()) }).await;
    assert_eq!(leased.len(), 2);
    let lease = lease_of(&leased[0]);
    store.write(record(lease, [step(0), step(1)])).await;
    assert_eq!(answer(store.0.steps(lease.job, 1, ALL).await), [step(1)]);
    for past in [2, 1 << 63, u64::MAX] {
        assert_eq!(answer(store.0.steps(lease.job, past, ALL).await), []);
    }
    assert_eq!(answer(store.0.jobs(Filter::default(), None, ALL).await).len(), 2);
    assert_eq!(answer(store.0.expired(at(0), ALL).await).len(), 2);
    store.settle(settlement(lease, done())).await;
    assert_eq!(answer(store.0.prune(at(1), at(1), ALL).await), 1);
}

/// More in one call than what a database takes as parameters of one statement.
pub async fn thousands_at_once_are_fine(store: Arc<dyn Store>) {
    const MANY: usize = 3_000;
    let (store, worker) = (Subject(store), WorkerId::new());
    store.enqueue(calls(MANY)).await;
    let leased = store.lease(Ask { limit: MANY, ..ask(worker) }).await;
    assert_eq!(leased.len(), MANY);
    let leases: Vec<_> = leased.iter().map(lease_of).collect();
    assert_eq!(store.renew(worker, at(3_000)).await.len(), MANY);
    let records: Vec<_> = leases.iter().map(|lease| record(*lease, [step(0), step(1)])).collect();
    assert_eq!(answer(store.0.record(records).await), [Written::Yes; MANY]);
    let settlements = leases
        .iter()
        .map(|lease| Settlement { attempt: Some(attempt(*lease, Ending::Done)), ..settlement(*lease, done()) });
    assert_eq!(store.settle_all(settlements).await, [Written::Yes; MANY]);
    let queues: Vec<_> = (0..300).map(|number| format!("q{number}")).chain(["default".into()]).collect();
    assert_eq!(ids(&store.lease(Ask { queues: queues.into(), ..ask(worker) }).await), []);
    assert_eq!(answer(store.0.prune(at(1), at(1), MANY).await), MANY);
}

/// A megabyte in each place, and a little more.
pub async fn large_values_are_kept(store: Arc<dyn Store>) {
    let store = Subject(store);
    let large = Json::encode(&"x".repeat(1 << 20)).expect("a string has a JSON form");
    let text = "y".repeat(1 << 20);
    store.enqueue([NewJob { args: large.clone(), ..call() }]).await;
    let leased = store.lease(ask(WorkerId::new())).await;
    assert_eq!(leased[0].args, large);
    let lease = lease_of(&leased[0]);
    let steps = [
        Step { reply: Reply::Value(large.clone()), ..step(0) },
        Step { reply: Reply::Skipped(text.clone()), ..step(1) },
    ];
    store.write(record(lease, steps.clone())).await;
    assert_eq!(store.steps(lease.job).await, steps);
    let failed = attempt(lease, Ending::Failed { error: text.clone() });
    let next = State::Done { output: Output::Value(large) };
    store.settle(Settlement { attempt: Some(failed.clone()), ..settlement(lease, next.clone()) }).await;
    assert_eq!(store.job(lease.job).await.state, next);
    assert_eq!(store.attempts(lease.job).await, [failed]);
    let lease = store.running().await;
    store.settle(settlement(lease, State::Dead { error: text.clone() })).await;
    assert_eq!(store.job(lease.job).await.state, State::Dead { error: text });
}

/// Every character, NUL too; and JSON to the letter, with its spaces, digits and order of keys.
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
        for (state, next) in
            [("running", State::Dead { error: text.clone() }), ("dead", State::Cancelled { reason: text.clone() })]
        {
            let hold = Hold::Seen { state, attempt: 1 };
            let failed = attempt(lease, Ending::Failed { error: text.clone() });
            let attempt = (state == "running").then_some(failed);
            store.settle(Settlement { hold, attempt, ..settlement(lease, next.clone()) }).await;
            assert_eq!(store.job(lease.job).await.state, next);
        }
        assert_eq!(store.attempts(lease.job).await, [attempt(lease, Ending::Failed { error: text })]);
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
        let job = NewJob { args: value.clone(), ..call() };
        store.enqueue([job.clone()]).await;
        let leased = store.lease(ask(WorkerId::new())).await;
        assert_eq!(leased[0].args, value);
        let lease = lease_of(&leased[0]);
        let replied = Step { reply: Reply::Value(value.clone()), ..step(0) };
        store.write(record(lease, [replied.clone()])).await;
        assert_eq!(store.steps(job.id).await, [replied]);
        let next = State::Done { output: Output::Value(value) };
        store.settle(settlement(lease, next.clone())).await;
        assert_eq!(store.job(job.id).await.state, next);
    }
}

/// The least and the largest of each type, as where a database has no unsigned numbers.
pub async fn numbers_at_their_ends_are_kept(store: Arc<dyn Store>) {
    let store = Subject(store);
    for number in [0, 1, i64::MAX as u64, 1 << 63, u64::MAX] {
        let lease = store.running().await;
        let hashed = Step { hash: number, ..step(0) };
        let progress = Some(Progress { done: number, total: number });
        let record = Record { progress, ..record(lease, [hashed.clone()]) };
        store.write(record).await;
        assert_eq!(store.steps(lease.job).await, [hashed]);
        assert_eq!(store.job(lease.job).await.progress, progress);
    }
    for number in [0, 1, i32::MAX as u32, 1 << 31, u32::MAX] {
        let lease = store.running().await;
        let numbered = Attempt { number, ..attempt(lease, Ending::Done) };
        let attempt = Some(numbered.clone());
        store.settle(Settlement { failures: number, attempt, ..settlement(lease, waiting(0)) }).await;
        assert_eq!(store.job(lease.job).await.failures, number);
        assert_eq!(store.attempts(lease.job).await, [numbered]);
    }
    for priority in [i16::MIN, -1, 0, 1, i16::MAX] {
        let [id] = store.enqueue([NewJob { priority, ..call() }]).await[..] else { unreachable!("one job, one id") };
        assert_eq!(store.job(id).await.priority, priority);
    }
    let century = Duration::from_secs(100 * 365 * 24 * 3_600);
    for (max_time, at_least) in [(Duration::ZERO, Duration::ZERO), (century, century), (Duration::MAX, century)] {
        let new = NewJob { max_time: Some(max_time), ..call() };
        store.enqueue([new.clone()]).await;
        let kept = store.job(new.id).await.max_time.expect("a job keeps its time limit");
        assert!(kept >= at_least && kept <= max_time, "{max_time:?} became {kept:?}");
    }
}

/// From the first moment to the last, before 1970 too; what is finer than a millisecond may be lost.
pub async fn times_are_kept_to_the_millisecond(store: Arc<dyn Store>) {
    let store = Subject(store);
    let old = Timestamp::UNIX_EPOCH - Duration::from_millis(1_001);
    let fine = at(123) + Duration::from_nanos(456_789);
    for time in [Timestamp::MIN, old, fine, Timestamp::MAX] {
        let kept = |times: &[Timestamp]| times.iter().all(|kept| kept.as_millisecond() == time.as_millisecond());
        let new = NewJob { due: time, enqueued: time, ..call() };
        store.enqueue([new.clone()]).await;
        let job = store.job(new.id).await;
        let State::Waiting { due } = job.state else { panic!("a job that was enqueued waits") };
        assert!(kept(&[due, job.enqueued]), "{time} became {due} and {}", job.enqueued);
        let leased = store.lease(Ask { now: time, ..ask(WorkerId::new()) }).await;
        assert_eq!(ids(&leased), [new.id], "a job due at {time} is due then");

        let lease = lease_of(&leased[0]);
        store.renew(lease.worker, time).await;
        assert_eq!(store.expired(time).await, [], "a lease until {time} is good then");
        let ended = Attempt { started: Some(time), ended: time, ..attempt(lease, Ending::Done) };
        let next = State::Waiting { due: time };
        store.settle(Settlement { attempt: Some(ended), ..settlement(lease, next) }).await;
        let first = Ask { now: Timestamp::MIN, limit: 0, ..ask(WorkerId::new()) };
        let next_due = store.lease_all(first).await.next_due.map(Timestamp::as_millisecond);
        assert_eq!(next_due, (time > Timestamp::MIN).then(|| time.as_millisecond()));
        let attempts = store.attempts(new.id).await;
        assert!(kept(&[attempts[0].started.unwrap_or_default(), attempts[0].ended]), "{time} became {attempts:?}");

        let hold = Hold::Seen { state: "waiting", attempt: 1 };
        store.settle(Settlement { hold, now: time, ..settlement(lease, dead()) }).await;
    }
    assert_eq!(store.expired(Timestamp::MAX).await, []);
    for (before, pruned) in [(Timestamp::MIN, 0), (old, 1), (fine, 1), (Timestamp::MAX, 1)] {
        assert_eq!(answer(store.0.prune(Timestamp::MAX, before, 10).await), pruned, "before {before}");
    }
}

/// The store under test; a call of it that fails breaks the rule.
#[derive(Clone)]
struct Subject(Arc<dyn Store>);

fn answer<T>(result: Result<T>) -> T {
    result.unwrap_or_else(|error| panic!("the store answers with an error: {error:?}"))
}

impl Subject {
    async fn enqueue(&self, jobs: impl IntoIterator<Item = NewJob>) -> Vec<JobId> {
        let jobs: Vec<_> = jobs.into_iter().collect();
        let ids = jobs.iter().map(|job| job.id).collect();
        answer(self.0.enqueue(jobs).await);
        ids
    }

    async fn lease_all(&self, ask: Ask) -> Leased {
        answer(self.0.lease(ask).await)
    }

    async fn lease(&self, ask: Ask) -> Vec<Job> {
        self.lease_all(ask).await.jobs
    }

    /// A lease of a job in a queue of its own, by a worker of its own, until 3 s from the beginning.
    async fn running(&self) -> Lease {
        let id = JobId::new();
        let ask = ask_for(id, at(0));
        self.enqueue([NewJob { id, queue: id.to_string(), ..call() }]).await;
        self.renew(ask.worker, at(3_000)).await;
        let leased = self.lease(ask).await;
        assert_eq!(ids(&leased), [id], "a job that is due is leased to who asks for it");
        lease_of(&leased[0])
    }

    async fn renew(&self, worker: WorkerId, until: Timestamp) -> Vec<Lease> {
        answer(self.0.renew(worker, until).await)
    }

    async fn expired(&self, now: Timestamp) -> Vec<JobId> {
        let mut expired = ids(&answer(self.0.expired(now, 100).await));
        expired.sort();
        expired
    }

    async fn try_write(&self, record: Record) -> Written {
        let [written] = answer(self.0.record(vec![record]).await)[..] else { panic!("a record gets one answer") };
        written
    }

    async fn write(&self, record: Record) {
        assert_eq!(self.try_write(record).await, Written::Yes, "a record under a lease that holds is written");
    }

    async fn settle_all(&self, settlements: impl IntoIterator<Item = Settlement>) -> Vec<Written> {
        answer(self.0.settle(settlements.into_iter().collect()).await)
    }

    async fn try_settle(&self, settlement: Settlement) -> Written {
        let [written] = self.settle_all([settlement]).await[..] else { panic!("a settlement gets one answer") };
        written
    }

    async fn settle(&self, settlement: Settlement) {
        assert_eq!(self.try_settle(settlement).await, Written::Yes, "a settlement whose hold holds is written");
    }

    async fn job(&self, id: JobId) -> Job {
        answer(self.0.job(id).await).unwrap_or_else(|| panic!("job {id} is not there"))
    }

    async fn jobs(&self, filter: Filter) -> Vec<Job> {
        answer(self.0.jobs(filter, None, 10_000).await)
    }

    async fn steps(&self, id: JobId) -> Vec<Step> {
        answer(self.0.steps(id, 0, 10_000).await)
    }

    async fn attempts(&self, id: JobId) -> Vec<Attempt> {
        answer(self.0.attempts(id).await)
    }

    /// Has every write under `lease` tried, and finds the job as it was.
    async fn can_not_write(&self, lease: Lease) {
        let before = (self.job(lease.job).await, self.steps(lease.job).await, self.attempts(lease.job).await);
        let progress = Some(Progress { done: 77, total: 77 });
        let record = Record { progress, ..record(lease, [step(before.0.steps)]) };
        assert_eq!(self.try_write(record).await, Written::Fenced, "{lease:?} has recorded");
        for next in [done(), waiting(0), cancelled()] {
            let attempt = Some(attempt(lease, Ending::Done));
            let settlement = Settlement { failures: 77, attempt, ..settlement(lease, next) };
            assert_eq!(self.try_settle(settlement).await, Written::Fenced, "{lease:?} has settled");
        }
        let after = (self.job(lease.job).await, self.steps(lease.job).await, self.attempts(lease.job).await);
        assert_eq!(after, before, "{lease:?} has left a trace");
    }
}

async fn hear(listener: &mut Listener, what: &str) {
    // The time is there only to fail rather than to hang.
    let heard = tokio::time::timeout(Duration::from_secs(30), listener.heard()).await;
    heard.unwrap_or_else(|_| panic!("{what} rings"));
}

/// Runs all of them on threads of their own and gives what they gave, in order.
async fn at_once<T: Send + 'static>(futures: impl IntoIterator<Item: Future<Output = T> + Send + 'static>) -> Vec<T> {
    let running: Vec<_> = futures.into_iter().map(tokio::spawn).collect();
    join_all(running).await.into_iter().map(|ended| ended.expect("a call of the store does not panic")).collect()
}

/// So many milliseconds from the beginning of the test.
fn at(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(1_700_000_000_000 + milliseconds).expect("tests last no centuries")
}

fn json(text: &str) -> Json {
    Json::from_stored(text)
}

fn call() -> NewJob {
    NewJob {
        id: JobId::new(),
        task: "task".into(),
        queue: "default".into(),
        priority: 0,
        args: json("{}"),
        due: at(0),
        max_time: None,
        enqueued: at(0),
    }
}

fn calls(count: usize) -> Vec<NewJob> {
    (0..count).map(|_| call()).collect()
}

fn ask(worker: WorkerId) -> Ask {
    Ask { worker, queues: queues(&["default"]), tasks: ["task"].into(), limit: 1_000, now: at(0) }
}

/// What a new worker asks for to get the job that [`Subject::running`] made.
fn ask_for(job: JobId, now: Timestamp) -> Ask {
    Ask { queues: queues(&[&job.to_string()]), now, ..ask(WorkerId::new()) }
}

fn queues(names: &[&str]) -> Arc<[String]> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn step(seq: u64) -> Step {
    Step { seq, hash: seq.wrapping_mul(u64::MAX / 3), reply: Reply::Value(json(&format!("{{\"n\":{seq}}}"))) }
}

fn record(lease: Lease, steps: impl IntoIterator<Item = Step>) -> Record {
    Record { lease, steps: steps.into_iter().collect(), progress: None }
}

fn settlement(lease: Lease, next: State) -> Settlement {
    Settlement { job: lease.job, hold: Hold::Lease(lease), next, failures: 0, attempt: None, now: at(0) }
}

fn cancel(lease: Lease) -> Settlement {
    let hold = Hold::Seen { state: "running", attempt: lease.attempt };
    let ended = attempt(lease, Ending::Cancelled { reason: "enough".into() });
    Settlement { hold, attempt: Some(ended), ..settlement(lease, cancelled()) }
}

fn attempt(lease: Lease, ending: Ending) -> Attempt {
    Attempt { number: lease.attempt, worker: lease.worker, started: Some(at(1)), ended: at(2), ending }
}

fn waiting(milliseconds: i64) -> State {
    State::Waiting { due: at(milliseconds) }
}

fn done() -> State {
    State::Done { output: Output::Value(json("1")) }
}

fn dead() -> State {
    State::Dead { error: "no".into() }
}

fn cancelled() -> State {
    State::Cancelled { reason: "enough".into() }
}

fn ids(jobs: &[Job]) -> Vec<JobId> {
    jobs.iter().map(|job| job.id).collect()
}

fn sorted(mut leases: Vec<Lease>) -> Vec<Lease> {
    leases.sort_by_key(|lease| lease.job);
    leases
}

fn lease_of(job: &Job) -> Lease {
    let State::Running { worker } = job.state else { panic!("job {} is {}, not running", job.id, job.state.name()) };
    Lease { job: job.id, attempt: job.attempt, worker }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_macro_names_every_rule() {
        let source = include_str!("conformance.rs");
        let rules: Vec<_> = source.split("\npub async fn ").skip(1).filter_map(|rest| rest.split('(').next()).collect();
        let (_, list) = source.split_once("$make =>\n").unwrap();
        let (list, _) = list.split_once('}').unwrap();
        assert_eq!(list.split_whitespace().collect::<Vec<_>>(), rules);
    }
}
