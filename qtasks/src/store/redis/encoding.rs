//! How jobs, steps, memos and attempts stand on the server: as bytes, numbers with the highest first.
//!
//! Of a job that waits for the first time there is one value, so that a million of them fit into memory:
//!
//! | from | bytes | the job, which never changes |
//! | --- | --- | --- |
//! | 0 | 2 | rank: the priority turned round |
//! | 2 | 8 | when it was due first |
//! | 10 | 8 | when it was enqueued |
//! | 18 | 8 | time limit, or -1 |
//! | 26 | 4 | bytes of the lane |
//! | 30 | | lane, arguments |
//!
//! The lane is queue and task: `7:default:send`. Once it has been leased or cancelled, there is also how it stands, which
//! whoever leases or settles it sets as a whole, of many jobs at once:
//!
//! | from | bytes | how it stands |
//! | --- | --- | --- |
//! | 0 | 1 | state: 0 waiting, 1 running, 2 done, 3 dead, 4 cancelled |
//! | 1 | 1 | 1 for a suspect, and 2 more while it is liable |
//! | 2 | 4 | attempt |
//! | 6 | 16 | the worker, while it runs |
//! | 22 | 4 | failures before this attempt |
//! | 26 | 8 | when it is due, or has ended |
//! | 34 | 1 | what steps are collected into, or 255 |
//! | 35 | 4 | bytes of the attempt that it ended with |
//! | 39 | | what is known of it as a suspect, if it is one; that attempt, outcome |
//!
//! What is known of a suspect is as follows. The script that leases it sets the last of these and the flags before:
//!
//! | from | bytes | what is known of a suspect |
//! | --- | --- | --- |
//! | 0 | 8 | what it has survived |
//! | 8 | 4 | losses before this attempt |
//! | 12 | 8 | when it was leased, or the least number where that is not known or it does not run |
//!
//! And when it has steps, memos or progress, its counts, which only recording changes:
//!
//! | from | bytes | its counts |
//! | --- | --- | --- |
//! | 0 | 4 | the attempt that recorded the last step: it has had no failures or losses since, and is not liable |
//! | 4 | 8 | steps |
//! | 12 | 8 | skipped steps |
//! | 20 | 8 | memos |
//! | 28 | 1 | 1 where there is progress |
//! | 29 | 16 | progress: done, total |

use std::time::Duration;

use redis::Value;

use super::error::Failure;
pub(super) use crate::store::codec::{millis, time};
use crate::{
    model::{
        job::{
            Attempt, Ending, Job, JobId, Lease, Memo, NewJob, Output, Progress, Reply, Shape, State, Step, Suspect,
            WorkerId,
        },
        json::Json,
    },
    store::{
        Ask, Hold, Lane, Presence, Settlement,
        codec::{limit, limit_millis},
    },
};

pub(super) const WAITING: u8 = 0;
const RUNNING: u8 = 1;
const DONE: u8 = 2;
const DEAD: u8 = 3;
const CANCELLED: u8 = 4;
const SUSPECT: u8 = 1;
const LIABLE: u8 = 2;
const VALUE: u8 = u8::MAX;
const SHAPES: [Shape; 6] = [Shape::List, Shape::Map, Shape::Text, Shape::Count, Shape::Last, Shape::Nothing];

type Read<T> = std::result::Result<T, Failure>;

/// The number of the state of this name; 255 if there is none.
pub(super) fn state_code(name: &str) -> u8 {
    match name {
        "waiting" => WAITING,
        "running" => RUNNING,
        "done" => DONE,
        "dead" => DEAD,
        "cancelled" => CANCELLED,
        _ => u8::MAX,
    }
}

/// The rank of most jobs: those stand in line.
pub(super) const USUAL: i16 = rank(0);

/// The less, the more urgent.
pub(super) const fn rank(priority: i16) -> i16 {
    !priority
}

pub(super) fn lane(queue: &str, task: &str) -> String {
    format!("{}{task}", lane_start(queue))
}

/// What the lanes of a queue begin with.
pub(super) fn lane_start(queue: &str) -> String {
    format!("{}:{queue}:", queue.len())
}

