//! Keys, and the jobs that have taken them last.

use jiff::Timestamp;
use rusqlite::{Connection, params};

use super::read::{self, holder_of};
use crate::store::sqlite::{encoding, insert::LARGE, sql};
use crate::{
    error::Error,
    model::{
        job::{JobCall, JobId, NewJob},
        unique::{Claim, HolderState},
    },
    store::{self, more::more_of_replacing},
};

pub(crate) const TAKE: &str = "INSERT OR REPLACE INTO qtasks_keys (task, key, job, until) VALUES (?1, ?2, ?3, ?4)";
pub(crate) const RETAKE: &str = "INSERT INTO qtasks_keys (task, key, job) VALUES (?1, ?2, ?3) ON CONFLICT (task, key) DO UPDATE SET job = excluded.job";
pub(crate) const REPLACE: &str = "UPDATE qtasks_jobs SET rank = ?2, state = min(state, ?3), counted = min(state, ?3), due = ?4, max_time = ?5, args = ?6,
     more = CASE WHEN json_extract(more, '$.after') IS NULL THEN ?7 ELSE json_set(?7, '$.after', json_extract(more, '$.after')) END
     WHERE id = ?1";
const IS_THERE: &str = "SELECT 1 FROM qtasks_jobs WHERE id = ?1";

/// What becomes of a job that has a key.
pub(crate) enum Claimed {
    /// It has taken the key, and is to be added.
    New,
    /// This one holds the key, and is the job of its call.
    Joined(JobId),
    /// This one holds the key, and the call is refused.
    Refused(JobId),
}

/// Why one of the jobs cannot be added, if it is refused: then none is.
pub(crate) fn refusal(connection: &Connection, jobs: &[NewJob]) -> rusqlite::Result<Option<Error>> {
    store::refusal::refusal(jobs, |id| is_there(connection, id), |task, key| holder_of(connection, task, key))
}

/// Takes the key of a job, or finds the job that holds it. A job that is there already has done so.
pub(crate) fn claim(connection: &Connection, new: &NewJob) -> rusqlite::Result<Claimed> {
    let Some(((task, key), unique)) = new.keyed() else { return Ok(Claimed::New) };
    if is_there(connection, new.call.id)? {
        return Ok(Claimed::New);
    }
    let found = holder_of(connection, task, key)?;
    let Some((holder, claim)) = found.map(|holder| (holder.job, unique.claim(new, &holder))) else {
        return take(connection, &new.call, unique.until).map(|()| Claimed::New);
    };
    match claim {
        Claim::Takes => take(connection, &new.call, unique.until).map(|()| Claimed::New),
        Claim::Joins => Ok(Claimed::Joined(holder)),
        Claim::Replaces(due) => replace(connection, holder, &new.call, due).map(|()| Claimed::Joined(holder)),
        Claim::Refused => Ok(Claimed::Refused(holder)),
    }
}

pub(crate) fn is_there(connection: &Connection, id: JobId) -> rusqlite::Result<bool> {
    connection.prepare_cached(IS_THERE)?.exists([id.to_bytes()])
}

fn take(connection: &Connection, call: &JobCall, until: Option<Timestamp>) -> rusqlite::Result<()> {
    let (id, until) = (call.id.to_bytes(), until.map(encoding::millis));
    connection.prepare_cached(TAKE)?.execute(params![call.task, call.key, id, until]).map(drop)
}

/// Gives a job that waits, and never started, what a call says anew.
fn replace(connection: &Connection, id: JobId, call: &JobCall, due: Timestamp) -> rusqlite::Result<()> {
    let (bytes, args, due) = (id.to_bytes(), call.args.as_str(), encoding::millis(due));
    let large = args.len() > LARGE;
    connection.prepare_cached(REPLACE)?.execute(params![
        bytes,
        -i64::from(call.priority),
        encoding::LATER,
        due,
        call.max_time.map(encoding::limit_millis),
        (!large).then_some(args),
        more_of_replacing(call),
    ])?;
    connection.prepare_cached(sql::DELETE_ARGS)?.execute([bytes])?;
    if large {
        connection.prepare_cached(sql::INSERT_ARGS)?.execute(params![bytes, args])?;
    }
    if let Some(expires) = call.expires {
        let at = due.saturating_add(encoding::limit_millis(expires));
        connection.prepare_cached(sql::INSERT_EXPIRING)?.execute(params![at, bytes])?;
    }
    Ok(())
}

/// Whether a job that has ended may live again: no other one lives that has its key. Gives its call then, if it has a key.
pub(crate) fn may_live_again(connection: &Connection, id: JobId) -> rusqlite::Result<(bool, Option<JobCall>)> {
    let Some(call) = read::job(connection, id)?.map(|job| job.call) else { return Ok((true, None)) };
    let Some(key) = &call.key else { return Ok((true, None)) };
    let lives = |there: HolderState| !there.state.is_ended();
    let taken = holder_of(connection, &call.task, key)?;
    let is_taken = taken.is_some_and(|holder| holder.job != id && holder.there.is_some_and(lives));
    Ok((!is_taken, Some(call)))
}

/// Gives a job its key again.
pub(crate) fn retake(connection: &Connection, call: &JobCall) -> rusqlite::Result<()> {
    connection.prepare_cached(RETAKE)?.execute(params![call.task, call.key, call.id.to_bytes()]).map(drop)
}
