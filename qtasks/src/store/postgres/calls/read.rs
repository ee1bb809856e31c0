//! The calls that read jobs and what belongs to them.

use jiff::Timestamp;
use tokio_postgres::types::Type;

use crate::{
    model::job::{Attempt, Counts, Job, JobId, Memo, Standing, Step},
    store::{
        FIRST_ATTEMPTS, LAST_ATTEMPTS, Lane,
        postgres::{
            encoding::{self, job_columns, standing_columns},
            error::Fault,
            pool::{Database, Parameter},
        },
    },
};

const JOB: &str = concat!("SELECT ", job_columns!(), " FROM qtasks.jobs j WHERE j.id = $1");

pub(crate) async fn job(database: &Database, id: JobId) -> Result<Option<Job>, Fault> {
    let rows = database.query(JOB, &[(&encoding::job_id(id), Type::UUID)]).await?;
    rows.first().map(encoding::job).transpose()
}

const STANDING: &str = concat!("SELECT ", standing_columns!(), " FROM qtasks.jobs j WHERE j.id = $1");

pub(crate) async fn standing(database: &Database, id: JobId) -> Result<Option<(Standing, Counts)>, Fault> {
    let rows = database.query(STANDING, &[(&encoding::job_id(id), Type::UUID)]).await?;
    rows.first().map(encoding::standing).transpose()
}

/// Goes by index from lane to lane, so that the many jobs of each are not looked at. Fresh jobs behind the mark are left out:
/// they are few, and do not wait there for long.
const DUE_LANES: &str = "
    WITH RECURSIVE fresh AS (
        (SELECT j.queue, j.task FROM qtasks.jobs j WHERE j.fresh ORDER BY j.queue, j.task LIMIT 1)
        UNION ALL
        SELECT n.queue, n.task FROM fresh r, LATERAL (
            SELECT j.queue, j.task FROM qtasks.jobs j WHERE j.fresh AND (j.queue, j.task) > (r.queue, r.task)
            ORDER BY j.queue, j.task LIMIT 1) n
    ), ready AS (
        (SELECT j.queue, j.task FROM qtasks.jobs j WHERE j.list = 1 ORDER BY j.queue, j.task LIMIT 1)
        UNION ALL
        SELECT n.queue, n.task FROM ready r, LATERAL (
            SELECT j.queue, j.task FROM qtasks.jobs j WHERE j.list = 1 AND (j.queue, j.task) > (r.queue, r.task)
            ORDER BY j.queue, j.task LIMIT 1) n
    ), suspect AS (
        (SELECT j.queue, j.task FROM qtasks.jobs j WHERE j.list = 2 ORDER BY j.queue, j.task LIMIT 1)
        UNION ALL
        SELECT n.queue, n.task FROM suspect r, LATERAL (
            SELECT j.queue, j.task FROM qtasks.jobs j WHERE j.list = 2 AND (j.queue, j.task) > (r.queue, r.task)
            ORDER BY j.queue, j.task LIMIT 1) n
    ), later AS (
        (SELECT j.queue, j.task FROM qtasks.jobs j WHERE j.list = 0 ORDER BY j.queue, j.task LIMIT 1)
        UNION ALL
        SELECT n.queue, n.task FROM later r, LATERAL (
            SELECT j.queue, j.task FROM qtasks.jobs j WHERE j.list = 0 AND (j.queue, j.task) > (r.queue, r.task)
            ORDER BY j.queue, j.task LIMIT 1) n
    )
    SELECT f.queue, f.task FROM fresh f LEFT JOIN qtasks.lanes k ON k.queue = f.queue AND k.task = f.task
        AND pg_snapshot_xmax(k.seen) <= pg_snapshot_xmax(pg_current_snapshot())
    WHERE EXISTS (SELECT FROM qtasks.jobs j WHERE j.queue = f.queue AND j.task = f.task AND j.fresh
        AND uuid_send(j.id) >= uuid_send(coalesce(k.upto, '00000000-0000-0000-0000-000000000000')) AND j.state = 1 AND j.list IS NULL)
    UNION SELECT queue, task FROM ready
    UNION SELECT queue, task FROM suspect
    UNION SELECT l.queue, l.task FROM later l WHERE EXISTS (
        SELECT FROM qtasks.jobs j WHERE j.queue = l.queue AND j.task = l.task AND j.list = 0 AND j.due <= $1)";

