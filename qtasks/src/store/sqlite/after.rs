//! How jobs begin that come after others.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::encoding;
use crate::model::job::{AfterFailure, Beginning, NewJob, StateKind};

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
