//! How steps and memos are appended.

use std::{cmp::Ordering, sync::Arc};

use rusqlite::{OptionalExtension, params};

use super::enqueue::enqueue;
use crate::store::sqlite::{
    batcher::{command::Write, tables::Tables},
    encoding,
    error::Fault,
    sql::Statements,
    steps::New,
};
use crate::{
    error::Result,
    model::job::{JobId, Lease, Memo, Progress, Step},
    store::{Changes, GAP, Record, Written},
};

pub(crate) struct Records(pub(crate) Arc<[Record]>);

impl Write for Records {
    type Outcome = Vec<Written>;
    const DOING: &'static str = "record steps";

    fn weight(&self) -> usize {
        self.0.iter().map(|record| 1 + record.steps.len() + record.memos.len() + record.jobs.len()).sum()
    }

    fn apply(&self, tables: &mut Tables<'_>) -> Result<Vec<Written>, Fault> {
        tables.changes.add(Changes::recorded(&*self.0));
        let mut new = New::default();
        let written = self.0.iter().map(|record| append(tables, record, &mut new)).collect::<Result<_, _>>()?;
        tables.add_steps(new)?;
        Ok(written)
    }
}

fn append(tables: &mut Tables<'_>, record: &Record, new: &mut New) -> Result<Written, Fault> {
    let sql = &mut tables.sql;
    // Nearly always the steps go on where those recorded end, and then there is nothing to ask first.
    if let Some(first) = follow_each_other(&record.steps)
        && record.memos.is_empty()
        && advance(sql, record, encoding::count(first.seq), &record.steps)? == 1
    {
        report(sql, record)?;
        new.add(sql, record.lease.job.to_bytes(), record.steps.iter())?;
        _ = enqueue(tables, &record.jobs)?;
        return Ok(Written::Yes);
    }
    let Lease { job, attempt, worker } = record.lease;
    let holds = params![job.to_bytes(), worker.to_bytes(), attempt];
    let recorded = sql.recorded.query_row(holds, |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    let Some((steps, memos)) = recorded else { return Ok(Written::Fenced) };
    let new_steps = missing(&record.steps, |step| step.seq, steps)?;
    let new_memos = missing(&record.memos, |memo| memo.number, memos)?;
    if !new_steps.is_empty() {
        advance(sql, record, steps, new_steps.iter().copied())?;
    } else if record.passed {
        sql.pass.execute([job.to_bytes()])?;
    }
    report(sql, record)?;
    insert_memos(sql, record.lease.job, &new_memos)?;
    new.add(sql, record.lease.job.to_bytes(), new_steps.iter().copied())?;
    _ = enqueue(tables, &record.jobs)?;
    Ok(Written::Yes)
}

/// The first of some steps whose numbers have neither gaps nor repetitions.
fn follow_each_other(steps: &[Step]) -> Option<&Step> {
    let first = steps.first()?;
    let follow = steps.iter().zip(0_u64..).all(|(step, index)| step.seq.checked_sub(first.seq) == Some(index));
    follow.then_some(first)
}

/// The steps or memos that are not among the first `recorded`, nor earlier in the same record.
fn missing<T>(things: &[T], number: impl Fn(&T) -> u64, recorded: i64) -> Result<Vec<&T>, Fault> {
    let mut next = recorded;
    let mut new = Vec::new();
    for thing in things {
        match encoding::count(number(thing)).cmp(&next) {
            Ordering::Less => {}
            Ordering::Equal => {
                next += 1;
                new.push(thing);
            }
            Ordering::Greater => return Err(Fault::Contract(GAP)),
        }
    }
    Ok(new)
}

/// Counts new steps, if the lease holds and so many steps are recorded; gives 1 if so.
fn advance<'s>(
    sql: &mut Statements<'_>,
    record: &Record,
    recorded: i64,
    new: impl IntoIterator<Item = &'s Step>,
) -> rusqlite::Result<usize> {
    let (mut count, mut skipped) = (0_i64, 0_i64);
    for step in new {
        count += 1;
        skipped += i64::from(step.reply.is_skipped());
    }
    sql.advance.execute(params![
        record.lease.job.to_bytes(),
        record.lease.worker.to_bytes(),
        record.lease.attempt,
        recorded,
        count,
        skipped,
    ])
}

fn report(sql: &mut Statements<'_>, record: &Record) -> rusqlite::Result<()> {
    let Some(Progress { done, total }) = record.progress else { return Ok(()) };
    sql.progress.execute(params![record.lease.job.to_bytes(), done.cast_signed(), total.cast_signed()]).map(drop)
}

fn insert_memos(sql: &mut Statements<'_>, job: JobId, memos: &[&Memo]) -> rusqlite::Result<()> {
    if memos.is_empty() {
        return Ok(());
    }
    let job = job.to_bytes();
    sql.count_memos.execute(params![job, encoding::count(memos.len())])?;
    for Memo { number, step, name, nth, value } in memos {
        let (step, number, nth) = (encoding::memo_step(*step), encoding::count(*number), encoding::count(*nth));
        sql.insert_memo.execute(params![job, step, number, name, nth, value.as_str()])?;
    }
    Ok(())
}