pub(crate) async fn due_lanes(database: &Database, now: Timestamp) -> Result<Vec<Lane>, Fault> {
    let rows = database.list(DUE_LANES, &[(&encoding::millis(now), Type::INT8)]).await?;
    rows.iter().map(|row| Ok(Lane { queue: row.try_get(0)?, task: row.try_get(1)? })).collect()
}

const STEPS: &str =
    "SELECT seq, hash, skipped, reply FROM qtasks.steps WHERE job = $1 AND seq >= $2 ORDER BY seq LIMIT $3";

pub(crate) async fn steps(database: &Database, id: JobId, from: u64, limit: usize) -> Result<Vec<Step>, Fault> {
    let (id, from, limit) = (encoding::job_id(id), encoding::count(from), encoding::count(limit));
    let rows = database.query(STEPS, &[(&id, Type::UUID), (&from, Type::INT8), (&limit, Type::INT8)]).await?;
    rows.iter().map(encoding::step).collect()
}

const LAST_STEP: &str =
    "SELECT seq, hash, skipped, reply FROM qtasks.steps WHERE job = $1 AND NOT skipped ORDER BY seq DESC LIMIT 1";

pub(crate) async fn last_step(database: &Database, id: JobId) -> Result<Option<Step>, Fault> {
    let rows = database.query(LAST_STEP, &[(&encoding::job_id(id), Type::UUID)]).await?;
    rows.first().map(encoding::step).transpose()
}

const MEMOS: &str = "SELECT step, number, name, nth, value FROM qtasks.memos
     WHERE job = $1 AND step = $2 AND number >= $3 ORDER BY number LIMIT $4";

pub(crate) async fn memos(
    database: &Database,
    id: JobId,
    step: Option<u64>,
    from: u64,
    limit: usize,
) -> Result<Vec<Memo>, Fault> {
    let (id, step, from, limit) =
        (encoding::job_id(id), encoding::memo_step(step), encoding::count(from), encoding::count(limit));
    let parameters: [Parameter<'_>; 4] =
        [(&id, Type::UUID), (&step, Type::INT8), (&from, Type::INT8), (&limit, Type::INT8)];
    database.query(MEMOS, &parameters).await?.iter().map(encoding::memo).collect()
}

/// Reads only as many attempts as are kept, for an older qtasks may have left more.
const ATTEMPTS: &str = "
    SELECT number, worker, started, ended, ending, steps FROM qtasks.attempts WHERE job = $1 AND (
        number > (SELECT number FROM qtasks.attempts WHERE job = $1 ORDER BY number LIMIT 1 OFFSET $2 - 1)
        AND number < (SELECT number FROM qtasks.attempts WHERE job = $1 ORDER BY number DESC LIMIT 1 OFFSET $3 - 1)
    ) IS NOT TRUE
    UNION ALL
    SELECT attempt, worker, started, ended, '\"done\"', steps FROM qtasks.jobs
    WHERE id = $1 AND state = 3 AND worker IS NOT NULL
    ORDER BY number";

pub(crate) async fn attempts(database: &Database, id: JobId) -> Result<Vec<Attempt>, Fault> {
    let (id, first, last) = (encoding::job_id(id), encoding::count(FIRST_ATTEMPTS), encoding::count(LAST_ATTEMPTS));
    let parameters: [Parameter<'_>; 3] = [(&id, Type::UUID), (&first, Type::INT8), (&last, Type::INT8)];
    database.query(ATTEMPTS, &parameters).await?.iter().map(encoding::attempt).collect()
}

const TIME: &str = "SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::int8";

/// Reads the time by the clock of the server.
pub(crate) async fn time(database: &Database) -> Result<Option<Timestamp>, Fault> {
    let rows = database.query(TIME, &[]).await?;
    rows.first().map(|row| Ok(encoding::time(encoding::get(row, 0)?))).transpose()
}
