//! Stores as older programs have left them, or an operator: written by raw commands.

use std::time::Duration;

use jiff::Timestamp;
use qtasks::{
    job::{
        Attempt, Counts, Ending, Job, JobCall, Lease, NextState, Output, Reply, Standing, State, StateKind, Step,
        Suspect, WorkerId,
    },
    json::Json,
    lifecycle::Outcome,
    prelude::*,
    store::{Ask, Hold, Presence, Record, Settlement, Written},
};
use qtasks_tests::{servers::redis, whole};

use crate::{ask, new_job, open, settlement};

/// A store as programs of format 2 had it, written by raw commands.
struct Old {
    server: redis::Redis,
}

/// The lane of all its jobs.
const LANE: &[u8] = b"7:default:task";

impl Old {
    fn of_format(format: &[u8]) -> Self {
        let old = Self { server: redis::Redis::start(&[]) };
        old.tell("SET", "format", b"", &[format]);
        old
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}?app=old", self.server.port)
    }

    /// Tells the server a command for a key and what comes behind it.
    fn tell(&self, command: &str, kind: &str, of: &[u8], values: &[&[u8]]) {
        let quoted =
            |bytes: &[u8]| format!("\"{}\"", bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect::<String>());
        let key = [b"{old}:", kind.as_bytes(), of].concat();
        let words: Vec<_> = [&key[..]].iter().chain(values).map(|word| quoted(word)).collect();
        let answer = self.server.tell(&format!("{command} {}", words.join(" "))).unwrap();
        assert!(!answer.starts_with('-'), "{answer}");
    }

    /// A job that was enqueued and due at 7.
    fn job(&self, id: u8, priority: i16) -> JobId {
        let id = JobId::from_bytes([id; 16]);
        let times = [7_i64, 7, -1].map(i64::to_be_bytes).concat();
        let lane = [&(LANE.len() as u32).to_be_bytes(), LANE].concat();
        let job = [&(!priority).to_be_bytes(), &times[..], &lane, b"{\"n\":1}"].concat();
        self.tell("SET", "j:", &id.to_bytes(), &[&job]);
        self.tell("RPUSH", "ids", b"", &[&id.to_bytes()]);
        self.tell("SADD", "lanes", b"", &[LANE]);
        id
    }

    /// How a job stands.
    fn stands(&self, id: JobId, standing: OldStanding) {
        let OldStanding { state, is_suspect, attempt, worker, failures, time, last, outcome } = standing;
        let worker = worker.map(WorkerId::to_bytes).unwrap_or_default();
        let numbers =
            [&[state, is_suspect.into()], &attempt.to_be_bytes()[..], &worker, &failures.to_be_bytes()].concat();
        let length = [&[255], &(last.len() as u32).to_be_bytes()[..]].concat();
        let standing = [&numbers, &time.to_be_bytes()[..], &length, &last, outcome].concat();
        self.tell("SET", "p:", &id.to_bytes(), &[&standing]);
    }

    /// A job that runs.
    fn runs(&self, id: JobId, worker: WorkerId, standing: OldStanding) {
        let lease = [&id.to_bytes()[..], &standing.attempt.to_be_bytes()].concat();
        self.tell("SADD", "held:", &worker.to_bytes(), &[&lease]);
        self.stands(id, OldStanding { state: 1, worker: Some(worker), ..standing });
    }
}

#[derive(Default)]
struct OldStanding {
    state: u8,
    is_suspect: bool,
    attempt: u32,
    worker: Option<WorkerId>,
    failures: u32,
    time: i64,
    last: Vec<u8>,
    outcome: &'static [u8],
}

/// A job of such a store, as it is read.
fn old_job(id: JobId, priority: i16, standing: Standing) -> Job {
    let enqueued = Timestamp::from_millisecond(7).unwrap();
    let call = JobCall { id, priority, args: Json::from_stored("{\"n\":1}"), enqueued, ..new_job().call };
    Job { call, standing, counts: Counts::default(), ended: None }
}

/// How a job stands that has had attempts and no failures.
fn stands(state: State, attempt: u32, suspect: Option<Suspect>) -> Standing {
    Standing { state, attempt, failures: 0, suspect }
}

