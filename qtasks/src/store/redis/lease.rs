//! How due jobs are handed out, and how long workers keep them.

use jiff::Timestamp;
use redis::Value;

use super::{coding, failure::Failure, link::Link};
use crate::{
    job::{Job, Lease, WorkerId},
    store::{Ask, Leased},
};

/// As many jobs one script hands out, so that nobody waits long behind it.
const AT_ONCE: usize = 4096;

pub(super) async fn lease(link: &Link, ask: &Ask) -> Result<Leased, Failure> {
    let mut leased = Leased::default();
    loop {
        let limit = (ask.limit - leased.jobs.len()).min(AT_ONCE);
        let suspects = ask.suspects && !leased.jobs.iter().any(|job| job.suspect);
        let some = lease_some(link, ask, limit, suspects).await?;
        let is_last = some.jobs.len() < limit || limit == 0;
        leased.jobs.extend(some.jobs);
        leased.next_due = some.next_due;
        leased.suspects = some.suspects;
        if is_last || leased.jobs.len() == ask.limit {
            return Ok(leased);
        }
    }
}

async fn lease_some(link: &Link, ask: &Ask, limit: usize, suspects: bool) -> Result<Leased, Failure> {
    let mut call = link.call(|scripts| &scripts.lease);
    call.arg(&ask.worker.to_bytes()).arg(limit).arg(u8::from(suspects)).arg(coding::millis(ask.now));
    for queue in ask.queues.iter() {
        for task in ask.tasks.iter() {
            call.arg(coding::lane(queue, task));
        }
    }
    let answer: Vec<Value> = link.ask(&call).await?;
    let [next_due, waits, jobs @ ..] = &answer[..] else { return Err(Failure::Unreadable) };
    let read = |[id, bytes]: &[Value; 2]| match (id, bytes) {
        (Value::BulkString(id), Value::BulkString(bytes)) => coding::leased(coding::job_id(id)?, bytes, ask.worker),
        _ => Err(Failure::Unreadable),
    };
    Ok(Leased {
        jobs: jobs.as_chunks().0.iter().map(read).collect::<Result<_, _>>()?,
        next_due: match next_due {
            Value::Int(millis) => Some(coding::time(*millis)),
            _ => None,
        },
        suspects: *waits == Value::Int(1),
    })
}

pub(super) async fn renew(link: &Link, worker: WorkerId, until: Timestamp) -> Result<Vec<Lease>, Failure> {
    let mut call = link.call(|scripts| &scripts.renew);
    call.arg(&worker.to_bytes()).arg(coding::millis(until));
    let held: Vec<(Vec<u8>, u32)> = link.ask(&call).await?;
    held.iter().map(|(job, attempt)| Ok(Lease { job: coding::job_id(job)?, attempt: *attempt, worker })).collect()
}

pub(super) async fn leave(link: &Link, worker: WorkerId) -> Result<(), Failure> {
    let mut call = link.call(|scripts| &scripts.leave);
    call.arg(&worker.to_bytes());
    link.ask(&call).await
}

/// Jobs that one call finds at most.
const FOUND_AT_ONCE: usize = 10_000;

pub(super) async fn expired(link: &Link, now: Timestamp, limit: usize) -> Result<Vec<Job>, Failure> {
    let mut call = link.call(|scripts| &scripts.expired);
    call.arg(coding::millis(now)).arg(limit.min(FOUND_AT_ONCE));
    let found: Vec<(Vec<u8>, Vec<u8>)> = link.ask(&call).await?;
    found.iter().map(|(id, bytes)| coding::job(coding::job_id(id)?, bytes)).collect()
}
