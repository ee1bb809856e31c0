//! What is written to jobs that run, and what becomes of them.

use std::{collections::HashSet, sync::Arc};

use jiff::Timestamp;
use redis::Value;

use super::enqueue::Batch;
use crate::store::redis::{batcher::Rounds, connection::Link, encoding, error::Failure};
use crate::store::{Record, Settlement, Written};

/// Gives nothing where one leaves a gap.
pub(crate) async fn record(rounds: &Arc<Rounds>, records: &[Record]) -> Result<Option<Vec<Written>>, Failure> {
    let link = &rounds.link;
    let mut call = link.call(|scripts| &scripts.record);
    for Record { lease, steps, memos, jobs, progress, passed } in records {
        let progress = progress.map(|progress| [progress.done.to_be_bytes(), progress.total.to_be_bytes()].concat());
        let mut said = progress.unwrap_or_default();
        said.extend(passed.then_some(b'P'));
        let batch = Batch::of(jobs);
        call.arg(&lease.worker.to_bytes()).arg(encoding::lease(lease.job, lease.attempt));
        call.arg(said);
        call.arg(steps.len()).arg(memos.len()).arg(batch.values());
        for step in steps {
            call.arg(step.seq).arg(encoding::step(step));
        }
        for memo in memos {
            let (kind, place) = memo.step.map_or(("m:", memo.number), |step| ("n:", step));
            call.arg(memo.number).arg(kind).arg(place).arg(encoding::memo(memo));
        }
        batch.add_to(&mut call, link);
    }
    let Some(written) = written(rounds.ask(call).await?)? else { return Ok(None) };
    let written_to = records.iter().zip(&written).filter(|(_, written)| **written == Written::Yes);
    link.bell.ring_jobs(written_to.clone().map(|(record, _)| record.lease.job));
    if written_to.into_iter().any(|(record, _)| !record.jobs.is_empty()) {
        link.bell.ring_work();
    }
    Ok(Some(written))
}

pub(crate) async fn settle(rounds: &Arc<Rounds>, settlements: &[Settlement]) -> Result<Vec<Written>, Failure> {
    let link = &rounds.link;
    let mut call = link.call(|scripts| &scripts.settle);
    for group in groups(settlements) {
        let place = encoding::place(&group[0]);
        call.arg(encoding::hold(&group[0])).arg(place).arg(encoding::time_of(&group[0])).arg(group.len());
        for settlement in group {
            call.arg(encoding::lease(settlement.job, encoding::attempt_of(&settlement.hold)));
            call.arg(encoding::standing(settlement));
            if !settlement.next.is_ended() {
                call.arg(settlement.attempt.as_ref().map(encoding::attempt).unwrap_or_default());
            }
        }
    }
    let written = written(rounds.ask(call).await?)?.ok_or(Failure::Unreadable)?;
    let settled = settlements.iter().zip(&written).filter(|(_, written)| **written == Written::Yes);
    let settled = settled.map(|(settlement, _)| settlement);
    link.bell.ring_jobs(settled.clone().map(|settlement| settlement.job));
    link.bell
        .ring_ends(settled.clone().filter(|settlement| settlement.next.is_ended()).map(|settlement| settlement.job));
    if settled.into_iter().any(|settlement| !settlement.next.is_ended()) {
        link.bell.ring_work();
    }
    Ok(written)
}

/// The settlements in their order, as many together as have the same in common, and none for the same job as another.
fn groups(settlements: &[Settlement]) -> Vec<&[Settlement]> {
    let common = |one: &Settlement| (encoding::hold(one), encoding::place(one), encoding::time_of(one));
    let mut jobs = HashSet::new();
    settlements
        .chunk_by(|one, next| {
            jobs.insert(one.job);
            let together = common(one) == common(next) && !jobs.contains(&next.job);
            if !together {
                jobs.clear();
            }
            together
        })
        .collect()
}

/// What a script says for each of what it was given; nothing, where it has refused all of it.
fn written(answer: Value) -> Result<Option<Vec<Written>>, Failure> {
    let each = match answer {
        Value::Array(each) => each,
        Value::Int(-1) => return Ok(None),
        _ => return Err(Failure::Unreadable),
    };
    let written = each.iter().map(|each| match each {
        Value::Int(1) => Ok(Written::Yes),
        Value::Int(0) => Ok(Written::Fenced),
        _ => Err(Failure::Unreadable),
    });
    written.collect::<Result<_, _>>().map(Some)
}

/// As many jobs one script deletes at most.
const DELETED_AT_ONCE: usize = 500;

pub(crate) async fn prune(link: &Link, finished: Timestamp, dead: Timestamp, limit: usize) -> Result<usize, Failure> {
    let mut deleted = 0;
    loop {
        let some = (limit - deleted).min(DELETED_AT_ONCE);
        let mut call = link.call(|scripts| &scripts.prune);
        call.arg(encoding::millis(finished)).arg(encoding::millis(dead)).arg(some);
        let (looked, count): (usize, usize) = link.ask(&call).await?;
        deleted += count;
        if looked < some || deleted == limit {
            return Ok(deleted);
        }
    }
}