/// The lane of this name.
pub(super) fn read_lane(name: &str) -> Result<Lane, Failure> {
    let parts = name.split_once(':').and_then(|(length, rest)| rest.split_at_checked(length.parse().ok()?));
    let (queue, task) =
        parts.and_then(|(queue, task)| Some((queue, task.strip_prefix(':')?))).ok_or(Failure::Unreadable)?;
    Ok(Lane { queue: queue.to_owned(), task: task.to_owned() })
}

/// A job, which waits for the first time.
pub(super) fn new_job(job: &NewJob) -> Vec<u8> {
    let lane = lane(&job.queue, &job.task);
    let max_time = job.max_time.map_or(-1, limit_millis);
    let mut bytes = Vec::with_capacity(30 + lane.len() + job.args.as_str().len());
    bytes.extend(rank(job.priority).to_be_bytes());
    bytes.extend(millis(job.due).to_be_bytes());
    bytes.extend(millis(job.enqueued).to_be_bytes());
    bytes.extend(max_time.to_be_bytes());
    bytes.extend(length(lane.len()));
    bytes.extend(lane.as_bytes());
    bytes.extend(job.args.as_str().as_bytes());
    bytes
}

/// No value on the server is as long as 4 GiB.
fn length(length: usize) -> [u8; 4] {
    u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes()
}

/// What there is of a job.
pub(super) struct Parts<'a> {
    job: &'a [u8],
    /// Where there is that already, how it stands,
    standing: Option<&'a [u8]>,
    /// and its counts.
    counts: Option<&'a [u8]>,
}

impl<'a> Parts<'a> {
    /// What the server gives for the three of them; nothing, where there is no job.
    pub(super) fn of([job, standing, counts]: &'a [Value; 3]) -> Read<Option<Self>> {
        let part = |value: &'a Value| match value {
            Value::BulkString(bytes) => Ok(Some(&bytes[..])),
            Value::Nil => Ok(None),
            _ => Err(Failure::Unreadable),
        };
        let (job, standing, counts) = (part(job)?, part(standing)?, part(counts)?);
        Ok(job.map(|job| Self { job, standing, counts }))
    }
}

