//! The changes: each a struct with what it needs to know, applied inside the writer's transaction.

use std::{cmp::Ordering, collections::HashMap};

use jiff::Timestamp;
use rusqlite::{OptionalExtension, Statement, params};

use super::enqueue::enqueue;
use crate::store::sqlite::{
    encoding::{self, Standing},
    error::Fault,
    sql::Statements,
    steps::New,
    writer::{queue::Write, tables::Tables},
};
use crate::{
    error::Result,
    model::job::{Attempt, JobId, Lease, Memo, Progress, State, Step, Suspect, WorkerId},
    store::{FIRST_ATTEMPTS, GAP, Hold, KEPT_ATTEMPTS, LAST_ATTEMPTS, Record, Settlement, Written},
};

pub(crate) struct Records(pub(crate) Vec<Record>);

impl Write for Records {
    type Outcome = Vec<Written>;
    const DOING: &'static str = "record steps";

    fn weight(&self) -> usize {
        self.0.iter().map(|record| 1 + record.steps.len() + record.memos.len() + record.jobs.len()).sum()
    }

    fn apply(&self, tables: &mut Tables<'_>) -> Result<Vec<Written>, Fault> {
        tables.news.jobs.extend(self.0.iter().map(|record| record.lease.job));
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
        enqueue(tables, &record.jobs)?;
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
    enqueue(tables, &record.jobs)?;
    Ok(Written::Yes)
}

/// The first of some steps whose numbers have neither gaps nor repetitions.
fn follow_each_other(steps: &[Step]) -> Option<&Step> {
    let first = steps.first()?;
    let follow = steps.iter().zip(0_u64..).all(|(step, place)| step.seq.checked_sub(first.seq) == Some(place));
    follow.then_some(first)
}

/// Those that are not among the first `recorded`, nor named before.
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
            Ordering::Greater => return Err(Fault::Misuse(GAP)),
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

pub(crate) struct Settle(pub(crate) Vec<Settlement>);

impl Write for Settle {
    type Outcome = Vec<Written>;
    const DOING: &'static str = "settle jobs";

    fn weight(&self) -> usize {
        self.0.len()
    }

    fn apply(&self, tables: &mut Tables<'_>) -> Result<Vec<Written>, Fault> {
        tables.news.jobs.extend(self.0.iter().map(|settlement| settlement.job));
        let ended = self.0.iter().filter(|settlement| settlement.next.is_ended());
        tables.news.ended.extend(ended.map(|settlement| settlement.job));
        tables.news.work |= self.0.iter().any(|settlement| matches!(settlement.next, State::Waiting { .. }));
        self.0.iter().for_each(|settlement| _ = tables.reach(encoding::millis(settlement.now)));
        let (workers, sql) = (&tables.workers, &mut tables.sql);
        let mut judged = HashMap::new();
        let mut is_silent = |worker, beat| *judged.entry((worker, beat)).or_insert_with(|| workers.judge(worker, beat));
        self.0.iter().map(|settlement| settle(sql, settlement, &mut is_silent)).collect()
    }
}

fn settle(
    sql: &mut Statements<'_>,
    settlement: &Settlement,
    is_silent: &mut impl FnMut(WorkerId, Option<u64>) -> bool,
) -> Result<Written, Fault> {
    let id = settlement.job.to_bytes();
    let Standing { state, due, ended, shape, outcome } = Standing::new(&settlement.next, settlement.now)?;
    let (failures, steps) = (settlement.failures, settlement.steps.map(encoding::count));
    let suspect = settlement.suspect.is_some();
    let Suspect { survived, losses, .. } = settlement.suspect.unwrap_or_default();
    let survived = encoding::survived_millis(survived);
    let changed = match settlement.hold {
        Hold::Lease(lease) | Hold::Silent { lease, .. } => {
            if lease.job != settlement.job {
                return Ok(Written::Fenced);
            }
            // A worker is judged only where there is something to take from it.
            if let Hold::Silent { beat, .. } = settlement.hold
                && !(runs_under(sql, lease)? && is_silent(lease.worker, beat))
            {
                return Ok(Written::Fenced);
            }
            let (attempt, worker) = (lease.attempt, lease.worker.to_bytes());
            sql.settle_leased.execute(params![
                state, due, ended, shape, outcome, failures, suspect, survived, losses, id, attempt, worker, steps
            ])?
        }
        Hold::Seen { state: seen, attempt } => {
            let (first, last) = encoding::codes(seen);
            sql.settle_seen.execute(params![
                state, due, ended, shape, outcome, failures, suspect, survived, losses, id, attempt, first, last, steps
            ])?
        }
    };
    if changed == 0 {
        return Ok(Written::Fenced);
    }
    if let Some(attempt) = &settlement.attempt {
        insert_attempt(&mut sql.insert_attempt, id, attempt)?;
        if attempt.number > KEPT_ATTEMPTS {
            sql.trim_attempts.execute(params![id, encoding::count(FIRST_ATTEMPTS), encoding::count(LAST_ATTEMPTS)])?;
        }
    }
    Ok(Written::Yes)
}

fn runs_under(sql: &mut Statements<'_>, lease: Lease) -> rusqlite::Result<bool> {
    sql.recorded.exists(params![lease.job.to_bytes(), lease.worker.to_bytes(), lease.attempt])
}

fn insert_attempt(insert_attempt: &mut Statement<'_>, job: [u8; 16], attempt: &Attempt) -> rusqlite::Result<()> {
    let (ending, error) = encoding::ending_columns(&attempt.ending);
    let (started, ended) = (attempt.started.map(encoding::millis), encoding::millis(attempt.ended));
    let worker = attempt.worker.to_bytes();
    insert_attempt.execute(params![job, attempt.number, worker, started, ended, ending, error]).map(drop)
}

/// Deletes a bounded part of what is old; to be repeated while there is [more](Pruned::more).
pub(crate) struct Prune {
    pub(crate) finished: Timestamp,
    pub(crate) dead: Timestamp,
    pub(crate) limit: usize,
}

/// What a [`Prune`] came to.
pub(crate) struct Pruned {
    pub(crate) jobs: usize,
    pub(crate) more: bool,
}

/// Rows that one [`Prune`] deletes at most, about.
const PRUNED_ROWS: i64 = 4096;

impl Write for Prune {
    type Outcome = Pruned;
    const DOING: &'static str = "prune old jobs";

