//! Due jobs go to one worker each, the most urgent first.

use std::{sync::Arc, time::Duration};

use super::harness::*;
use crate::{
    model::{
        job::{Job, JobCall, NewJob, Standing, State, Suspect, WorkerId},
        lifecycle::Outcome,
    },
    store::{Ask, Record, Store, Suspects},
};

/// A lease changes the state and the attempt of a job and nothing else, and gives the job as it is from then on.
pub async fn a_leased_job_runs_at_its_next_attempt(store: Arc<dyn Store>) {
    let (store, worker) = (Subject(store), WorkerId::new());
    let [id] = store.enqueue([call()]).await[..] else { unreachable!("one job gives one id") };
    let before = store.job(id).await;
    let leased = store.lease(ask(worker)).await;
    let state = State::Running { worker, due: before.call.enqueued };
    assert_eq!(leased, [Job { standing: Standing { state, attempt: 1, ..before.standing }, ..before }]);
    assert_eq!(store.job(id).await, leased[0]);
    assert_eq!(store.lease(ask(worker)).await, [], "a job that runs is not leased, not even to its own worker");
}

/// Jobs are leased by priority, the highest first; those of one priority by id, in whatever order they were enqueued.
pub async fn the_most_urgent_job_is_leased_first(store: Arc<dyn Store>) {
    let store = Subject(store);
    let priorities = [0, i16::MIN, 5, 0, i16::MAX, -1, 5, 0];
    let mut jobs: Vec<_> = priorities.map(|priority| NewJob::from(JobCall { priority, ..call().call })).into();
    let in_order = [4, 2, 6, 0, 3, 7, 5, 1].map(|index: usize| jobs[index].call.id);
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
    let jobs = [("a", "x", 0), ("b", "x", 1), ("a", "y", 1), ("b", "y", 0), ("a", "x", 1), ("b", "x", 0)];
    let jobs = jobs.map(|(queue, task, priority)| {
        NewJob::from(JobCall { queue: queue.into(), task: task.into(), priority, ..call().call })
    });
    let in_order = [1, 2, 4, 0, 3, 5].map(|index: usize| jobs[index].call.id);
    store.enqueue(jobs).await;
    // A name that is given twice changes nothing.
    let ask = Ask { queues: queues(&["b", "a", "b"]), tasks: ["y", "x", "x"].into(), ..ask(WorkerId::new()) };
    let mut leased = ids(&store.lease(Ask { limit: 4, ..ask.clone() }).await);
    leased.extend(ids(&store.lease(ask).await));
    assert_eq!(leased, in_order);
}

/// A lease gives as many jobs as there are, but never more than asked for.
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
    let late = NewJob { call: JobCall { priority: 9, ..call().call }, due: at(100), unique: None };
    let early = NewJob { due: at(50), ..call() };
    store.enqueue([late.clone(), early.clone()]).await;

    for (now, given, next_due) in [
        (at(49), vec![], Some(at(50))),
        (at(50), vec![early.call.id], Some(at(100))),
        (at(99), vec![], Some(at(100))),
        (at(100), vec![late.call.id], None),
    ] {
        let leased = store.lease_all(Ask { now, ..ask(worker) }).await;
        assert_eq!((ids(&leased.jobs), leased.next_due), (given, next_due), "at {now}");
    }
}

