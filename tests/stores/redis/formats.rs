//! Stores as older programs have left them, or an operator: written by raw commands.

use std::time::Duration;

use jiff::Timestamp;
use qtasks::{
    job::{Attempt, Ending, Lease, NextState, Reply, State, StateKind, Step, Suspect, WorkerId},
    json::Json,
    lifecycle::Outcome,
    prelude::*,
    store::{Ask, Budget, Find, Hold, LaneCounts, Presence, Record, Settlement, Written},
};
use qtasks_tests::{servers::redis, whole};

use crate::{
    ask, new_job,
    old::{Old, OldStanding, WORKER, WithJobs, attempt, old_job, stands, time},
    open, settlement,
};

#[tokio::test]
#[cfg_attr(missing = "redis", ignore = "redis-server is not installed")]
async fn jobs_of_older_formats_are_found_as_they_were() {
    for format in [b"2", b"3"] {
        jobs_are_found_as_they_were(WithJobs::of_format(format)).await;
    }
}

async fn jobs_are_found_as_they_were(with_jobs: WithJobs) {
    let (url, expected) = (with_jobs.old.url(), with_jobs.jobs());
    // Whether one program opens it or another comes after it.
    for _ in 0..2 {
        let store = open(&url).await;
        assert_eq!(store.find(Find::default().oldest_first(), None, Budget::jobs(99)).await.unwrap().jobs, expected);
        let silent = Presence { worker: WORKER, beat: None, holds: true, gone: false };
        assert_eq!(store.workers().await.unwrap(), [silent]);
        assert_eq!(with_jobs.old.server.tell("GET {old}:format").unwrap(), "5");
        let counts = store.counts(time(7)).await.unwrap();
        let [LaneCounts { jobs, oldest_due, .. }] = &counts[..] else { panic!("there is one lane: {counts:?}") };
        let counted = [jobs.waiting, jobs.running, jobs.done, jobs.dead, jobs.cancelled];
        assert_eq!((counted, *oldest_due), ([7, 2, 1, 1, 1], Some(time(7))));
    }
    let store = open(&url).await;
    assert_eq!(store.recount().await.unwrap(), 0);
    let dead = store.find(Find::default().state(StateKind::Dead), None, Budget::PAGE).await.unwrap();
    assert_eq!((dead.looked, dead.jobs), (1, vec![expected[11].clone()]));
    assert_eq!(store.steps(with_jobs.runs, 0, 9).await.unwrap().len(), 1);
    let (started, ended) = (Some(time(10)), time(20));
    let attempt = Attempt { number: 1, worker: WORKER, started, ended, ending: Ending::Done, steps: Some(0) };
    assert_eq!(store.attempts(with_jobs.done).await.unwrap(), [attempt]);
    assert_eq!(store.attempts(with_jobs.dead).await.unwrap().len(), 1);
    let mut held = store.held(WORKER, 9).await.unwrap();
    held.sort_by_key(|job| job.call.id);
    assert_eq!(held, expected[1..3]);
}

#[tokio::test]
#[cfg_attr(missing = "redis", ignore = "redis-server is not installed")]
async fn jobs_of_older_formats_go_on() {
    for format in [b"2", b"3"] {
        jobs_go_on(WithJobs::of_format(format)).await;
    }
}

async fn jobs_go_on(with_jobs: WithJobs) {
    let store = open(&with_jobs.old.url()).await;
    let mut held = store.held(WORKER, 9).await.unwrap();
    held.sort_by_key(|job| job.call.id);
    let lost = held.iter().zip([0, 1]).map(|(job, survived)| Settlement {
        hold: Hold::Silent { lease: job.lease().unwrap(), beat: None },
        outcome: Outcome {
            next: NextState::Waiting { due: time(8) },
            failures: 0,
            suspect: Some(Suspect { survived: Duration::from_millis(survived), losses: 1, ..Suspect::default() }),
        },
        steps: None,
        attempt: None,
        now: time(8),
    });
    assert_eq!(store.settle(lost.collect()).await.unwrap(), [Written::Yes; 2]);
    let mut leased = Vec::new();
    for _ in 0..8 {
        let given = store.lease(Ask { now: time(900), ..ask() }).await.unwrap().jobs;
        leased.extend(given.iter().map(|job| job.call.id));
    }
    let WithJobs { in_line, runs, suspect_runs, suspects: [low, high, usual], later, suspect_later, delayed, .. } =
        with_jobs;
    // Those of format 3 have survived longer than those that were lost now.
    let expected = match with_jobs.old.format {
        b"2" => [high, delayed, in_line, later, runs, usual, suspect_later, low, suspect_runs],
        _ => [runs, delayed, in_line, later, suspect_runs, high, usual, suspect_later, low],
    };
    assert_eq!(leased, expected);
    assert_eq!(store.prune(Timestamp::MAX, Timestamp::MAX, 9).await.unwrap(), 3);
    assert_eq!(store.attempts(with_jobs.done).await.unwrap(), []);
    assert_eq!(store.recount().await.unwrap(), 0);
}

