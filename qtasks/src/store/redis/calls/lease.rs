//! How due jobs are leased.

use std::sync::Arc;

use redis::Value;

use crate::{
    model::job::Job,
    store::{
        Ask, Leased, Suspects,
        redis::{
            batcher::Batcher,
            encoding::{self, Parts},
            error::Fault,
        },
    },
};

/// The most jobs that one script leases, so that other calls do not wait long behind it.
const AT_ONCE: usize = 4096;

pub(crate) async fn lease(batcher: &Arc<Batcher>, ask: &Ask) -> Result<Leased, Fault> {
    let mut leased = Leased::default();
    loop {
        let limit = (ask.limit - leased.jobs.len()).min(AT_ONCE);
        let has_one = leased.jobs.iter().any(|job| job.standing.suspect.is_some());
        let suspects = if has_one { Suspects::PassOver } else { ask.suspects };
        let (some, ask_again) = lease_some(batcher, ask, limit, suspects).await?;
        let is_last = some.jobs.len() < limit && !ask_again || limit == 0;
        leased.jobs.extend(some.jobs);
        leased.next_due = some.next_due;
        leased.suspects = some.suspects;
        if is_last || leased.jobs.len() == ask.limit {
            return Ok(leased);
        }
    }
}

/// Leases as many jobs as one script can. Gives also whether there may be more.
async fn lease_some(
    batcher: &Arc<Batcher>,
    ask: &Ask,
    limit: usize,
    suspects: Suspects,
) -> Result<(Leased, bool), Fault> {
    let suspects = match suspects {
        Suspects::PassOver => 0,
        Suspects::OneBesideOthers => 1,
        Suspects::OneAlone => 2,
    };
    let mut call = batcher.link.call(|scripts| &scripts.lease);
    call.arg(&ask.worker.to_bytes()).arg(limit).arg(suspects).arg(encoding::millis(ask.now));
    for queue in ask.queues.iter() {
        for task in ask.tasks.iter() {
            call.arg(encoding::lane(queue, task));
        }
    }
    let answer: Vec<Value> = batcher.ask(call).await?;
    let [next_due, waits, again, Value::Array(ids), Value::Array(jobs), Value::Array(before)] = &answer[..] else {
        return Err(Fault::Unreadable);
    };
    let leased = Leased {
        jobs: read_jobs(ids, jobs, before, ask)?,
        next_due: match next_due {
            Value::Int(millis) => Some(encoding::time(*millis)),
            _ => None,
        },
        suspects: *waits == Value::Int(1),
    };
    Ok((leased, *again == Value::Int(1)))
}

/// Reads the jobs that were leased, with what stood there of those that have run before.
fn read_jobs(ids: &[Value], jobs: &[Value], before: &[Value], ask: &Ask) -> Result<Vec<Job>, Fault> {
    let (before, rest) = before.as_chunks();
    let mut before = before.iter().map(|[number, stood @ ..]: &[Value; 3]| (number, stood)).peekable();
    if ids.len() != jobs.len() || !rest.is_empty() {
        return Err(Fault::Unreadable);
    }
    let each = (1..).zip(ids.iter().zip(jobs)).filter_map(|(number, (id, job))| {
        let stood = before.next_if(|(of, _)| **of == Value::Int(number)).map_or(&NEW, |(_, stood)| stood);
        let Value::BulkString(id) = id else { return Some(Err(Fault::Unreadable)) };
        // One that turned out to be called off is not there.
        let parts = Parts::of([job, &stood[0], &stood[1]]).transpose()?;
        Some(parts.and_then(|parts| encoding::leased(encoding::job_id(id)?, &parts, ask)))
    });
    each.collect()
}

/// What stands of a job that never ran.
const NEW: [Value; 2] = [Value::Nil, Value::Nil];
