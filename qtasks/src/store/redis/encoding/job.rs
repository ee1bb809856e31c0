//! How a job stands on the server.

use std::{borrow::Cow, time::Duration};

use jiff::Timestamp;
use redis::Value;

use super::{
    bytes::{Read, Unread, job_id},
    codes::{AFTER, CANCELLED, DEAD, DONE, LIABLE, RUNNING, SUSPECT, UNKNOWN, VALUE, WAITING},
    lane::{lane, names},
};
use crate::{
    model::{
        job::{Counts, Job, JobCall, JobId, NewJob, Output, Progress, Standing, State, Suspect, WorkerId},
        json::Json,
    },
    store::{
        Ask,
        codec::{limit, limit_millis, millis, shape_of_number, time},
        more::{more, more_of_replacing, read_more},
        redis::error::Fault,
    },
};

/// The rank of most jobs, which stand in line.
pub(crate) const USUAL: i16 = rank(0);

/// The rank of a priority. Jobs of a lower rank are more urgent.
pub(crate) const fn rank(priority: i16) -> i16 {
    !priority
}

/// A job that waits for the first time, as bytes.
pub(crate) fn new_job(new: &NewJob) -> Vec<u8> {
    bytes_of(new, more(&new.call))
}

/// The same of one that replaces another, which goes on waiting for the jobs that it waits for.
pub(crate) fn replacing_job(new: &NewJob) -> Vec<u8> {
    bytes_of(new, more_of_replacing(&new.call))
}

fn bytes_of(NewJob { call, due, .. }: &NewJob, more: Option<Cow<'_, str>>) -> Vec<u8> {
    let lane = lane(&call.queue, &call.task);
    let max_time = call.max_time.map_or(-1, limit_millis);
    let more = more.filter(|more| more.len() <= usize::from(u16::MAX)).unwrap_or_default();
    let mut bytes = Vec::with_capacity(30 + lane.len() + more.len() + call.args.as_str().len());
    bytes.extend(rank(call.priority).to_be_bytes());
    bytes.extend(millis(*due).to_be_bytes());
    bytes.extend(millis(call.enqueued).to_be_bytes());
    bytes.extend(max_time.to_be_bytes());
    // Before there was more than a trace, its length was the first of these bytes, and the second a zero.
    bytes.extend((more.len() as u16).to_le_bytes());
    bytes.extend(lane_length(&lane).to_be_bytes());
    bytes.extend(lane.as_bytes());
    bytes.extend(more.as_bytes());
    bytes.extend(call.args.as_str().as_bytes());
    bytes
}

/// The bytes of a lane, whose names are short.
fn lane_length(lane: &str) -> u16 {
    u16::try_from(lane.len()).unwrap_or(u16::MAX)
}

/// The name of the lane in the bytes of a job.
pub(crate) fn lane_of(job: &[u8]) -> &[u8] {
    let mut unread = Unread(job.get(28..).unwrap_or_default());
    unread.u16().and_then(|length| unread.bytes(length.into())).unwrap_or_default()
}

/// The values that there are of a job.
pub(crate) struct Parts<'a> {
    /// The job itself, or its first bytes.
    job: &'a [u8],
    /// How the job stands, once it has been leased or cancelled.
    standing: Option<&'a [u8]>,
    /// The counts of the job, once it has some.
    counts: Option<&'a [u8]>,
}

impl<'a> Parts<'a> {
    /// The three values as the server gives them; `None` where there is no job.
    pub(crate) fn of([job, standing, counts]: [&'a Value; 3]) -> Read<Option<Self>> {
        let part = |value: &'a Value| match value {
            Value::BulkString(bytes) => Ok(Some(&bytes[..])),
            Value::Nil => Ok(None),
            _ => Err(Fault::Unreadable),
        };
        let (job, standing, counts) = (part(job)?, part(standing)?, part(counts)?);
        Ok(job.map(|job| Self { job, standing, counts }))
    }
}

