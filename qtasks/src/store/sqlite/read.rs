//! The questions: what is read from the tables, and how.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, ToSql, params};

use super::row::{self, job_columns};
use crate::{
    job::{Attempt, Job, JobId, State, Step},
    store::Filter,
};

const JOB: &str = concat!(
    "SELECT ",
    job_columns!(),
    " FROM qtasks_jobs AS j JOIN qtasks_lanes AS l ON l.id = j.lane WHERE j.id = ?1"
);

pub(super) fn job(connection: &Connection, id: JobId) -> rusqlite::Result<Option<Job>> {
    connection.prepare_cached(JOB)?.query_row([id.to_bytes()], row::job).optional()
}

pub(super) fn jobs(
    connection: &Connection,
    filter: &Filter,
    after: Option<JobId>,
    limit: usize,
) -> rusqlite::Result<Vec<Job>> {
    let after = after.map_or(Vec::new(), |id| id.to_bytes().to_vec());
    let limit = row::count(limit);
    let (first, last) = filter.state.map(row::codes).unwrap_or_default();
    let sql = jobs_sql(filter);
    let mut values: Vec<&dyn ToSql> = vec![&after, &limit];
    if let Some(task) = &filter.task {
        values.push(task);
    }
    if let Some(queue) = &filter.queue {
        values.push(queue);
    }
    if filter.state.is_some() {
        values.extend([&first as &dyn ToSql, &last]);
    }
    connection.prepare_cached(&sql)?.query_map(&values[..], row::job)?.collect()
}

/// Takes the values `after`, `limit`, and those of the filter in its order.
fn jobs_sql(filter: &Filter) -> String {
    // Running jobs are few among many, and those that only pass by are not looked at.
    let running = filter.state == Some(State::Running { worker: crate::job::WorkerId::default() }.name());
    let way = if running { "INDEXED BY qtasks_running" } else { "NOT INDEXED" };
    let mut sql = format!(
        "SELECT {} FROM qtasks_jobs AS j {way} CROSS JOIN qtasks_lanes AS l ON l.id = j.lane WHERE j.id > ?1",
        job_columns!()
    );
    if running {
        sql.push_str(" AND j.worker IS NOT NULL");
    }
    for (given, condition) in [
        (filter.task.is_some(), " AND l.task = ?"),
        (filter.queue.is_some(), " AND l.queue = ?"),
        (filter.state.is_some(), " AND j.state BETWEEN ? AND ?"),
    ] {
        sql.push_str(if given { condition } else { "" });
    }
    sql.push_str(" ORDER BY j.id LIMIT ?2");
    sql
}

const STEPS: &str =
    "SELECT seq, hash, skipped, reply FROM qtasks_steps WHERE job = ?1 AND seq >= ?2 ORDER BY seq LIMIT ?3";

pub(super) fn steps(connection: &Connection, id: JobId, from: u64, limit: usize) -> rusqlite::Result<Vec<Step>> {
    let values = params![id.to_bytes(), row::count(from), row::count(limit)];
    connection.prepare_cached(STEPS)?.query_map(values, row::step)?.collect()
}

const LAST_STEP: &str =
    "SELECT seq, hash, skipped, reply FROM qtasks_steps WHERE job = ?1 AND skipped = 0 ORDER BY seq DESC LIMIT 1";

pub(super) fn last_step(connection: &Connection, id: JobId) -> rusqlite::Result<Option<Step>> {
    connection.prepare_cached(LAST_STEP)?.query_row([id.to_bytes()], row::step).optional()
}

const ATTEMPTS: &str =
    "SELECT number, worker, started, ended, ending, error FROM qtasks_attempts WHERE job = ?1 ORDER BY number";

pub(super) fn attempts(connection: &Connection, id: JobId) -> rusqlite::Result<Vec<Attempt>> {
    connection.prepare_cached(ATTEMPTS)?.query_map([id.to_bytes()], row::attempt)?.collect()
}

/// Goes from worker to worker, so that the many jobs of those that live are not looked at.
const EXPIRED: &str = concat!(
    "WITH RECURSIVE holders (worker) AS (
        SELECT min(worker) FROM qtasks_jobs INDEXED BY qtasks_running WHERE worker IS NOT NULL
        UNION ALL
        SELECT (SELECT min(n.worker) FROM qtasks_jobs AS n INDEXED BY qtasks_running WHERE n.worker > holders.worker)
        FROM holders WHERE holders.worker IS NOT NULL)
    SELECT ",
    job_columns!(),
    " FROM holders CROSS JOIN qtasks_jobs AS j INDEXED BY qtasks_running ON j.worker = holders.worker
    CROSS JOIN qtasks_lanes AS l ON l.id = j.lane
    WHERE holders.worker IS NOT NULL
        AND NOT EXISTS (SELECT 1 FROM qtasks_workers AS w WHERE w.id = holders.worker AND w.until >= ?1)
    LIMIT ?2"
);

pub(super) fn expired(connection: &Connection, now: Timestamp, limit: usize) -> rusqlite::Result<Vec<Job>> {
    let values = params![row::millis(now), row::count(limit)];
    connection.prepare_cached(EXPIRED)?.query_map(values, row::job)?.collect()
}