/// Reads the jobs in an answer: of each the id and its parts.
pub(super) fn jobs(values: &[Value], read: impl Fn(JobId, &Parts<'_>) -> Read<Job>) -> Read<Vec<Job>> {
    let (each, rest) = values.as_chunks();
    if !rest.is_empty() {
        return Err(Failure::Unreadable);
    }
    let one = |[id, parts @ ..]: &[Value; 4]| {
        let Value::BulkString(id) = id else { return Err(Failure::Unreadable) };
        read(job_id(id)?, &Parts::of(parts)?.ok_or(Failure::Unreadable)?)
    };
    each.iter().map(one).collect()
}

pub(super) fn job(id: JobId, Parts { job, standing, counts }: &Parts<'_>) -> Read<Job> {
    let mut left = Left(job);
    let rank = i16::from_be_bytes(left.take()?);
    let (due, enqueued, max_time, lane) = (left.i64()?, left.i64()?, left.i64()?, left.u32()?);
    let (queue, task) = names(left.text(lane)?).ok_or(Failure::Unreadable)?;
    let job = Job {
        id,
        task: task.to_owned(),
        queue: queue.to_owned(),
        priority: !rank,
        args: Json::from_stored(left.rest()?),
        max_time: (max_time >= 0).then(|| limit(max_time)),
        enqueued: time(enqueued),
        state: State::Waiting { due: time(due) },
        attempt: 0,
        failures: 0,
        suspect: None,
        steps: 0,
        skipped: 0,
        memos: 0,
        progress: None,
    };
    let Some(standing) = standing else { return Ok(job) };
    let job = standing_as(job, standing)?;
    match counts {
        Some(counts) => counting(job, counts),
        None => Ok(job),
    }
}

fn standing_as(job: Job, bytes: &[u8]) -> Read<Job> {
    let mut left = Left(bytes);
    let (state, flags, attempt) = (left.u8()?, left.u8()?, left.u32()?);
    let (worker, failures) = (WorkerId::from_bytes(left.take()?), left.u32()?);
    let (due, shape, last) = (left.i64()?, left.u8()?, left.u32()?);
    let suspect = suspect(&mut left, flags, state == RUNNING)?;
    left.bytes(last)?;
    let state = match state {
        WAITING => State::Waiting { due: time(due) },
        RUNNING => State::Running { worker },
        ended => ended_state(ended, shape, left.rest()?)?,
    };
    Ok(Job { state, attempt, failures, suspect, ..job })
}

fn suspect(left: &mut Left<'_>, flags: u8, runs: bool) -> Read<Option<Suspect>> {
    if flags & SUSPECT == 0 {
        return Ok(None);
    }
    // A program of format 2 that still runs leaves out what is known.
    if left.0.is_empty() {
        return Ok(Some(Suspect::default()));
    }
    let (survived, losses, leased) = (Duration::from_millis(left.u64()?), left.u32()?, left.i64()?);
    let leased = (runs && leased != UNKNOWN).then(|| time(leased));
    Ok(Some(Suspect { survived, losses, leased, liable: flags & LIABLE != 0 }))
}

fn counting(job: Job, bytes: &[u8]) -> Read<Job> {
    let mut left = Left(bytes);
    let attempt = left.u32()?;
    let (steps, skipped, memos) = (left.u64()?, left.u64()?, left.u64()?);
    let (progressed, progress) = (left.u8()? == 1, Progress { done: left.u64()?, total: left.u64()? });
    let job = Job { steps, skipped, memos, progress: progressed.then_some(progress), ..job };
    let has_new_step = matches!(job.state, State::Running { .. }) && attempt == job.attempt;
    if !has_new_step {
        return Ok(job);
    }
    let suspect = job.suspect.map(|suspect| Suspect { losses: 0, liable: false, ..suspect });
    Ok(Job { failures: 0, suspect, ..job })
}

/// A job that stood so before `ask` got it.
pub(super) fn leased(id: JobId, parts: &Parts<'_>, ask: &Ask) -> Read<Job> {
    let before = job(id, parts)?;
    let leased = Some(time(millis(ask.now)));
    let suspect = before.suspect.map(|suspect| Suspect { leased, liable: ask.suspects.liable(), ..suspect });
    Ok(Job { state: State::Running { worker: ask.worker }, attempt: before.attempt + 1, suspect, ..before })
}

/// Queue and task.
fn names(lane: &str) -> Option<(&str, &str)> {
    let (length, rest) = lane.split_once(':')?;
    let (queue, task) = rest.split_at_checked(length.parse().ok()?)?;
    Some((queue, task.strip_prefix(':')?))
}

fn ended_state(state: u8, shape: u8, outcome: &str) -> Read<State> {
    Ok(match state {
        DONE if shape == VALUE => State::Done { output: Output::Value(Json::from_stored(outcome)) },
        DONE => {
            let shape = SHAPES.get(usize::from(shape)).ok_or(Failure::Unreadable)?;
            State::Done { output: Output::Steps(*shape) }
        }
        DEAD => State::Dead { error: outcome.to_owned() },
        CANCELLED => State::Cancelled { reason: outcome.to_owned() },
        _ => return Err(Failure::Unreadable),
    })
}

/// A lease as it stands with its worker: the job and the attempt.
pub(super) fn lease(job: JobId, attempt: u32) -> Vec<u8> {
    [&job.to_bytes()[..], &attempt.to_be_bytes()].concat()
}

pub(super) fn read_lease(bytes: &[u8], worker: WorkerId) -> Read<Lease> {
    let mut left = Left(bytes);
    Ok(Lease { job: JobId::from_bytes(left.take()?), attempt: left.u32()?, worker })
}

/// The beat of a worker as it is kept.
pub(super) fn beat(beat: Option<u64>) -> String {
    beat.map(|beat| beat.to_string()).unwrap_or_default()
}

/// What is kept in place of its beat of a worker that has left and holds leases.
const LEFT: &str = "left";

/// What can be seen of a worker, by what is kept of it.
pub(super) fn presence(worker: &[u8], beat: &str, holds: bool) -> Read<Presence> {
    let number = match beat {
        "" | LEFT => None,
        number => Some(number.parse().map_err(|_| Failure::Unreadable)?),
    };
    Ok(Presence { worker: WorkerId::from_bytes(Left(worker).take()?), beat: number, holds, gone: beat == LEFT })
}

/// What must hold for a settlement: a letter for the kind, and what else there is.
pub(super) fn hold(Settlement { hold, steps, .. }: &Settlement) -> Vec<u8> {
    let mut bytes = match hold {
        Hold::Lease(Lease { worker, .. }) => [b"L", &worker.to_bytes()[..]].concat(),
        Hold::Silent { lease: Lease { worker, .. }, beat: seen } => {
            // As wide as the largest one.
            let seen = format!("{:>20}", beat(*seen));
            [b"B", &worker.to_bytes()[..], seen.as_bytes()].concat()
        }
        Hold::Seen { state, .. } => vec![b'S', state_code(state)],
    };
    bytes.extend(steps.iter().flat_map(|steps| steps.to_be_bytes()));
    bytes
}

/// The attempt that a settlement is for.
pub(super) fn attempt_of(hold: &Hold) -> u32 {
    match hold {
        Hold::Lease(lease) | Hold::Silent { lease, .. } => lease.attempt,
        Hold::Seen { attempt, .. } => *attempt,
    }
}

/// Where a job goes by a settlement.
pub(super) fn place(settlement: &Settlement) -> &'static str {
    match settlement.next {
        State::Waiting { due } if millis(due) > millis(settlement.now) => "later:",
        State::Waiting { .. } if settlement.suspect.is_some() => "suspects:",
        State::Waiting { .. } | State::Running { .. } => "ready:",
        State::Dead { .. } => "dead",
        State::Done { .. } | State::Cancelled { .. } => "finished",
    }
}

