//! Jobs that wait for others.

use rusqlite::{Connection, OptionalExtension as _, params};

use crate::store::sqlite::{
    batcher::tables::Tables,
    encoding::{self, CANCELLED},
};
use crate::{
    model::job::{AfterFailure, Beginning, JobId, NewJob, StateKind},
    store::Changes,
};

pub(crate) const WAIT: &str = "INSERT OR IGNORE INTO qtasks_waits (parent, job, runs) VALUES (?1, ?2, ?3)";
pub(crate) const HOLD: &str = "UPDATE qtasks_jobs SET state = -1, counted = -1, detail = ?2 WHERE id = ?1";
pub(crate) const CANCEL: &str =
    "UPDATE qtasks_jobs SET state = 5, counted = 5, ended_at = ?2, detail = ?3 WHERE id = ?1 AND state < 2";
const STATE: &str = "SELECT state FROM qtasks_jobs WHERE id = ?1";

/// Has a job wait that was just inserted, if it comes after others that live. Gives whether it is cancelled instead.
pub(crate) fn hold(connection: &Connection, new: &NewJob) -> rusqlite::Result<bool> {
    let Some(after) = &new.call.after else { return Ok(false) };
    let id = new.call.id.to_bytes();
    let mut states = Vec::with_capacity(after.jobs.len());
    let mut state = connection.prepare_cached(STATE)?;
    for parent in &after.jobs {
        let state = state.query_row([parent.to_bytes()], |row| encoding::state_kind(row, 0)).optional()?;
        states.push((*parent, state.unwrap_or(StateKind::Done)));
    }
    let state = |id| states.iter().find(|(parent, _)| *parent == id).map_or(StateKind::Done, |(_, state)| *state);
    match after.begin(state) {
        Beginning::Free => Ok(false),
        Beginning::Waits(live) => {
            let mut wait = connection.prepare_cached(WAIT)?;
            for parent in &live {
                wait.execute(params![parent.to_bytes(), id, after.on_failure == AfterFailure::Run])?;
            }
            connection.prepare_cached(HOLD)?.execute(params![id, live.len().to_string()])?;
            Ok(false)
        }
        Beginning::Cancelled(reason) => {
            let ended = encoding::millis(new.call.enqueued);
            connection.prepare_cached(CANCEL)?.execute(params![id, ended, reason])?;
            Ok(true)
        }
    }
}

/// What the ends of this transaction mean for the jobs that wait for those, and for the jobs that wait for these.
pub(crate) fn release(tables: &mut Tables<'_>) -> rusqlite::Result<()> {
    if tables.ends.is_empty() || !tables.sql.some_waits.exists([])? {
        return Ok(());
    }
    let mut over = tables.ends.jobs();
    while let Some(parent) = over.pop() {
        let id = parent.to_bytes();
        tables.sql.forget_parents.execute([id])?;
        let ended = tables.sql.how_ended.query_row([id], |row| Ok((encoding::state_kind(row, 0)?, row.get(1)?)));
        let Some((state, ended)): Option<(StateKind, i64)> = ended.optional()? else { continue };
        let child = |row: &rusqlite::Row<'_>| Ok((encoding::job_id(row, 0)?, row.get::<_, bool>(1)?));
        let children: Vec<_> = tables.sql.children.query_map([id], child)?.collect::<rusqlite::Result<_>>()?;
        tables.sql.forget_children.execute([id])?;
        for (child, runs) in children {
            let on_failure = if runs { AfterFailure::Run } else { AfterFailure::Cancel };
            match on_failure.cancels(parent, state) {
                Some(reason) => over.extend(cancel(tables, child, ended, &reason)?),
                None => let_on(tables, child, ended)?,
            }
        }
    }
    Ok(())
}

/// Cancels a job that waits for others; gives it, if it was still there.
fn cancel(tables: &mut Tables<'_>, job: JobId, ended: i64, reason: &str) -> rusqlite::Result<Option<JobId>> {
    if tables.sql.cancel_child.execute(params![job.to_bytes(), ended, reason])? == 0 {
        return Ok(None);
    }
    tables.count_settled(job, StateKind::Waiting, StateKind::Cancelled)?;
    tables.ends.add(CANCELLED, ended, job);
    tables.changes.add(Changes::ended(job));
    Ok(Some(job))
}

/// Lets a job wait for one less, or for its time alone.
fn let_on(tables: &mut Tables<'_>, job: JobId, ended: i64) -> rusqlite::Result<()> {
    let id = job.to_bytes();
    let left: u32 = tables.sql.count_parents.query_row([id], |row| row.get(0))?;
    if left > 0 {
        tables.sql.set_parents.execute(params![id, left.to_string()])?;
    } else {
        let due = tables.sql.let_go.query_row(params![id, ended], |row| row.get::<_, i64>(0)).optional()?;
        if let Some(due) = due {
            tables.reach(ended);
            tables.sql.expire_from.execute(params![id, due])?;
        }
    }
    tables.changes.add(Changes::placed(job));
    Ok(())
}
