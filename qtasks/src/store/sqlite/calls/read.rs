//! What is read from the tables, and how.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::{
    model::{
        job::{Attempt, Counts, Job, JobId, Memo, Standing, WorkerId},
        unique::{Holder, HolderState},
    },
    store::{
        FIRST_ATTEMPTS, LAST_ATTEMPTS, Lane,
        sqlite::encoding::{self, job_columns, standing_columns},
    },
};

/// Reads several tables as they are at one moment. After an error the connection is to be closed.
pub(crate) fn at_one_moment<T>(
    connection: &Connection,
    read: impl FnOnce() -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    connection.prepare_cached("BEGIN")?.execute([])?;
    let found = read()?;
    connection.prepare_cached("COMMIT")?.execute([])?;
    Ok(found)
}

pub(crate) const JOB: &str = concat!(
    "SELECT ",
    job_columns!(),
    " FROM qtasks_jobs AS j JOIN qtasks_lanes AS l ON l.id = j.lane WHERE j.id = ?1"
);

pub(crate) fn job(connection: &Connection, id: JobId) -> rusqlite::Result<Option<Job>> {
    connection.prepare_cached(JOB)?.query_row([id.to_bytes()], encoding::job).optional()
}

pub(crate) const HOLDER: &str = "SELECT k.job, k.until, j.state, j.attempt, j.enqueued
     FROM qtasks_keys AS k LEFT JOIN qtasks_jobs AS j ON j.id = k.job WHERE k.task = ?1 AND k.key = ?2";

/// Reads the columns of [`HOLDER`].
pub(crate) fn holder(row: &Row<'_>) -> rusqlite::Result<Holder> {
    let there = match row.get::<_, Option<i16>>(2)? {
        Some(_) => Some(HolderState {
            state: encoding::state_kind(row, 2)?,
            attempt: row.get(3)?,
            enqueued: encoding::time(row.get(4)?),
        }),
        None => None,
    };
    Ok(Holder { job: encoding::job_id(row, 0)?, until: row.get::<_, Option<i64>>(1)?.map(encoding::time), there })
}

pub(crate) fn holder_of(connection: &Connection, task: &str, key: &str) -> rusqlite::Result<Option<Holder>> {
    connection.prepare_cached(HOLDER)?.query_row([task, key], holder).optional()
}

pub(crate) const STANDING: &str = concat!("SELECT ", standing_columns!(), " FROM qtasks_jobs AS j WHERE j.id = ?1");

pub(crate) fn standing(connection: &Connection, id: JobId) -> rusqlite::Result<Option<(Standing, Counts)>> {
    connection.prepare_cached(STANDING)?.query_row([id.to_bytes()], encoding::standing).optional()
}

pub(crate) const MEMOS: &str = "SELECT step, number, name, nth, value FROM qtasks_memos
     WHERE job = ?1 AND step = ?2 AND number >= ?3 ORDER BY number LIMIT ?4";

pub(crate) fn memos(
    connection: &Connection,
    id: JobId,
    step: Option<u64>,
    from: u64,
    limit: usize,
) -> rusqlite::Result<Vec<Memo>> {
    let values = params![id.to_bytes(), encoding::memo_step(step), encoding::count(from), encoding::count(limit)];
    connection.prepare_cached(MEMOS)?.query_map(values, encoding::memo)?.collect()
}

/// Which attempts of a job (`?1`) are not kept: those behind the first `?2` and before the last `?3`.
macro_rules! between_kept_attempts {
    () => {
        "number > (SELECT number FROM qtasks_attempts WHERE job = ?1 ORDER BY number LIMIT 1 OFFSET ?2 - 1)
         AND number < (SELECT number FROM qtasks_attempts WHERE job = ?1 ORDER BY number DESC LIMIT 1 OFFSET ?3 - 1)"
    };
}
pub(crate) use between_kept_attempts;

/// The attempts of a job that are kept. An older qtasks may have written more of them. One that ended the job well stands in
/// the row of the job.
pub(crate) const ATTEMPTS: &str = concat!(
    "SELECT number, worker, started, ended, ending, error, steps FROM qtasks_attempts WHERE job = ?1 AND (",
    between_kept_attempts!(),
    ") IS NOT TRUE
     UNION ALL SELECT attempt, worker, started, ended_at, 'done', NULL, steps FROM qtasks_jobs
     WHERE id = ?1 AND state = 3 AND worker IS NOT NULL ORDER BY 1"
);

pub(crate) fn attempts(connection: &Connection, id: JobId) -> rusqlite::Result<Vec<Attempt>> {
    let values = params![id.to_bytes(), encoding::count(FIRST_ATTEMPTS), encoding::count(LAST_ATTEMPTS)];
    connection.prepare_cached(ATTEMPTS)?.query_map(values, encoding::attempt)?.collect()
}

/// One job of each lane is looked for by index, however many there are.
pub(crate) const DUE_LANES: &str = "
    SELECT l.queue, l.task FROM qtasks_lanes AS l WHERE
        EXISTS (SELECT 1 FROM qtasks_jobs AS j INDEXED BY qtasks_ready
            WHERE j.lane = l.id AND j.state = 1 AND j.suspect = 0)
        OR EXISTS (SELECT 1 FROM qtasks_jobs AS j INDEXED BY qtasks_suspects
            WHERE j.lane = l.id AND j.state = 1 AND j.suspect = 1)
        OR EXISTS (SELECT 1 FROM qtasks_jobs AS j INDEXED BY qtasks_later
            WHERE j.lane = l.id AND j.state = 0 AND j.due <= ?1)";

pub(crate) fn due_lanes(connection: &Connection, now: Timestamp) -> rusqlite::Result<Vec<Lane>> {
    let lane = |row: &rusqlite::Row<'_>| Ok(Lane { queue: row.get(0)?, task: row.get(1)? });
    connection.prepare_cached(DUE_LANES)?.query_map([encoding::millis(now)], lane)?.collect()
}

/// The workers that hold jobs: goes from worker to worker, so that the many jobs of each are not looked at.
pub(crate) const HOLDERS: &str = "
    WITH RECURSIVE holders (worker) AS (
        SELECT min(worker) FROM qtasks_jobs INDEXED BY qtasks_running WHERE state = 2
        UNION ALL
        SELECT (SELECT min(n.worker) FROM qtasks_jobs AS n INDEXED BY qtasks_running
            WHERE n.state = 2 AND n.worker > holders.worker)
        FROM holders WHERE holders.worker IS NOT NULL)
    SELECT worker FROM holders WHERE worker IS NOT NULL";

pub(crate) const JOBS_OF: &str = concat!(
    "SELECT ",
    job_columns!(),
    " FROM qtasks_jobs AS j INDEXED BY qtasks_running CROSS JOIN qtasks_lanes AS l ON l.id = j.lane
      WHERE j.worker = ?1 AND j.state = 2 LIMIT ?2"
);

pub(crate) fn holders(connection: &Connection) -> rusqlite::Result<Vec<WorkerId>> {
    connection.prepare_cached(HOLDERS)?.query_map([], |row| encoding::worker_id(row, 0))?.collect()
}

pub(crate) fn held(connection: &Connection, worker: WorkerId, limit: usize) -> rusqlite::Result<Vec<Job>> {
    let values = params![worker.to_bytes(), encoding::count(limit)];
    connection.prepare_cached(JOBS_OF)?.query_map(values, encoding::job)?.collect()
}
