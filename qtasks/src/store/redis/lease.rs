//! How due jobs are handed out, and how long workers keep them.

use std::sync::Arc;

use jiff::Timestamp;
use redis::Value;

use super::{coding, failure::Failure, link::Link, rounds::Rounds};
use crate::{
    job::{Job, Lease, WorkerId},
    store::{Ask, Leased},
};

/// As many jobs one script hands out, so that nobody waits long behind it.
const AT_ONCE: usize = 4096;

pub(super) async fn lease(rounds: &Arc<Rounds>, ask: &Ask) -> Result<Leased, Failure> {
    let mut leased = Leased::default();
    loop {
        let limit = (ask.limit - leased.jobs.len()).min(AT_ONCE);
        let suspects = ask.suspects && !leased.jobs.iter().any(|job| job.suspect);
        let (some, ask_again) = lease_some(rounds, ask, limit, suspects).await?;
        let is_last = some.jobs.len() < limit && !ask_again || limit == 0;
        leased.jobs.extend(some.jobs);
        leased.next_due = some.next_due;
        leased.suspects = some.suspects;
        if is_last || leased.jobs.len() == ask.limit {
            return Ok(leased);
        }
    }
}

/// Leases what one script can; gives whether there may be more.
async fn lease_some(rounds: &Arc<Rounds>, ask: &Ask, limit: usize, suspects: bool) -> Result<(Leased, bool), Failure> {
    let mut call = rounds.link.call(|scripts| &scripts.lease);
    call.arg(&ask.worker.to_bytes()).arg(limit).arg(u8::from(suspects)).arg(coding::millis(ask.now));
    for queue in ask.queues.iter() {
        for task in ask.tasks.iter() {
            call.arg(coding::lane(queue, task));
        }
    }
    let answer: Vec<Value> = rounds.ask(call).await?;
    let [next_due, waits, again, jobs @ ..] = &answer[..] else { return Err(Failure::Unreadable) };
    let leased = Leased {
        jobs: coding::jobs(jobs, |id, parts| coding::leased(id, parts, ask.worker))?,
        next_due: match next_due {
            Value::Int(millis) => Some(coding::time(*millis)),
            _ => None,
        },
        suspects: *waits == Value::Int(1),
    };
    Ok((leased, *again == Value::Int(1)))
}

pub(super) async fn renew(link: &Link, worker: WorkerId, until: Timestamp) -> Result<Vec<Lease>, Failure> {
    let mut call = link.call(|scripts| &scripts.renew);
    call.arg(&worker.to_bytes()).arg(coding::millis(until));
    let held: Vec<Vec<u8>> = link.ask(&call).await?;
    held.iter().map(|lease| coding::read_lease(lease, worker)).collect()
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
    coding::jobs(&link.ask::<Vec<Value>>(&call).await?, coding::job)
}