/// When a job is, in milliseconds.
fn time(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(milliseconds).unwrap()
}

const WORKER: WorkerId = WorkerId::from_bytes([0xa0; 16]);

/// A store of format 2 with jobs in every state.
struct OfFormat2 {
    old: Old,
    in_line: JobId,
    runs: JobId,
    suspect_runs: JobId,
    suspects: [JobId; 3],
    later: JobId,
    suspect_later: JobId,
    done: JobId,
}

impl OfFormat2 {
    fn make() -> Self {
        let (old, idle) = (Old::of_format(b"2"), WorkerId::from_bytes([0xa1; 16]));
        old.tell("ZADD", "workers", b"", &[b"5000", &WORKER.to_bytes()]);
        old.tell("ZADD", "workers", b"", &[b"5000", &idle.to_bytes()]);
        old.tell("SET", "reach", b"", &[b"7"]);

        let in_line = old.job(1, 0);
        old.tell("RPUSH", "line:", LANE, &[&in_line.to_bytes()]);
        let runs = old.job(2, 200);
        old.runs(runs, WORKER, OldStanding { attempt: 2, failures: 1, ..OldStanding::default() });
        let counts = [&2_u32.to_be_bytes(), &[1_u64, 0, 0].map(u64::to_be_bytes).concat()[..], &[0; 17]].concat();
        old.tell("SET", "c:", &runs.to_bytes(), &[&counts]);
        old.tell("RPUSH", "s:", &runs.to_bytes(), &[&[&[0], &9_u64.to_be_bytes()[..], b"81"].concat()]);
        let suspect_runs = old.job(3, 0);
        old.runs(suspect_runs, WORKER, OldStanding { is_suspect: true, attempt: 2, ..OldStanding::default() });
        let suspects = [(4, -1), (5, 300), (6, 0)].map(|(id, priority)| {
            let id = old.job(id, priority);
            old.stands(
                id,
                OldStanding { is_suspect: true, attempt: 1, failures: 1, time: 7, ..OldStanding::default() },
            );
            old.tell("ZADD", "suspects:", LANE, &[(!priority).to_string().as_bytes(), &id.to_bytes()]);
            id
        });
        let [later, suspect_later] = [(7, false), (8, true)].map(|(id, is_suspect)| {
            let id = old.job(id, 0);
            old.stands(id, OldStanding { is_suspect, attempt: 1, time: 900, ..OldStanding::default() });
            old.tell("ZADD", "later:", LANE, &[b"900", &id.to_bytes()]);
            id
        });
        let done = old.job(9, 0);
        let times = [10, 20].map(i64::to_be_bytes).concat();
        let last = [&1_u32.to_be_bytes(), &WORKER.to_bytes()[..], &times, &[0]].concat();
        old.stands(
            done,
            OldStanding { state: 2, attempt: 1, time: 20, last, outcome: b"42", ..OldStanding::default() },
        );
        old.tell("ZADD", "finished", b"", &[b"20", &done.to_bytes()]);
        Self { old, in_line, runs, suspect_runs, suspects, later, suspect_later, done }
    }

    /// Its jobs, as this qtasks reads them.
    fn jobs(&self) -> Vec<Job> {
        let suspect = Some(Suspect::default());
        let waiting = |due| State::Waiting { due: time(due) };
        let running = || State::Running { worker: WORKER };
        // A step of this attempt has set the failures to 0.
        let runs = old_job(self.runs, 200, stands(running(), 2, None));
        let mut expected = vec![
            old_job(self.in_line, 0, Standing::waiting(time(7))),
            Job { counts: Counts { steps: 1, ..Counts::default() }, ..runs },
            old_job(self.suspect_runs, 0, stands(running(), 2, suspect)),
        ];
        let waits = || Standing { failures: 1, ..stands(waiting(7), 1, suspect) };
        let suspects = self.suspects.iter().zip([-1, 300, 0]);
        expected.extend(suspects.map(|(id, priority)| old_job(*id, priority, waits())));
        expected.push(old_job(self.later, 0, stands(waiting(900), 1, None)));
        expected.push(old_job(self.suspect_later, 0, stands(waiting(900), 1, suspect)));
        let output = Output::Value(Json::from_stored("42"));
        expected.push(old_job(self.done, 0, stands(State::Done { output }, 1, None)));
        expected
    }
}