    fn weight(&self) -> usize {
        encoding::count(self.limit).min(PRUNED_ROWS) as usize
    }

    fn apply(&self, tables: &mut Tables<'_>) -> Result<Pruned, Fault> {
        let sql = &mut tables.sql;
        let mut room = PRUNED_ROWS;
        // A job with many steps is deleted first and its steps bit by bit, so that half of it is never seen.
        while room > 0
            && let Some(deleted) = sweep(sql, room)?
        {
            room -= deleted;
        }
        let old = self.old(sql, room.min(encoding::count(self.limit)))?;
        if old.iter().any(|job| job.steps > 0) {
            tables.move_steps()?;
        }
        let sql = &mut tables.sql;
        let mut jobs = 0;
        for job in &old {
            if room <= 0 {
                break;
            }
            room -= 1 + delete_job(sql, job)?;
            jobs += 1;
        }
        Ok(Pruned { jobs, more: room <= 0 })
    }
}

impl Prune {
    fn old(&self, sql: &mut Statements<'_>, limit: i64) -> rusqlite::Result<Vec<Old>> {
        let mut old = Vec::new();
        for (state, before) in
            [(encoding::DONE, self.finished), (encoding::CANCELLED, self.finished), (encoding::DEAD, self.dead)]
        {
            let left = limit - encoding::count(old.len());
            let found = sql.ended.query_map(params![state, encoding::millis(before), left], |row| {
                Ok(Old { id: encoding::job_id(row, 0)?, steps: row.get(1)?, memos: row.get(2)? })
            })?;
            for job in found {
                old.push(job?);
            }
        }
        Ok(old)
    }
}

/// A job that is old enough, and how much belongs to it.
struct Old {
    id: JobId,
    steps: i64,
    memos: i64,
}

/// Deletes a job, and its steps and memos when they are few; gives how many these were.
fn delete_job(sql: &mut Statements<'_>, old: &Old) -> rusqlite::Result<i64> {
    let job = old.id.to_bytes();
    sql.delete_job.execute([job])?;
    sql.delete_args.execute([job])?;
    sql.delete_attempts.execute([job])?;
    if old.steps + old.memos > PRUNED_ROWS / 4 {
        sql.insert_pruned.execute([job])?;
        return Ok(PRUNED_ROWS);
    }
    if old.steps > 0 {
        sql.delete_steps.execute(params![job, i64::MAX])?;
    }
    if old.memos > 0 {
        sql.delete_memos.execute(params![job, i64::MAX])?;
    }
    Ok(old.steps + old.memos)
}

/// Deletes up to `room` steps or memos of a job that is gone; nothing when no such job is left.
fn sweep(sql: &mut Statements<'_>, room: i64) -> rusqlite::Result<Option<i64>> {
    let left: Option<([u8; 16], Option<i64>)> =
        sql.pruned.query_row([], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    let Some((job, first)) = left else { return Ok(None) };
    if let Some(first) = first {
        sql.delete_steps.execute(params![job, first + room])?;
        return Ok(Some(room));
    }
    let memos = encoding::count(sql.delete_memos.execute(params![job, room])?);
    if memos < room {
        sql.delete_pruned.execute([job])?;
    }
    Ok(Some(memos + 1))
}
