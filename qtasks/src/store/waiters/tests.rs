use std::{convert::Infallible, sync::Arc};

use jiff::{SignedDuration, Timestamp};

use super::*;
use crate::{
    model::{job::JobCall, json::Json},
    store::{Notifier, Suspects},
};

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn new_job(task: &str, priority: i16) -> NewJob {
    NewJob::from(JobCall {
        id: JobId::new(),
        task: task.into(),
        queue: "default".into(),
        priority,
        args: Json::from_stored("{}"),
        max_time: None,
        enqueued: NOW,
        expires: None,
        trace: None,
        key: None,
        after: None,
    })
}

fn ask(limit: usize, tasks: &[&'static str]) -> Ask {
    let (queues, tasks) = (Arc::new(["default".to_owned()]), tasks.into());
    Ask { worker: WorkerId::new(), queues, tasks, limit, suspects: Suspects::PassOver, now: NOW }
}

type Answer = oneshot::Receiver<Vec<Job>>;

/// A worker that has caught up, and waits.
fn waiting(waiters: &mut Waiters, notifier: &Notifier, ask: Ask, free: usize) -> Answer {
    waiters.caught_up(ask.worker, notifier.work(), &Leased::default());
    asked(waiters, ask, free)
}

fn asked(waiters: &mut Waiters, ask: Ask, free: usize) -> Answer {
    let (waiter, answer) = Waiter::new(ask, Arc::new(move || free));
    waiters.extend([waiter]);
    answer
}

/// Assigns jobs; those that no worker gets are left.
fn assign(waiters: &mut Waiters, jobs: &mut Vec<NewJob>) {
    let lease = |job: NewJob, worker| Ok::<_, Infallible>(Some(job.leased_to(worker)));
    let Ok(()) = waiters.assign(jobs, lease);
}

fn priorities(mut answer: Answer) -> Vec<i16> {
    answer.try_recv().expect("it has an answer").iter().map(|job| job.call.priority).collect()
}

#[test]
fn the_first_that_waits_gets_the_most_urgent_jobs_that_it_has_room_for() {
    let (mut waiters, notifier) = (Waiters::default(), Notifier::new());
    let first = waiting(&mut waiters, &notifier, ask(2, &["t"]), 9);
    let second = waiting(&mut waiters, &notifier, ask(9, &["t"]), 1);
    let mut jobs = [0, 7, -7, 8].map(|priority| new_job("t", priority)).to_vec();
    assign(&mut waiters, &mut jobs);
    waiters.committed();
    assert_eq!((priorities(first), priorities(second)), (vec![8, 7], vec![0]));
    assert_eq!(jobs.iter().map(|job| job.call.priority).collect::<Vec<_>>(), [-7]);
}

#[test]
fn a_worker_that_waits_twice_has_one_answer_a_commit_in_order() {
    let (mut waiters, notifier, of_worker) = (Waiters::default(), Notifier::new(), ask(9, &["t"]));
    let first = waiting(&mut waiters, &notifier, of_worker.clone(), 2);
    let second = asked(&mut waiters, of_worker, 2);
    let mut jobs = [5, 4, 3, 2].map(|priority| new_job("t", priority)).to_vec();
    for answer in [first, second] {
        assign(&mut waiters, &mut jobs);
        waiters.committed();
        let priority = |job: &NewJob| job.call.priority;
        assert!(jobs.iter().map(priority).is_sorted_by(|one, next| one > next));
        assert_eq!(priorities(answer).len(), 2);
    }
    assert!(jobs.is_empty());
}

#[test]
fn a_worker_gets_jobs_of_its_tasks_that_are_due() {
    let (mut waiters, notifier) = (Waiters::default(), Notifier::new());
    let answer = waiting(&mut waiters, &notifier, ask(9, &["t"]), 9);
    let later = NewJob { due: NOW + SignedDuration::from_secs(1), ..new_job("t", 1) };
    let mut jobs = vec![later, new_job("u", 2), new_job("t", 3)];
    assign(&mut waiters, &mut jobs);
    waiters.committed();
    assert_eq!(priorities(answer), [3]);
    assert_eq!(jobs.iter().map(|job| job.call.priority).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn a_worker_that_may_have_older_jobs_to_lease_gets_no_new_ones() {
    let (mut waiters, notifier) = (Waiters::default(), Notifier::new());
    let (unknown, notified, behind) = (ask(9, &["t"]), ask(9, &["t"]), ask(9, &["t"]));
    let mut answers = vec![asked(&mut waiters, unknown, 9), waiting(&mut waiters, &notifier, notified, 9)];
    notifier.notify_work();
    let worker = behind.worker;
    answers.push(waiting(&mut waiters, &notifier, behind, 9));
    waiters.fell_behind(worker);
    assert!(!waiters.any_ready());
    assign(&mut waiters, &mut vec![new_job("t", 0)]);
    waiters.committed();
    assert!(answers.iter_mut().all(|answer| answer.try_recv().is_err()));
}

#[test]
fn a_notification_that_came_while_a_worker_leased_keeps_it_behind() {
    let (mut waiters, notifier, ask) = (Waiters::default(), Notifier::new(), ask(9, &["t"]));
    let since = notifier.work();
    notifier.notify_work();
    waiters.caught_up(ask.worker, since, &Leased::default());
    let _answer = asked(&mut waiters, ask, 9);
    assert!(!waiters.any_ready());
}

#[test]
fn a_job_that_came_due_since_comes_before_those_that_are_enqueued_then() {
    let (mut waiters, notifier, ask) = (Waiters::default(), Notifier::new(), ask(9, &["t"]));
    let at = |seconds| NOW + SignedDuration::from_secs(seconds);
    let leased = Leased { next_due: Some(at(2)), ..Leased::default() };
    waiters.caught_up(ask.worker, notifier.work(), &leased);
    let (first, _second) = (asked(&mut waiters, ask.clone(), 9), asked(&mut waiters, ask, 9));
    let enqueued = |seconds| {
        let mut job = new_job("t", 0);
        (job.call.enqueued, job.due) = (at(seconds), at(seconds));
        vec![job]
    };
    assign(&mut waiters, &mut enqueued(1));
    waiters.committed();
    assert_eq!(priorities(first), [0], "nothing else is due yet");
    let mut job = enqueued(2);
    assign(&mut waiters, &mut job);
    assert_eq!((job.len(), waiters.any_ready()), (1, false), "the worker has to look for the one that is due");
}

#[test]
fn a_commit_that_fails_leases_nothing() {
    let (mut waiters, notifier) = (Waiters::default(), Notifier::new());
    let answer = waiting(&mut waiters, &notifier, ask(9, &["t"]), 9);
    assign(&mut waiters, &mut vec![new_job("t", 1)]);
    waiters.rolled_back();
    waiters.committed();
    assign(&mut waiters, &mut vec![new_job("t", 2)]);
    waiters.committed();
    assert_eq!(priorities(answer), [2]);
}

#[test]
fn a_job_whose_id_is_known_is_not_leased() {
    let (mut waiters, notifier) = (Waiters::default(), Notifier::new());
    let answer = waiting(&mut waiters, &notifier, ask(1, &["t"]), 9);
    let known = new_job("t", 2);
    let lease = |job: NewJob, worker| {
        let is_known = job.call.id == known.call.id;
        Ok::<_, Infallible>((!is_known).then(|| job.leased_to(worker)))
    };
    let Ok(()) = waiters.assign(&mut vec![known.clone(), new_job("t", 1)], lease);
    waiters.committed();
    assert_eq!(priorities(answer), [1]);
}

#[test]
fn a_worker_that_stops_is_answered_without_jobs_and_one_that_is_gone_gets_none() {
    let (mut waiters, notifier, stopping) = (Waiters::default(), Notifier::new(), ask(9, &["t"]));
    let (worker, gone) = (stopping.worker, ask(9, &["t"]));
    let answer = waiting(&mut waiters, &notifier, stopping, 9);
    drop(waiting(&mut waiters, &notifier, gone, 9));
    waiters.remove(worker);
    assert!(priorities(answer).is_empty());
    let mut jobs = vec![new_job("t", 1)];
    assign(&mut waiters, &mut jobs);
    assert_eq!(jobs.len(), 1);
}