/// When a job is due by a settlement, or else has ended.
pub(super) fn time_of(settlement: &Settlement) -> i64 {
    match settlement.next {
        State::Waiting { due } => millis(due),
        _ => millis(settlement.now),
    }
}

/// How a job stands after a settlement.
pub(super) fn standing(settlement: &Settlement) -> Vec<u8> {
    let (state, shape, outcome) = match &settlement.next {
        State::Waiting { .. } | State::Running { .. } => (WAITING, VALUE, ""),
        State::Done { output: Output::Value(value) } => (DONE, VALUE, value.as_str()),
        State::Done { output: Output::Steps(shape) } => (DONE, place_of(*shape), ""),
        State::Dead { error } => (DEAD, VALUE, error.as_str()),
        State::Cancelled { reason } => (CANCELLED, VALUE, reason.as_str()),
    };
    let last = settlement.attempt.as_ref().filter(|_| settlement.next.is_ended()).map(attempt).unwrap_or_default();
    let mut bytes = Vec::with_capacity(39 + last.len() + outcome.len());
    bytes.extend([state, if settlement.suspect.is_some() { SUSPECT } else { 0 }]);
    bytes.extend(attempt_of(&settlement.hold).to_be_bytes());
    bytes.extend([0; 16]);
    bytes.extend(settlement.failures.to_be_bytes());
    bytes.extend(time_of(settlement).to_be_bytes());
    bytes.push(shape);
    bytes.extend(length(last.len()));
    if let Some(Suspect { survived, losses, .. }) = settlement.suspect {
        bytes.extend(u64::try_from(survived.as_millis()).unwrap_or(u64::MAX).to_be_bytes());
        bytes.extend(losses.to_be_bytes());
        bytes.extend(UNKNOWN.to_be_bytes());
    }
    bytes.extend(last);
    bytes.extend(outcome.as_bytes());
    bytes
}

fn place_of(shape: Shape) -> u8 {
    SHAPES.iter().position(|other| *other == shape).and_then(|place| place.try_into().ok()).unwrap_or(VALUE)
}

/// A step: whether it was skipped, the hash, the reply.
pub(super) fn step(step: &Step) -> Vec<u8> {
    let reply = &step.reply;
    [&[u8::from(reply.is_skipped())][..], &step.hash.to_be_bytes(), reply.as_str().as_bytes()].concat()
}

/// Whether a step was skipped.
pub(super) fn is_skipped(step: &[u8]) -> bool {
    step.first() == Some(&1)
}

