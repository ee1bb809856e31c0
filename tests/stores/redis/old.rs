//! Stores as programs of older formats have left them, written by raw commands.

use std::time::Duration;

use jiff::Timestamp;
use qtasks::{
    job::{Counts, Job, JobCall, Output, Standing, State, Suspect, WorkerId},
    json::Json,
    prelude::*,
};
use qtasks_tests::servers::redis;

use crate::new_job;

/// A store as programs of formats 2 and 3 had it, written by raw commands.
pub(crate) struct Old {
    pub(crate) server: redis::Redis,
    pub(crate) format: &'static [u8],
}

/// The lane of all its jobs.
pub(crate) const LANE: &[u8] = b"7:default:task";

impl Old {
    /// A worker that holds jobs, and on a server of format 2 one that does not.
    fn knows_a_worker(&self) {
        if self.format == b"2" {
            let idle = WorkerId::from_bytes([0xa1; 16]);
            self.tell("ZADD", "workers", b"", &[b"5000", &WORKER.to_bytes()]);
            self.tell("ZADD", "workers", b"", &[b"5000", &idle.to_bytes()]);
        } else {
            self.tell("HSET", "beats", b"", &[&WORKER.to_bytes(), b""]);
        }
    }

    pub(crate) fn of_format(format: &'static [u8]) -> Self {
        let old = Self { server: redis::Redis::start(&[]), format };
        old.tell("SET", "format", b"", &[format]);
        old
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}?app=old", self.server.port)
    }

    /// Tells the server a command for a key and what comes behind it.
    pub(crate) fn tell(&self, command: &str, kind: &str, of: &[u8], values: &[&[u8]]) {
        let quoted =
            |bytes: &[u8]| format!("\"{}\"", bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect::<String>());
        let key = [b"{old}:", kind.as_bytes(), of].concat();
        let words: Vec<_> = [&key[..]].iter().chain(values).map(|word| quoted(word)).collect();
        let answer = self.server.tell(&format!("{command} {}", words.join(" "))).unwrap();
        assert!(!answer.starts_with('-'), "{answer}");
    }

    /// A job that was enqueued and due at 7.
    pub(crate) fn job(&self, id: u8, priority: i16) -> JobId {
        let id = self.new_job(id, priority, 7);
        self.tell("RPUSH", "ids", b"", &[&id.to_bytes()]);
        id
    }

    /// A job that was enqueued at 7, and stands in no list yet.
    pub(crate) fn new_job(&self, id: u8, priority: i16, due: i64) -> JobId {
        let id = JobId::from_bytes([id; 16]);
        let times = [due, 7, -1].map(i64::to_be_bytes).concat();
        let lane = [&(LANE.len() as u32).to_be_bytes(), LANE].concat();
        let job = [&(!priority).to_be_bytes(), &times[..], &lane, b"{\"n\":1}"].concat();
        self.tell("SET", "j:", &id.to_bytes(), &[&job]);
        self.tell("SADD", "lanes", b"", &[LANE]);
        id
    }

    /// How a job stands. Of a suspect format 3 says what is known.
    pub(crate) fn stands(&self, id: JobId, standing: OldStanding) {
        let OldStanding { state, is_suspect, attempt, worker, failures, time, last, outcome } = standing;
        let known = [&7_u64.to_be_bytes()[..], &2_u32.to_be_bytes(), &i64::MIN.to_be_bytes()].concat();
        let known = if is_suspect && self.format == b"3" { known } else { Vec::new() };
        let worker = worker.map(WorkerId::to_bytes).unwrap_or_default();
        let numbers =
            [&[state, is_suspect.into()], &attempt.to_be_bytes()[..], &worker, &failures.to_be_bytes()].concat();
        let length = [&[255], &(last.len() as u32).to_be_bytes()[..]].concat();
        let standing = [&numbers, &time.to_be_bytes()[..], &length, &known, &last, outcome].concat();
        self.tell("SET", "p:", &id.to_bytes(), &[&standing]);
    }

    /// A job that runs.
    pub(crate) fn runs(&self, id: JobId, worker: WorkerId, standing: OldStanding) {
        let lease = [&id.to_bytes()[..], &standing.attempt.to_be_bytes()].concat();
        self.tell("SADD", "held:", &worker.to_bytes(), &[&lease]);
        self.stands(id, OldStanding { state: 1, worker: Some(worker), ..standing });
    }
}