#[tokio::test]
#[cfg_attr(missing = "redis", ignore = "redis-server is not installed")]
async fn jobs_of_format_2_are_found_as_they_were() {
    let of_format_2 = OfFormat2::make();
    let (url, expected) = (of_format_2.old.url(), of_format_2.jobs());
    // Whether one program opens it or another comes after it.
    for _ in 0..2 {
        let store = open(&url).await;
        assert_eq!(store.jobs(Default::default(), None, 99).await.unwrap(), expected);
        let silent = Presence { worker: WORKER, beat: None, holds: true, gone: false };
        assert_eq!(store.workers().await.unwrap(), [silent]);
        assert_eq!(of_format_2.old.server.tell("GET {old}:format").unwrap(), "3");
    }
    let store = open(&url).await;
    assert_eq!(store.steps(of_format_2.runs, 0, 9).await.unwrap().len(), 1);
    let (started, ended) = (Some(time(10)), time(20));
    let attempt = Attempt { number: 1, worker: WORKER, started, ended, ending: Ending::Done, steps: None };
    assert_eq!(store.attempts(of_format_2.done).await.unwrap(), [attempt]);
    let mut held = store.held(WORKER, 9).await.unwrap();
    held.sort_by_key(|job| job.call.id);
    assert_eq!(held, expected[1..3]);
}

#[tokio::test]
#[cfg_attr(missing = "redis", ignore = "redis-server is not installed")]
async fn jobs_of_format_2_go_on() {
    let of_format_2 = OfFormat2::make();
    let store = open(&of_format_2.old.url()).await;
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
    for _ in 0..7 {
        let given = store.lease(Ask { now: time(900), ..ask() }).await.unwrap().jobs;
        leased.extend(given.iter().map(|job| job.call.id));
    }
    let OfFormat2 { in_line, runs, suspect_runs, suspects: [low, high, usual], later, suspect_later, .. } = of_format_2;
    assert_eq!(leased, [high, in_line, later, runs, usual, suspect_later, low, suspect_runs]);
    assert_eq!(store.prune(Timestamp::MAX, Timestamp::MAX, 9).await.unwrap(), 1);
    assert_eq!(store.attempts(of_format_2.done).await.unwrap(), []);
}

#[tokio::test]
#[cfg_attr(missing = "redis", ignore = "redis-server is not installed")]
async fn programs_of_format_2_that_still_run_are_understood() {
    let (old, worker) = (Old::of_format(b"3"), WorkerId::from_bytes([0xa0; 16]));
    let store = open(&old.url()).await;
    // One of them has leased a suspect after that, and one loses another.
    let [runs, waits] = [1, 2].map(|id| old.job(id, 0));
    old.runs(runs, worker, OldStanding { is_suspect: true, attempt: 2, ..OldStanding::default() });
    old.stands(waits, OldStanding { is_suspect: true, attempt: 1, time: 7, ..OldStanding::default() });
    old.tell("ZADD", "suspects:", LANE, &[b"-1", &waits.to_bytes()]);
    let times = ["-9007199254740992", "1764160000000", "1764160001000"];
    for renewed in times {
        let beat = renewed.parse().ok();
        old.tell("ZADD", "workers", b"", &[renewed.as_bytes(), &worker.to_bytes()]);
        let seen = Presence { worker, beat, holds: true, gone: false };
        assert_eq!(store.workers().await.unwrap(), [seen]);
    }
    let suspect = Some(Suspect::default());
    let held = store.held(worker, 9).await.unwrap();
    assert_eq!(held, [old_job(runs, 0, stands(State::Running { worker }, 2, suspect))]);
    let waiting = State::Waiting { due: Timestamp::from_millisecond(7).unwrap() };
    assert_eq!(store.job(waits).await.unwrap().unwrap(), old_job(waits, 0, stands(waiting, 1, suspect)));

    let asked = ask();
    let leased = store.lease(asked.clone()).await.unwrap().jobs;
    let suspect = leased[0].standing.suspect.unwrap();
    assert_eq!((leased[0].call.id, suspect.liable, suspect.losses), (waits, true, 0));
    assert_eq!(store.held(asked.worker, 9).await.unwrap(), leased);

    let silent = Hold::Silent { lease: held[0].lease().unwrap(), beat: Some(1_764_160_001_000) };
    let lost = Settlement { hold: silent, ..settlement(&held[0], NextState::Waiting { due: asked.now }, asked.now) };
    assert_eq!(store.settle([lost].into()).await.unwrap(), [Written::Yes]);
    store.forget(worker, Some(1_764_160_001_000)).await.unwrap();
    assert!(store.workers().await.unwrap().iter().all(|known| known.worker == asked.worker));
}