/// The step of number `seq`.
pub(super) fn read_step(seq: u64, bytes: &[u8]) -> Read<Step> {
    let mut left = Left(bytes);
    let (skipped, hash, text) = (left.u8()?, left.u64()?, left.rest()?);
    let reply = if skipped == 1 { Reply::Skipped(text.to_owned()) } else { Reply::Value(Json::from_stored(text)) };
    Ok(Step { seq, hash, reply })
}

/// A memo: its number, which use of the name, the length of the name, the name, the value.
pub(super) fn memo(memo: &Memo) -> Vec<u8> {
    let numbers = [memo.number.to_be_bytes(), memo.nth.to_be_bytes()].concat();
    [&numbers, &length(memo.name.len())[..], memo.name.as_bytes(), memo.value.as_str().as_bytes()].concat()
}

/// A memo for `step`, or for the body.
pub(super) fn read_memo(step: Option<u64>, bytes: &[u8]) -> Read<Memo> {
    let mut left = Left(bytes);
    let (number, nth, length) = (left.u64()?, left.u64()?, left.u32()?);
    let name = left.text(length)?.to_owned();
    Ok(Memo { number, step, name, nth, value: Json::from_stored(left.rest()?) })
}

const UNKNOWN: i64 = i64::MIN;

/// An attempt that has ended: its number, the worker, when it was started and ended, why, and the text of that.
pub(super) fn attempt(attempt: &Attempt) -> Vec<u8> {
    let (code, text) = match &attempt.ending {
        Ending::Done => (0, ""),
        Ending::Failed { error } => (1, error.as_str()),
        Ending::Snoozed => (2, ""),
        Ending::Cancelled { reason } => (3, reason.as_str()),
        Ending::Discarded { reason } => (4, reason.as_str()),
        Ending::Released => (5, ""),
        Ending::Lost => (6, ""),
    };
    let mut bytes = attempt.number.to_be_bytes().to_vec();
    bytes.extend(attempt.worker.to_bytes());
    bytes.extend(attempt.started.map_or(UNKNOWN, millis).to_be_bytes());
    bytes.extend(millis(attempt.ended).to_be_bytes());
    bytes.push(code);
    bytes.extend(text.as_bytes());
    bytes
}

pub(super) fn read_attempt(bytes: &[u8]) -> Read<Attempt> {
    let mut left = Left(bytes);
    let (number, worker) = (left.u32()?, WorkerId::from_bytes(left.take()?));
    let (started, ended) = (left.i64()?, time(left.i64()?));
    let ending = match (left.u8()?, left.rest()?.to_owned()) {
        (0, _) => Ending::Done,
        (1, error) => Ending::Failed { error },
        (2, _) => Ending::Snoozed,
        (3, reason) => Ending::Cancelled { reason },
        (4, reason) => Ending::Discarded { reason },
        (5, _) => Ending::Released,
        (6, _) => Ending::Lost,
        _ => return Err(Failure::Unreadable),
    };
    Ok(Attempt { number, worker, started: (started != UNKNOWN).then(|| time(started)), ended, ending })
}

pub(super) fn job_id(bytes: &[u8]) -> Read<JobId> {
    Left(bytes).take().map(JobId::from_bytes)
}

/// What is left to read.
struct Left<'a>(&'a [u8]);

impl<'a> Left<'a> {
    fn take<const N: usize>(&mut self) -> Read<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk().ok_or(Failure::Unreadable)?;
        self.0 = rest;
        Ok(*first)
    }

    fn u8(&mut self) -> Read<u8> {
        self.take().map(u8::from_be_bytes)
    }

    fn u32(&mut self) -> Read<u32> {
        self.take().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Read<u64> {
        self.take().map(u64::from_be_bytes)
    }

    fn i64(&mut self) -> Read<i64> {
        self.take().map(i64::from_be_bytes)
    }

    fn bytes(&mut self, length: u32) -> Read<&'a [u8]> {
        let (first, rest) = self.0.split_at_checked(length as usize).ok_or(Failure::Unreadable)?;
        self.0 = rest;
        Ok(first)
    }

    fn text(&mut self, length: u32) -> Read<&'a str> {
        str::from_utf8(self.bytes(length)?).map_err(|_| Failure::Unreadable)
    }

    fn rest(&mut self) -> Read<&'a str> {
        str::from_utf8(std::mem::take(&mut self.0)).map_err(|_| Failure::Unreadable)
    }
}
