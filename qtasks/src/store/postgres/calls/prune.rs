//! How old jobs go away.

use jiff::Timestamp;
use tokio_postgres::types::Type;

use crate::store::postgres::{encoding, error::Fault, pool::Database};

/// Deletes jobs that are old enough, and what belongs to them where that is little; gives how many these were, and whether
/// much is left of one. Such a one is deleted first and its steps bit by bit, so that nobody ever sees half of it.
const PRUNE: &str = "
    WITH old AS MATERIALIZED (
        SELECT o.id FROM (VALUES (3::int2, $1::int8), (5::int2, $1), (4::int2, $2)) AS ended(state, before), LATERAL (
            SELECT j.id FROM qtasks.jobs j WHERE j.state = ended.state AND j.state >= 3 AND j.ended < ended.before
            ORDER BY j.ended LIMIT $3 FOR UPDATE SKIP LOCKED) o
        LIMIT $3
    ), gone AS (
        DELETE FROM qtasks.jobs j USING old WHERE j.id = old.id RETURNING j.id, j.steps + j.memos AS more
    ), attempts AS (
        DELETE FROM qtasks.attempts a USING gone WHERE a.job = gone.id
    ), steps AS (
        DELETE FROM qtasks.steps s USING gone WHERE s.job = gone.id AND gone.more <= 1000
    ), memos AS (
        DELETE FROM qtasks.memos m USING gone WHERE m.job = gone.id AND gone.more <= 1000
    ), large AS (
        INSERT INTO qtasks.pruned SELECT id FROM gone WHERE more > 1000 ON CONFLICT DO NOTHING
    )
    SELECT count(*), coalesce(bool_or(more > 1000), false) FROM gone";

/// Deletes some of what is left of jobs that are gone; gives whether there is more.
const SWEEP: &str = "
    WITH next AS MATERIALIZED (
        SELECT job FROM qtasks.pruned ORDER BY job LIMIT 1 FOR UPDATE SKIP LOCKED
    ), some_steps AS MATERIALIZED (
        SELECT s.job, s.seq FROM next, LATERAL (
            SELECT s.job, s.seq FROM qtasks.steps s WHERE s.job = next.job ORDER BY s.seq LIMIT 4096) s
    ), some_memos AS MATERIALIZED (
        SELECT m.job, m.step, m.number FROM next, LATERAL (
            SELECT m.job, m.step, m.number FROM qtasks.memos m WHERE m.job = next.job LIMIT 4096) m
    ), steps AS (
        DELETE FROM qtasks.steps s USING some_steps o WHERE s.job = o.job AND s.seq = o.seq
    ), memos AS (
        DELETE FROM qtasks.memos m USING some_memos o WHERE m.job = o.job AND m.step = o.step AND m.number = o.number
    ), swept AS (
        DELETE FROM qtasks.pruned p USING next WHERE p.job = next.job
            AND (SELECT count(*) FROM some_steps) < 4096 AND (SELECT count(*) FROM some_memos) < 4096
    )
    SELECT count(*) > 0 FROM next";

/// Jobs that one statement deletes at most.
const AT_ONCE: usize = 500;

pub(crate) async fn prune(
    database: &Database,
    finished: Timestamp,
    dead: Timestamp,
    limit: usize,
) -> Result<usize, Fault> {
    let (finished, dead) = (encoding::millis(finished), encoding::millis(dead));
    let mut deleted = 0;
    loop {
        let room = encoding::count((limit - deleted).min(AT_ONCE));
        let parameters = [(&finished as _, Type::INT8), (&dead as _, Type::INT8), (&room as _, Type::INT8)];
        let rows = database.query(PRUNE, &parameters).await?;
        let jobs: i64 = encoding::get(&rows[0], 0)?;
        deleted += jobs as usize;
        while encoding::get(&database.query(SWEEP, &[]).await?[0], 0)? {}
        if jobs < room || deleted >= limit {
            return Ok(deleted);
        }
    }
}