/// An older qtasks kept all.
#[tokio::test]
#[cfg_attr(missing = "redis", ignore = "redis-server is not installed")]
async fn of_thousands_of_attempts_those_to_be_kept_are_read_and_the_next_settlement_deletes_the_others() {
    let (old, worker) = (Old::of_format(b"3"), WorkerId::from_bytes([0xa0; 16]));
    let store = open(&old.url()).await;
    let id = old.job(1, 0);
    old.runs(id, worker, OldStanding { attempt: 1, ..OldStanding::default() });
    let attempt =
        |number: u32| [&number.to_be_bytes()[..], &[0xa0; 16], &[0x80, 0, 0, 0, 0, 0, 0, 0], &[0; 8], &[2]].concat();
    let attempts: Vec<_> = (1..=5000).map(attempt).collect();
    for some in attempts.chunks(100) {
        old.tell("RPUSH", "h:", &id.to_bytes(), &some.iter().map(|attempt| &attempt[..]).collect::<Vec<_>>());
    }
    let numbers =
        async || -> Vec<u32> { store.attempts(id).await.unwrap().iter().map(|attempt| attempt.number).collect() };
    assert_eq!(numbers().await, (1..=10).chain(4911..=5000).collect::<Vec<_>>());
    let now = Timestamp::now();
    let ended = |number| Attempt { number, worker, started: None, ended: now, ending: Ending::Snoozed, steps: None };
    let runs = old_job(id, 0, stands(State::Running { worker }, 1, None));
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
    let history = format!("LLEN \"{{old}}:h:{}\"", "\\x01".repeat(16));
    assert_eq!(old.server.tell(&history).unwrap(), ":100");
}

/// As an operator may have put something else under one of its keys.
#[tokio::test]
#[cfg_attr(missing = "redis", ignore = "redis-server is not installed")]
async fn a_job_whose_steps_cannot_be_appended_is_refused_and_no_other() {
    let (old, worker) = (Old::of_format(b"3"), WorkerId::from_bytes([0xa0; 16]));
    let store = open(&old.url()).await;
    let jobs = [1, 2, 3, 4, 5].map(|id| old.job(id, 0));
    for id in jobs {
        old.runs(id, worker, OldStanding { attempt: 1, ..OldStanding::default() });
    }
    old.tell("SET", "s:", &jobs[2].to_bytes(), &[b"something else"]);
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
    old.tell("SET", "h:", &jobs[2].to_bytes(), &[b"something else"]);
    let now = Timestamp::now();
    let snoozed = |job: JobId| {
        let attempt = Attempt { number: 1, worker, started: None, ended: now, ending: Ending::Snoozed, steps: None };
        let runs = old_job(job, 0, stands(State::Running { worker }, 1, None));
        let hold = Hold::Lease(Lease { job, attempt: 1, worker });
        Settlement { hold, attempt: Some(attempt), ..settlement(&runs, NextState::Waiting { due: now }, now) }
    };
    assert_eq!(store.settle(jobs.map(snoozed).to_vec().into()).await.unwrap(), [Written::Yes; 5]);
    assert_eq!(store.lease(ask()).await.unwrap().jobs.len(), 5);
}
