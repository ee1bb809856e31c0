//! How old jobs are deleted.

use std::sync::PoisonError;

use jiff::Timestamp;
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::store::postgres::{
    encoding,
    error::Fault,
    pool::{Database, Parameter},
    shared::Shared,
};

/// Deletes jobs that are old enough, and their steps and memos where these are few; gives how many jobs were deleted. A job
/// with many steps is deleted first and its steps bit by bit, so that no caller ever sees half of it.
///
/// Jobs are looked through in the order in which they came, from one of them on: a page at a time, as long as there are jobs
/// on it that came long enough ago. Gives also the last job of the page, and whether there may be more to delete on this
/// page, and behind it.
const PRUNE: &str = "
    WITH page AS MATERIALIZED (
        SELECT j.came, j.id, j.enqueued, j.state >= 3 AND j.ended < CASE j.state WHEN 4 THEN $2 ELSE $1 END AS is_old
        FROM qtasks.jobs j WHERE (j.came, uuid_send(j.id)) > ($4::text::xid8, uuid_send($5))
        ORDER BY j.came, uuid_send(j.id) LIMIT 2000
    ), old AS MATERIALIZED (
        SELECT j.id FROM qtasks.jobs j WHERE j.id = ANY (ARRAY(SELECT id FROM page WHERE is_old LIMIT $3))
            AND j.state >= 3 AND j.ended < CASE j.state WHEN 4 THEN $2 ELSE $1 END
        FOR UPDATE SKIP LOCKED
    ), gone AS (
        DELETE FROM qtasks.jobs j USING old WHERE j.id = old.id RETURNING j.id, j.steps + j.memos AS more, j.more IS NOT NULL AS has_more,
            j.queue, j.task, j.state
    ), counted AS (
        INSERT INTO qtasks.deltas (queue, task, done, dead, cancelled)
        SELECT queue, task, nullif(-count(*) FILTER (WHERE state = 3), 0), nullif(-count(*) FILTER (WHERE state = 4), 0),
            nullif(-count(*) FILTER (WHERE state = 5), 0)
        FROM gone GROUP BY queue, task
    ), attempts AS (
        DELETE FROM qtasks.attempts a USING gone WHERE a.job = gone.id
    ), steps AS (
        DELETE FROM qtasks.steps s USING gone WHERE s.job = gone.id AND gone.more <= 1000
    ), memos AS (
        DELETE FROM qtasks.memos m USING gone WHERE m.job = gone.id AND gone.more <= 1000
    ), expiring AS (
        DELETE FROM qtasks.expiring e USING gone WHERE e.job = gone.id AND gone.has_more
    ), keys AS (
        DELETE FROM qtasks.keys k WHERE (k.task, k.key) IN (
            SELECT k.task, k.key FROM qtasks.keys k JOIN gone ON k.job = gone.id WHERE k.until IS NULL OR k.until < $1
            ORDER BY k.task, k.key FOR UPDATE OF k)
    ), large AS (
        INSERT INTO qtasks.remains SELECT id FROM gone WHERE more > 1000 ON CONFLICT DO NOTHING
    )
    SELECT (SELECT count(*) FROM gone), last.came::text, last.id,
        (SELECT count(*) FROM page WHERE is_old) > $3,
        (SELECT count(*) = 2000 AND min(enqueued) < greatest($1::int8, $2::int8) FROM page)
    FROM (SELECT) AS one LEFT JOIN (SELECT came, id FROM page ORDER BY came DESC, id DESC LIMIT 1) AS last ON true";

/// Deletes some of the steps and memos of jobs that are gone; gives whether there are more.
const SWEEP: &str = "
    WITH next AS MATERIALIZED (
        SELECT job FROM qtasks.remains ORDER BY job LIMIT 1 FOR UPDATE SKIP LOCKED
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
        DELETE FROM qtasks.remains p USING next WHERE p.job = next.job
            AND (SELECT count(*) FROM some_steps) < 4096 AND (SELECT count(*) FROM some_memos) < 4096
    )
    SELECT count(*) > 0 FROM next";

/// Deletes keys whose time is over and whose job is gone, and rows that name no job: a call that was refused has left them.
const OLD_KEYS: &str = "
    DELETE FROM qtasks.keys d WHERE (d.task, d.key) IN (
        SELECT k.task, k.key FROM qtasks.keys k WHERE k.job IS NULL
            OR k.until < $1 AND NOT EXISTS (SELECT FROM qtasks.jobs j WHERE j.id = k.job)
        ORDER BY k.task, k.key FOR UPDATE OF k)";

/// The most jobs that one statement deletes.
const AT_ONCE: usize = 500;

pub(crate) async fn prune(shared: &Shared, finished: Timestamp, dead: Timestamp, limit: usize) -> Result<usize, Fault> {
    let began = from(shared);
    let (mut deleted, mut is_second_round) = (0, began == START);
    while deleted < limit {
        let page = prune_page(&shared.database, finished, dead, (limit - deleted).min(AT_ONCE), from(shared)).await?;
        deleted += page.deleted;
        while encoding::get(&shared.database.query(SWEEP, &[]).await?[0], 0)? {}
        match page.next {
            Some(next) if !is_second_round || began == START || next < began => set_from(shared, next),
            _ if is_second_round => {
                set_from(shared, START);
                break;
            }
            _ => {
                set_from(shared, START);
                is_second_round = true;
            }
        }
    }
    let before = encoding::millis(finished);
    shared.database.query(OLD_KEYS, &[(&before, Type::INT8)]).await?;
    shared.folding.fold(&shared.database).await;
    Ok(deleted)
}

/// The transaction that brought a job, and the job's id.
type Position = (u64, Uuid);

/// The position before all jobs.
const START: Position = (0, Uuid::nil());

fn from(shared: &Shared) -> Position {
    *shared.pruned_upto.lock().unwrap_or_else(PoisonError::into_inner)
}

fn set_from(shared: &Shared, position: Position) {
    *shared.pruned_upto.lock().unwrap_or_else(PoisonError::into_inner) = position;
}

struct Page {
    deleted: usize,
    /// The position from which to go on, where there may be more to delete.
    next: Option<Position>,
}

async fn prune_page(
    database: &Database,
    finished: Timestamp,
    dead: Timestamp,
    limit: usize,
    from: Position,
) -> Result<Page, Fault> {
    let (finished, dead) = (encoding::millis(finished), encoding::millis(dead));
    let (limit, came) = (encoding::count(limit), from.0.to_string());
    let parameters: [Parameter<'_>; 5] = [
        (&finished, Type::INT8),
        (&dead, Type::INT8),
        (&limit, Type::INT8),
        (&came, Type::TEXT),
        (&from.1, Type::UUID),
    ];
    let rows = database.query(PRUNE, &parameters).await?;
    let Some(row) = rows.first() else { return Err(Fault::refused("a search for old jobs was answered with nothing")) };
    let (more_here, more_behind): (bool, bool) = (encoding::get(row, 3)?, encoding::get(row, 4)?);
    let last = encoding::get::<Option<&str>>(row, 1)?.and_then(|came| came.parse().ok());
    let behind = last.zip(encoding::get::<Option<Uuid>>(row, 2)?).filter(|_| more_behind);
    let deleted = encoding::get::<i64>(row, 0)? as usize;
    // Jobs that another process has locked are passed over.
    Ok(Page { deleted, next: if more_here && deleted > 0 { Some(from) } else { behind } })
}
