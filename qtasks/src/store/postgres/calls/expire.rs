//! How jobs are found that have expired.

use std::collections::HashSet;

use jiff::Timestamp;
use tokio_postgres::types::Type;

use crate::store::{
    Expired,
    postgres::{
        encoding::{self, job_columns},
        error::Fault,
        pool::Database,
    },
};

/// Looks at jobs that may have expired. Gives of each whether it has, and those that have. One that cannot expire any more is not looked
/// at again; one that is held may be given back before it has started.
const EXPIRED: &str = concat!(
    "
    WITH next AS MATERIALIZED (
        SELECT e.at, e.job FROM qtasks.expiring e WHERE e.at <= $1 ORDER BY e.at, e.job LIMIT $2 FOR UPDATE SKIP LOCKED
    ), looked AS MATERIALIZED (
        SELECT n.at, n.job,
            CASE
                WHEN j.id IS NULL OR j.state > 2 OR j.state < 0 OR EXISTS (SELECT FROM qtasks.attempts a WHERE a.job = n.job) THEN NULL
                WHEN j.state = 2 THEN $1 + 1000
                ELSE least(j.due + (j.more::json ->> 'expires')::numeric, 9223372036854775807)::int8
            END AS again
        FROM next n LEFT JOIN qtasks.jobs j ON j.id = n.job
    ), gone AS (
        DELETE FROM qtasks.expiring e USING looked l WHERE e.at = l.at AND e.job = l.job AND (l.again > $1 OR l.again IS NULL)
    ), later AS (
        INSERT INTO qtasks.expiring (at, job) SELECT again, job FROM looked WHERE again > $1 ON CONFLICT DO NOTHING
    )
    SELECT ",
    job_columns!(),
    " FROM looked l LEFT JOIN qtasks.jobs j ON j.id = l.job AND l.again <= $1"
);

pub(crate) async fn expired(database: &Database, now: Timestamp, limit: usize) -> Result<Expired, Fault> {
    let (now, count) = (encoding::millis(now), encoding::count(limit));
    let rows = database.query(EXPIRED, &[(&now, Type::INT8), (&count, Type::INT8)]).await?;
    let mut expired = Expired { more: rows.len() == limit, ..Expired::default() };
    let mut seen = HashSet::new();
    for row in rows.iter().filter(|row| !matches!(encoding::get::<Option<uuid::Uuid>>(row, 0), Ok(None))) {
        let job = encoding::job(row)?;
        // A job that was moved stands there twice.
        if seen.insert(job.call.id) {
            expired.jobs.push(job);
        }
    }
    Ok(expired)
}