/// An older qtasks kept all.
#[tokio::test]
#[cfg_attr(missing = "redis", ignore = "redis-server is not installed")]
async fn of_thousands_of_attempts_those_to_be_kept_are_read_and_the_next_settlement_deletes_the_others() {
    let (old, worker) = (Old::of_format(b"3"), WorkerId::from_bytes([0xa0; 16]));
    old.tell("HSET", "beats", b"", &[&worker.to_bytes(), b""]);
    let id = old.job(1, 0);
    old.runs(id, worker, OldStanding { attempt: 1, ..OldStanding::default() });
    let attempts: Vec<_> = (1..=5000).map(attempt).collect();
    for some in attempts.chunks(100) {
        old.tell("RPUSH", "h:", &id.to_bytes(), &some.iter().map(|attempt| &attempt[..]).collect::<Vec<_>>());
    }
    let store = open(&old.url()).await;
    let numbers =
        async || -> Vec<u32> { store.attempts(id).await.unwrap().iter().map(|attempt| attempt.number).collect() };
    assert_eq!(numbers().await, (1..=10).chain(4911..=5000).collect::<Vec<_>>());
    let now = Timestamp::now();
    let ended = |number| Attempt { number, worker, started: None, ended: now, ending: Ending::Snoozed, steps: None };
    let runs = old_job(id, 0, stands(State::Running { worker, due: time(7) }, 1, None));
    let dead = NextState::Dead { error: "no".into() };
    let settled = Settlement { attempt: Some(ended(5001)), ..settlement(&runs, dead, now) };
    assert_eq!(store.settle([settled].into()).await.unwrap(), [Written::Yes]);
    assert_eq!(numbers().await, (1..=10).chain(4912..=5001).collect::<Vec<_>>());
    let again = Settlement {
        hold: Hold::Seen { job: id, state: StateKind::Dead, attempt: 1 },
        ..settlement(&runs, NextState::Waiting { due: now }, now)
    };
    assert_eq!(store.settle([again].into()).await.unwrap(), [Written::Yes]);
    assert_eq!(numbers().await, (1..=10).chain(4912..=5001).collect::<Vec<_>>());
    let history = format!("LLEN \"{{old}}:4:h:{}\"", "\\x01".repeat(16));
    assert_eq!(old.server.tell(&history).unwrap(), ":100");
}

/// As an operator may have put something else under one of its keys.
#[tokio::test]
#[cfg_attr(missing = "redis", ignore = "redis-server is not installed")]
async fn a_job_whose_steps_cannot_be_appended_is_refused_and_no_other() {
    let (old, worker) = (Old::of_format(b"3"), WorkerId::from_bytes([0xa0; 16]));
    let jobs = [1, 2, 3, 4, 5].map(|id| old.job(id, 0));
    for id in jobs {
        old.runs(id, worker, OldStanding { attempt: 1, ..OldStanding::default() });
    }
    let store = open(&old.url()).await;
    old.tell("SET", "4:s:", &jobs[2].to_bytes(), &[b"something else"]);
    let record = |job: JobId| Record {
        lease: Lease { job, attempt: 1, worker },
        steps: vec![Step { seq: 0, hash: 7, reply: Reply::Value(Json::from_stored("1")) }],
        memos: Vec::new(),
        jobs: Vec::new(),
        progress: None,
        passed: false,
    };
    let together = store.record(jobs.map(record).to_vec().into()).await.unwrap_err();
    let alone = store.record([record(jobs[2])].into()).await.unwrap_err();
    for error in [together, alone] {
        assert!(whole(&error).starts_with("the store refuses to record steps: "), "{}", whole(&error));
        assert!(whole(&error).contains("WRONGTYPE"), "{}", whole(&error));
    }
    for id in [jobs[0], jobs[1], jobs[3], jobs[4]] {
        assert_eq!(store.record([record(id)].into()).await.unwrap(), [Written::Yes]);
        assert_eq!(store.steps(id, 0, 9).await.unwrap().len(), 1, "it is not recorded twice");
    }
    assert_eq!(store.job(jobs[2]).await.unwrap().unwrap().counts.steps, 0);

    // Nor does one whose history cannot be kept hold up others, or itself.
    old.tell("SET", "4:h:", &jobs[2].to_bytes(), &[b"something else"]);
    let now = Timestamp::now();
    let snoozed = |job: JobId| {
        let attempt = Attempt { number: 1, worker, started: None, ended: now, ending: Ending::Snoozed, steps: None };
        let runs = old_job(job, 0, stands(State::Running { worker, due: time(7) }, 1, None));
        let hold = Hold::Lease(Lease { job, attempt: 1, worker });
        Settlement { hold, attempt: Some(attempt), ..settlement(&runs, NextState::Waiting { due: now }, now) }
    };
    assert_eq!(store.settle(jobs.map(snoozed).to_vec().into()).await.unwrap(), [Written::Yes; 5]);
    assert_eq!(store.lease(ask()).await.unwrap().jobs.len(), 5);
}

/// The keys of format 4 are those of this one, which has others besides.
#[tokio::test]
#[cfg_attr(missing = "redis", ignore = "redis-server is not installed")]
async fn a_store_of_format_4_becomes_one_of_this_format_as_it_stands() {
    let server = redis::Redis::start(&[]);
    let url = format!("redis://127.0.0.1:{}?app=shop", server.port);
    let store = open(&url).await;
    let job = new_job();
    store.enqueue(vec![job.clone()]).await.unwrap();
    assert_eq!(server.tell("SET {shop}:format 4").unwrap(), "+OK");
    let newer = open(&url).await;
    assert_eq!(server.tell("GET {shop}:format").unwrap(), "5");
    assert_eq!(newer.lease(ask()).await.unwrap().jobs[0].call, job.call);
}