/// Reads the jobs in an answer, which has of each the id and the parts.
pub(crate) fn jobs(values: &[Value], read: impl Fn(JobId, &Parts<'_>) -> Read<Job>) -> Read<Vec<Job>> {
    let (each, rest) = values.as_chunks();
    if !rest.is_empty() {
        return Err(Fault::Unreadable);
    }
    let one = |[id, parts @ ..]: &[Value; 4]| {
        let Value::BulkString(id) = id else { return Err(Fault::Unreadable) };
        read(job_id(id)?, &Parts::of(parts.each_ref())?.ok_or(Fault::Unreadable)?)
    };
    each.iter().map(one).collect()
}

pub(crate) fn job(id: JobId, parts: &Parts<'_>) -> Read<Job> {
    let (standing, counts) = standing(parts)?;
    Ok(Job { call: call(id, parts.job)?, ended: ended(&standing.state, parts.standing)?, standing, counts })
}

/// When the job ended, if it has.
fn ended(state: &State, standing: Option<&[u8]>) -> Read<Option<Timestamp>> {
    let Some(bytes) = standing.filter(|_| state.kind().is_ended()) else { return Ok(None) };
    Unread(bytes.get(26..).unwrap_or_default()).i64().map(|ended| Some(time(ended)))
}

fn call(id: JobId, bytes: &[u8]) -> Read<JobCall> {
    let mut unread = Unread(bytes);
    let rank = i16::from_be_bytes(unread.take()?);
    let (_due, enqueued, max_time) = (unread.i64()?, unread.i64()?, unread.i64()?);
    let (of_more, of_lane) = (u16::from_le_bytes(unread.take()?), unread.u16()?);
    let (queue, task) = names(unread.text(of_lane.into())?).ok_or(Fault::Unreadable)?;
    let more = unread.text(of_more.into())?;
    let mut call = JobCall {
        id,
        task: task.to_owned(),
        queue: queue.to_owned(),
        priority: !rank,
        args: Json::from_stored(unread.rest()?),
        max_time: (max_time >= 0).then(|| limit(max_time)),
        enqueued: time(enqueued),
        expires: None,
        trace: None,
        key: None,
        after: None,
    };
    read_more(&mut call, Some(more));
    Ok(call)
}

/// Reads how a job stands, and its counts. Of the job itself the first [`UP_TO_DUE`] bytes are enough.
pub(crate) fn standing(Parts { job, standing, counts }: &Parts<'_>) -> Read<(Standing, Counts)> {
    let mut unread = Unread(job);
    let (_rank, first_due) = (unread.take::<2>()?, unread.i64()?);
    let Some(standing) = standing else {
        return Ok((Standing::waiting(time(first_due)), Counts::default()));
    };
    let standing = stands(standing, first_due)?;
    match counts {
        Some(counts) => counting(standing, counts),
        None => Ok((standing, Counts::default())),
    }
}

/// How many bytes of a job go up to the time when it was due first.
pub(crate) const UP_TO_DUE: usize = 10;

/// Reads how a job stands. Of one that runs for the first time it does not say since when that was due.
fn stands(bytes: &[u8], first_due: i64) -> Read<Standing> {
    let mut unread = Unread(bytes);
    let (state, flags, attempt) = (unread.u8()?, unread.u8()?, unread.u32()?);
    let (holder, failures) = (unread.take::<16>()?, unread.u32()?);
    let worker = WorkerId::from_bytes(holder);
    let (due, shape, last) = (unread.i64()?, unread.u8()?, unread.u32()?);
    let suspect = suspect(&mut unread, flags, state == RUNNING)?;
    unread.bytes(last)?;
    let state = match state {
        WAITING if flags & AFTER > 0 => {
            let [a, b, c, d, ..] = holder;
            State::Waiting { due: time(due), parents: u32::from_be_bytes([a, b, c, d]) }
        }
        WAITING => State::waiting(time(due)),
        RUNNING => State::Running { worker, due: time(if due == 0 { first_due } else { due }) },
        ended => ended_state(ended, shape, unread.rest()?)?,
    };
    Ok(Standing { state, attempt, failures, suspect })
}

fn suspect(unread: &mut Unread<'_>, flags: u8, runs: bool) -> Read<Option<Suspect>> {
    if flags & SUSPECT == 0 {
        return Ok(None);
    }
    let (survived, losses, leased) = (Duration::from_millis(unread.u64()?), unread.u32()?, unread.i64()?);
    let leased = (runs && leased != UNKNOWN).then(|| time(leased));
    Ok(Some(Suspect { survived, losses, leased, liable: flags & LIABLE != 0 }))
}

/// Reads the counts, and says how a job stands that stood so at its latest lease or settlement: a step that was recorded
/// since then has forgiven its failures and losses.
fn counting(standing: Standing, bytes: &[u8]) -> Read<(Standing, Counts)> {
    let mut unread = Unread(bytes);
    let attempt = unread.u32()?;
    let (steps, skipped, memos) = (unread.u64()?, unread.u64()?, unread.u64()?);
    let (progressed, progress) = (unread.u8()? == 1, Progress { done: unread.u64()?, total: unread.u64()? });
    let counts = Counts { steps, skipped, memos, progress: progressed.then_some(progress) };
    let has_new_step = matches!(standing.state, State::Running { .. }) && attempt == standing.attempt;
    if !has_new_step {
        return Ok((standing, counts));
    }
    let suspect = standing.suspect.map(|suspect| Suspect { losses: 0, liable: false, ..suspect });
    Ok((Standing { failures: 0, suspect, ..standing }, counts))
}

/// The job after `ask` has leased it; the parts are as they were before.
pub(crate) fn leased(id: JobId, parts: &Parts<'_>, ask: &Ask) -> Read<Job> {
    let Job { call, standing: before, counts, .. } = job(id, parts)?;
    let leased = Some(time(millis(ask.now)));
    let suspect = before.suspect.map(|suspect| Suspect { leased, liable: ask.suspects.liable(), ..suspect });
    let State::Waiting { due, .. } = before.state else { return Err(Fault::Unreadable) };
    let state = State::Running { worker: ask.worker, due };
    let standing = Standing { state, attempt: before.attempt + 1, failures: before.failures, suspect };
    Ok(Job { call, standing, counts, ended: None })
}

fn ended_state(state: u8, shape: u8, outcome: &str) -> Read<State> {
    Ok(match state {
        DONE if shape == VALUE => State::Done { output: Output::Value(Json::from_stored(outcome)) },
        DONE => {
            let shape = shape_of_number(shape).ok_or(Fault::Unreadable)?;
            State::Done { output: Output::Steps(shape) }
        }
        DEAD => State::Dead { error: outcome.to_owned() },
        CANCELLED => State::Cancelled { reason: outcome.to_owned() },
        _ => return Err(Fault::Unreadable),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn new(trace: Option<&str>, expires: Option<Duration>) -> NewJob {
        NewJob::from(JobCall {
            id: JobId::from_bytes([7; 16]),
            task: "send".into(),
            queue: "default".into(),
            priority: 0,
            args: Json::from_stored("{}"),
            max_time: None,
            enqueued: time(1_000),
            expires,
            trace: trace.map(str::to_owned),
            key: None,
            after: None,
        })
    }

    #[test]
    fn a_job_with_a_trace_alone_stands_as_older_programs_write_and_read_it() {
        let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let bytes = new_job(&new(Some(trace), None));
        let lane = b"7:default:send";
        assert_eq!(bytes[26..30], [55, 0, 0, lane.len() as u8], "one byte for the trace, three for the lane");
        assert_eq!(bytes[30..], [&lane[..], trace.as_bytes(), b"{}"].concat());
    }

    #[test]
    fn what_few_calls_have_may_be_longer_than_a_trace() {
        let long = "x".repeat(1_000);
        let given = new(Some(&long), Some(Duration::from_secs(60)));
        let bytes = new_job(&given);
        assert_eq!(lane_of(&bytes), b"7:default:send");
        assert_eq!(call(given.call.id, &bytes).unwrap(), given.call);
    }
}
