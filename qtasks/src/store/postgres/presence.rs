//! What is stored of workers: whether they live, and which jobs they hold.

use tokio_postgres::types::Type;

use super::{
    encoding::{self, job_columns},
    error::Fault,
    pool::Database,
};
use crate::{
    model::job::{Job, WorkerId},
    store::Presence,
};

/// The number of the lock that a worker holds.
pub(super) fn sign(worker: WorkerId) -> i64 {
    let [.., a, b, c, d, e, f, g, h] = worker.to_bytes();
    i64::from_be_bytes([a, b, c, d, e, f, g, h])
}

/// Says which server it is. After a restart it counts as another server.
macro_rules! instance {
    () => {
        "(extract(epoch FROM pg_postmaster_start_time()) * 1000000)::int8::text"
    };
}
pub(super) use instance;

/// Finds a row of `leases` with a job that the worker runs.
macro_rules! held {
    ($worker:literal) => {
        concat!(
            "SELECT FROM qtasks.leases l WHERE l.worker = ",
            $worker,
            " AND EXISTS (SELECT FROM qtasks.jobs j WHERE j.id = ANY (l.jobs) AND j.state = 2 AND j.worker = l.worker)
            ORDER BY l.number DESC LIMIT 1"
        )
    };
}

/// A worker that holds jobs stays in the table as lost, so that its jobs can be taken over at once.
const LEAVE: &str = concat!(
    "
    WITH held AS MATERIALIZED (
        SELECT EXISTS (",
    held!("$1"),
    ") AS any
    ), stale AS (
        DELETE FROM qtasks.leases l USING held WHERE l.worker = $1 AND NOT held.any
    ), stays AS (
        INSERT INTO qtasks.workers (id, sign, signed, lost) SELECT $1, $2, false, true FROM held WHERE held.any
        ON CONFLICT (id) DO UPDATE SET signed = false, beat = NULL, lost = true
    ), goes AS (
        DELETE FROM qtasks.workers w USING held WHERE w.id = $1 AND NOT held.any
    )
    SELECT held.any FROM held"
);

/// Forgets a worker; gives whether it held jobs.
pub(super) async fn leave(database: &Database, worker: WorkerId) -> Result<bool, Fault> {
    let (id, sign) = (encoding::worker_id(worker), sign(worker));
    let rows = database.query(LEAVE, &[(&id, Type::UUID), (&sign, Type::INT8)]).await?;
    rows.first().map_or(Ok(false), |row| encoding::get(row, 0))
}

/// Goes by the index from one worker that leased jobs to the next, however many rows there are of each. Of these rows the
/// last ones are the most likely to name a job that runs.
const WORKERS: &str = concat!(
    "
    WITH RECURSIVE one AS (
        (SELECT l.worker FROM qtasks.leases l ORDER BY l.worker LIMIT 1)
        UNION ALL
        SELECT (SELECT l.worker FROM qtasks.leases l WHERE l.worker > o.worker ORDER BY l.worker LIMIT 1)
        FROM one o WHERE o.worker IS NOT NULL
    ), holder AS MATERIALIZED (
        SELECT o.worker FROM one o WHERE o.worker IS NOT NULL AND EXISTS (",
    held!("o.worker"),
    ")
    ), known AS MATERIALIZED (
        SELECT w.id, w.beat, w.lost FROM qtasks.workers w
    )
    SELECT k.id, k.beat, k.lost, EXISTS (SELECT FROM holder h WHERE h.worker = k.id) FROM known k
    UNION ALL
    SELECT h.worker, NULL, false, true FROM holder h
    WHERE NOT EXISTS (SELECT FROM known k WHERE k.id = h.worker)"
);

pub(super) async fn workers(database: &Database) -> Result<Vec<Presence>, Fault> {
    let presence = |row| {
        Ok(Presence {
            worker: encoding::worker(row, 0)?,
            beat: encoding::get::<Option<i64>>(row, 1)?.map(i64::cast_unsigned),
            gone: encoding::get(row, 2)?,
            holds: encoding::get(row, 3)?,
        })
    };
    database.query(WORKERS, &[]).await?.iter().map(presence).collect()
}

const HELD: &str = concat!(
    "SELECT ",
    job_columns!(),
    " FROM qtasks.jobs j
    WHERE j.id = ANY (ARRAY(SELECT unnest(l.jobs) FROM qtasks.leases l WHERE l.worker = $1))
        AND j.state = 2 AND j.worker = $1 LIMIT $2"
);

pub(super) async fn held(database: &Database, worker: WorkerId, limit: usize) -> Result<Vec<Job>, Fault> {
    let (worker, limit) = (encoding::worker_id(worker), encoding::count(limit));
    let rows = database.query(HELD, &[(&worker, Type::UUID), (&limit, Type::INT8)]).await?;
    rows.iter().map(encoding::job).collect()
}

const FORGET: &str = concat!(
    "
    WITH gone AS (
        DELETE FROM qtasks.workers w WHERE w.id = $1 AND w.beat IS NOT DISTINCT FROM $2 AND NOT EXISTS (",
    held!("$1"),
    ") RETURNING w.id
    ) DELETE FROM qtasks.leases l USING gone WHERE l.worker = gone.id"
);

/// Forgets a worker that holds nothing and has not renewed since `beat`.
pub(super) async fn forget(database: &Database, worker: WorkerId, beat: Option<u64>) -> Result<(), Fault> {
    let (worker, beat) = (encoding::worker_id(worker), beat.map(u64::cast_signed));
    database.query(FORGET, &[(&worker, Type::UUID), (&beat, Type::INT8)]).await?;
    Ok(())
}
