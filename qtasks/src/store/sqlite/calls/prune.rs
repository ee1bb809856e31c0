//! How old jobs are deleted.

use std::collections::HashSet;

use jiff::Timestamp;
use rusqlite::{OptionalExtension, params};

use crate::store::sqlite::{
    batcher::{command::Write, tables::Tables},
    encoding, ends,
    error::Fault,
    sql::Statements,
};
use crate::{
    error::Result,
    model::job::{JobId, StateKind},
};

/// Deletes a bounded part of what is old; to be repeated while there is [more](Pruned::more).
pub(crate) struct Prune {
    pub(crate) finished: Timestamp,
    pub(crate) dead: Timestamp,
    pub(crate) limit: usize,
}

/// The outcome of a [`Prune`].
pub(crate) struct Pruned {
    pub(crate) jobs: usize,
    pub(crate) more: bool,
}

/// About how many rows one [`Prune`] deletes at most.
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
        let (old, looked_at) = self.old(tables, room.min(encoding::count(self.limit)))?;
        if old.iter().any(|job| job.steps > 0) {
            tables.move_steps()?;
        }
        tables.sql.delete_old_keys.execute([encoding::millis(self.finished)])?;
        let mut jobs = 0;
        for job in &old {
            if room > 0 {
                room -= 1 + delete_job(&mut tables.sql, job, encoding::millis(self.finished))?;
                tables.tally.add(job.lane, job.kind, -1);
                jobs += 1;
            } else {
                tables.ends.add(job.state, job.ended, job.id);
            }
        }
        Ok(Pruned { jobs, more: room <= 0 || looked_at >= PRUNED_ROWS })
    }
}

impl Prune {
    /// Up to `limit` jobs that are old enough, and how many were looked at to find them. Those that are not to be deleted yet are listed
    /// again.
    fn old(&self, tables: &mut Tables<'_>, limit: i64) -> rusqlite::Result<(Vec<Old>, i64)> {
        let (mut old, mut looked_at) = (Vec::new(), 0);
        // A job that has ended again since is listed twice.
        let mut found = HashSet::new();
        for (state, before) in
            [(encoding::DONE, self.finished), (encoding::CANCELLED, self.finished), (encoding::DEAD, self.dead)]
        {
            let before = encoding::millis(before);
            while encoding::count(old.len()) < limit
                && looked_at < PRUNED_ROWS
                && let Some(list) = ends::take(&mut tables.sql, state, before)?
            {
                looked_at += encoding::count(list.len());
                for job in list {
                    let Some(job) = Old::find(&mut tables.sql, job, state)? else { continue };
                    if !found.insert(job.id) {
                        continue;
                    }
                    if job.ended < before && encoding::count(old.len()) < limit {
                        old.push(job);
                    } else {
                        tables.ends.add(state, job.ended, job.id);
                    }
                }
            }
        }
        Ok((old, looked_at))
    }
}

/// A job that has ended, and how much belongs to it.
struct Old {
    id: JobId,
    lane: i64,
    state: i16,
    kind: StateKind,
    ended: i64,
    steps: i64,
    memos: i64,
    /// Whether it has what few jobs have.
    has_more: bool,
}

impl Old {
    /// The job, if it is in this state still or again.
    fn find(sql: &mut Statements<'_>, id: JobId, state: i16) -> rusqlite::Result<Option<Self>> {
        let found = sql.ended.query_row(params![id.to_bytes(), state], |row| {
            let (ended, steps, memos, lane) = (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
            Ok(Self {
                id,
                lane,
                state,
                kind: encoding::state_kind(row, 4)?,
                ended,
                steps,
                memos,
                has_more: row.get(5)?,
            })
        });
        found.optional()
    }

    /// The name of its task and its key, if it has one.
    fn key(&self, sql: &mut Statements<'_>) -> rusqlite::Result<Option<(String, String)>> {
        if !self.has_more {
            return Ok(None);
        }
        sql.key_of.query_row([self.id.to_bytes()], |row| Ok((row.get(0)?, row.get(1)?))).optional()
    }
}

/// Deletes a job, and its steps and memos when they are few; gives how many these were. A key that it holds for a time stays taken.
fn delete_job(sql: &mut Statements<'_>, old: &Old, finished: i64) -> rusqlite::Result<i64> {
    let job = old.id.to_bytes();
    if let Some((task, key)) = old.key(sql)? {
        sql.delete_key.execute(params![task, key, job, finished])?;
    }
    if old.has_more {
        sql.forget_expiring.execute([job])?;
    }
    sql.delete_job.execute([job])?;
    sql.delete_args.execute([job])?;
    sql.delete_attempts.execute([job])?;
    if old.kind == StateKind::Dead {
        sql.delete_dead.execute([job])?;
    }
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

/// Deletes up to `room` steps or memos of a job that is gone; `None` when there is no such job.
fn sweep(sql: &mut Statements<'_>, room: i64) -> rusqlite::Result<Option<i64>> {
    let pruned: Option<([u8; 16], Option<i64>)> =
        sql.pruned.query_row([], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    let Some((job, first)) = pruned else { return Ok(None) };
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