#[derive(Default)]
pub(crate) struct OldStanding {
    pub(crate) state: u8,
    pub(crate) is_suspect: bool,
    pub(crate) attempt: u32,
    pub(crate) worker: Option<WorkerId>,
    pub(crate) failures: u32,
    pub(crate) time: i64,
    pub(crate) last: Vec<u8>,
    pub(crate) outcome: &'static [u8],
}

/// A job of such a store, as it is read.
pub(crate) fn old_job(id: JobId, priority: i16, standing: Standing) -> Job {
    let enqueued = Timestamp::from_millisecond(7).unwrap();
    let call = JobCall { id, priority, args: Json::from_stored("{\"n\":1}"), enqueued, ..new_job().call };
    Job { call, standing, counts: Counts::default(), ended: None }
}

/// An attempt that was put off.
pub(crate) fn attempt(number: u32) -> Vec<u8> {
    [&number.to_be_bytes()[..], &[0xa0; 16], &[0x80, 0, 0, 0, 0, 0, 0, 0], &[0; 8], &[2]].concat()
}

/// How a job stands that has had attempts and no failures.
pub(crate) fn stands(state: State, attempt: u32, suspect: Option<Suspect>) -> Standing {
    Standing { state, attempt, failures: 0, suspect }
}

/// When a job is, in milliseconds.
pub(crate) fn time(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(milliseconds).unwrap()
}

pub(crate) const WORKER: WorkerId = WorkerId::from_bytes([0xa0; 16]);

/// A store of an old format with jobs in every state.
pub(crate) struct WithJobs {
    pub(crate) old: Old,
    pub(crate) in_line: JobId,
    pub(crate) runs: JobId,
    pub(crate) suspect_runs: JobId,
    pub(crate) suspects: [JobId; 3],
    pub(crate) later: JobId,
    pub(crate) suspect_later: JobId,
    pub(crate) done: JobId,
    pub(crate) delayed: JobId,
    pub(crate) called_off: JobId,
    pub(crate) dead: JobId,
}

impl WithJobs {
    pub(crate) fn of_format(format: &'static [u8]) -> Self {
        let old = Old::of_format(format);
        old.knows_a_worker();
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
        // It stands beside the list of ids, and so does a job that is gone.
        let delayed = old.new_job(10, 3, 800);
        old.tell("ZADD", "jobs", b"", &[b"0", &delayed.to_bytes(), b"0", &[11; 16]]);
        old.tell("ZADD", "later:", LANE, &[b"800", &delayed.to_bytes()]);
        let called_off = old.job(12, 0);
        old.tell("RPUSH", "line:", LANE, &[&called_off.to_bytes()]);
        old.stands(called_off, OldStanding { state: 4, time: 20, outcome: b"enough", ..OldStanding::default() });
        old.tell("ZADD", "finished", b"", &[b"20", &[done.to_bytes(), called_off.to_bytes()].concat()]);
        let dead = old.job(13, 0);
        old.stands(dead, OldStanding { state: 3, attempt: 1, time: 30, outcome: b"no", ..OldStanding::default() });
        old.tell("RPUSH", "h:", &dead.to_bytes(), &[&attempt(1)]);
        old.tell("ZADD", "dead", b"", &[b"30", &dead.to_bytes()]);
        Self { old, in_line, runs, suspect_runs, suspects, later, suspect_later, done, delayed, called_off, dead }
    }

    /// Its jobs, as this qtasks reads them.
    pub(crate) fn jobs(&self) -> Vec<Job> {
        let known = Suspect { survived: Duration::from_millis(7), losses: 2, ..Suspect::default() };
        let suspect = Some(if self.old.format == b"3" { known } else { Suspect::default() });
        let waiting = |due| State::waiting(time(due));
        let running = || State::Running { worker: WORKER, due: time(7) };
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
        let ended = |id, state, attempt, at| {
            let job = old_job(id, 0, stands(state, attempt, None));
            Job { ended: Some(time(at)), ..job }
        };
        expected.push(ended(self.done, State::Done { output }, 1, 20));
        expected.push(old_job(self.delayed, 3, Standing::waiting(time(800))));
        expected.push(ended(self.called_off, State::Cancelled { reason: "enough".into() }, 0, 20));
        expected.push(ended(self.dead, State::Dead { error: "no".into() }, 1, 30));
        expected
    }
}