/// It is neither the time of a job in another queue or of another task, nor that of a job that is due already, whether that was
/// leased or still waits.
pub async fn the_next_due_time_is_that_of_a_job_the_worker_could_take(store: Arc<dyn Store>) {
    let store = Subject(store);
    assert_eq!(store.lease_all(ask(WorkerId::new())).await.next_due, None, "nothing waits in an empty store");
    store
        .enqueue([
            NewJob { call: JobCall { queue: "other".into(), ..call().call }, due: at(10), unique: None },
            NewJob { call: JobCall { task: "other".into(), ..call().call }, due: at(20), unique: None },
            NewJob { due: at(40), ..call() },
            NewJob { call: JobCall { priority: -1, ..call().call }, due: at(30), unique: None },
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
    assert_eq!(ids(&store.lease(Ask { now: at(50), ..ask(WorkerId::new()) }).await), [job.call.id]);
}

/// A worker gets jobs of the queues that it listens to, one or several, and of no other.
pub async fn jobs_of_other_queues_are_left_alone(store: Arc<dyn Store>) {
    let store = Subject(store);
    let [a, b, c] = ["a", "b", "c"].map(|queue| NewJob::from(JobCall { queue: queue.into(), ..call().call }));
    store.enqueue([a.clone(), b.clone(), c.clone()]).await;
    let of = |names: &[&str]| Ask { queues: queues(names), ..ask(WorkerId::new()) };
    assert_eq!(ids(&store.lease(of(&[])).await), []);
    assert_eq!(ids(&store.lease(of(&["d", "A", ""])).await), []);
    assert_eq!(ids(&store.lease(of(&["b"])).await), [b.call.id]);
    assert_eq!(ids(&store.lease(of(&["c", "a", "b"])).await), [a.call.id, c.call.id]);
}

/// Such jobs stay exactly as they are, however often a worker that does not know them asks, and hold up no other job.
pub async fn jobs_of_unknown_tasks_are_left_alone_at_no_cost(store: Arc<dyn Store>) {
    let store = Subject(store);
    let unknown = NewJob::from(JobCall { task: "unknown".into(), priority: 9, ..call().call });
    let known = call();
    store.enqueue([unknown.clone(), known.clone()]).await;
    let before = store.job(unknown.call.id).await;
    for given in [vec![known.call.id], vec![], vec![]] {
        assert_eq!(ids(&store.lease(Ask { limit: 1, ..ask(WorkerId::new()) }).await), given);
    }
    assert_eq!(ids(&store.lease(Ask { tasks: [].into(), ..ask(WorkerId::new()) }).await), []);
    assert_eq!(store.job(unknown.call.id).await, before);
    let other_worker = Ask { tasks: ["unknown"].into(), ..ask(WorkerId::new()) };
    assert_eq!(ids(&store.lease(other_worker).await), [unknown.call.id]);
}

/// Suspects stay as they are and hold up no other job, and the worker that asks learns that there are some.
pub async fn suspects_are_passed_over_unless_asked_for(store: Arc<dyn Store>) {
    let store = Subject(store);
    let suspect = store.suspect(9, Suspect::default()).await;
    let [other] = store.enqueue([call()]).await[..] else { unreachable!("one job gives one id") };
    let before = store.job(suspect).await;
    for (limit, given) in [(0, vec![]), (1, vec![other]), (9, vec![])] {
        let leased = store.lease_all(Ask { limit, ..ask(WorkerId::new()) }).await;
        assert_eq!((ids(&leased.jobs), leased.suspects), (given, true), "limit {limit}");
    }
    assert_eq!(store.job(suspect).await, before);
    for other in [Ask { queues: queues(&["other"]), ..ask(WorkerId::new()) }, ask_for(other, at(0))] {
        assert!(!store.lease_all(other).await.suspects, "a worker is told of those that it could take");
    }
}

/// Of suspects that have survived as long, the most urgent is leased, at the position of its priority among the other jobs.
pub async fn one_suspect_is_leased_at_a_time(store: Arc<dyn Store>) {
    let store = Subject(store);
    let mut suspects = Vec::new();
    for priority in [-1, 5, 0] {
        suspects.push(store.suspect(priority, Suspect::default()).await);
    }
    let [low, high, middle] = suspects[..] else { unreachable!("there are three") };
    let others = store
        .enqueue([
            NewJob::from(JobCall { priority: 7, ..call().call }),
            NewJob::from(JobCall { priority: 1, ..call().call }),
        ])
        .await;
    let asked = |limit| Ask { limit, suspects: Suspects::OneAlone, ..ask(WorkerId::new()) };
    for (limit, given, more_suspects) in [
        (1, vec![others[0]], true),
        (9, vec![high, others[1]], true),
        (0, vec![], true),
        (9, vec![middle], true),
        (1, vec![low], false),
        (9, vec![], false),
    ] {
        let leased = store.lease_all(asked(limit)).await;
        assert_eq!((ids(&leased.jobs), leased.suspects), (given, more_suspects), "limit {limit}");
        assert!(leased.jobs.iter().all(|job| job.standing.suspect.is_some() != others.contains(&job.call.id)));
    }
}

/// That is so whatever their priorities are, and in whichever queue they wait. Among the other jobs, the suspect's position is that
/// of its priority.
pub async fn the_suspect_that_has_survived_least_is_leased_first(store: Arc<dyn Store>) {
    let store = Subject(store);
    let survived = |milliseconds| Suspect { survived: Duration::from_millis(milliseconds), ..Suspect::default() };
    let mut suspects = Vec::new();
    for (priority, milliseconds) in [(0, 90_000), (9, 90_000), (9, 1_001), (-9, 1_000), (0, 86_400_000), (0, 0)] {
        suspects.push(store.suspect(priority, survived(milliseconds)).await);
    }
    let asked = |limit| Ask { limit, suspects: Suspects::OneAlone, ..ask(WorkerId::new()) };
    let in_order = [5, 3, 2, 1, 0, 4].map(|index: usize| suspects[index]);
    assert_eq!(ids(&store.lease(asked(9)).await), in_order[..1]);
    let urgent = store.enqueue([NewJob::from(JobCall { priority: -8, ..call().call })]).await;
    assert_eq!(ids(&store.lease(asked(1)).await), urgent, "the one that has survived least is not urgent");
    for (index, expected) in in_order[1..].iter().enumerate() {
        let leased = store.lease_all(asked(9)).await;
        assert_eq!((ids(&leased.jobs), leased.suspects), (vec![*expected], index < 4));
    }
}

/// The store keeps when it was leased, and whether it is liable from then on; that ends with a new step, or when it has had its
/// turn.
pub async fn a_suspect_is_leased_with_the_time_and_liable_as_asked(store: Arc<dyn Store>) {
    let store = Subject(store);
    let known = Suspect { survived: Duration::from_millis(7_001), losses: 3, ..Suspect::default() };
    for (suspects, liable) in [(Suspects::OneAlone, true), (Suspects::OneBesideOthers, false)] {
        let id = store.suspect(0, known).await;
        assert_eq!(store.job(id).await.standing.suspect, Some(known));
        let leased = store.lease(Ask { suspects, now: at(70), ..ask(WorkerId::new()) }).await;
        let running = Suspect { leased: Some(at(70)), liable, ..known };
        assert_eq!((leased[0].call.id, leased[0].standing.suspect), (id, Some(running)));
        assert_eq!(store.job(id).await, leased[0]);
        let lease = lease_of(&leased[0]);
        store.write(noted(lease, [memo(0, None)])).await;
        assert_eq!(store.job(id).await.standing.suspect, Some(running), "a memo says nothing");
        store.write(Record { passed: true, ..record(lease, []) }).await;
        let passed = Suspect { liable: false, ..running };
        assert_eq!(store.job(id).await.standing.suspect, Some(passed));
        store.write(record(lease, [step(0)])).await;
        assert_eq!(store.job(id).await.standing.suspect, Some(Suspect { losses: 0, ..passed }));
        store.settle(settlement(lease, done())).await;
    }
    let id = store.suspect(0, known).await;
    let leased = store.lease(Ask { suspects: Suspects::OneAlone, ..ask(WorkerId::new()) }).await;
    store.write(record(lease_of(&leased[0]), [step(0)])).await;
    let after_a_step = Suspect { losses: 0, leased: Some(at(0)), liable: false, ..known };
    assert_eq!(store.job(id).await.standing.suspect, Some(after_a_step));
    let ordinary = store.running().await;
    store.write(Record { passed: true, ..record(ordinary, []) }).await;
    assert_eq!(store.job(ordinary.job).await.standing.suspect, None, "an ordinary job has no turn");
}

/// Until then suspects count as jobs that are not due. Only those that are due are reported as waiting.
pub async fn suspects_wait_until_they_are_due(store: Arc<dyn Store>) {
    let store = Subject(store);
    let lease = store.running().await;
    store.settle(settlement_to(lease, Outcome { suspect: Some(Suspect::default()), ..outcome(waiting(100)) })).await;
    let (pass, one) = (Suspects::PassOver, Suspects::OneAlone);
    for (now, suspects, given, next_due, more_suspects) in [
        (at(99), one, vec![], Some(at(100)), false),
        (at(100), pass, vec![], None, true),
        (at(99), one, vec![], Some(at(100)), false),
        (at(100), one, vec![lease.job], None, false),
    ] {
        let leased = store.lease_all(Ask { suspects, ..ask_for(lease.job, now) }).await;
        assert_eq!((ids(&leased.jobs), leased.next_due, leased.suspects), (given, next_due, more_suspects), "at {now}");
    }
}

/// A job that one worker has leased, another does not get.
pub async fn two_workers_never_get_the_same_job(store: Arc<dyn Store>) {
    let (store, workers) = (Subject(store), [WorkerId::new(), WorkerId::new()]);
    let mut enqueued = store.enqueue(calls(20)).await;
    let mut leased = Vec::new();
    for turn in 0..10 {
        let worker = workers[turn % 2];
        let jobs = store.lease(Ask { limit: 2, ..ask(worker) }).await;
        assert!(jobs.iter().all(|job| job.standing.state.worker() == Some(worker)));
        leased.extend(ids(&jobs));
    }
    enqueued.sort();
    leased.sort();
    assert_eq!(leased, enqueued);
}

/// Many workers lease at the same time, with limits of their own, until all jobs are leased.
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
