//! How due jobs are found and handed out.

use std::{cmp::Reverse, sync::Arc, time::Duration};

use tokio_postgres::types::Type;

use crate::store::postgres::{
    encoding::{self, job_columns},
    error::Fault,
    pool::{Database, Parameter},
    shared::Shared,
    watermark::Urgency,
};
use crate::store::{Ask, Leased};

/// Leases jobs, and takes note of how far the store has taken everything.
pub(crate) async fn lease(shared: Arc<Shared>, ask: Ask) -> Result<Leased, Fault> {
    let since = shared.broadcast.notifier.work();
    let search = shared.watermark.search(&ask);
    let handed = lease_behind(&shared.database, &ask, search.from).await;
    match &handed {
        Ok(Handed { leased, missed: false, left: false }) => shared.watermark.took(&search, &ask, &leased.jobs),
        Ok(_) | Err(_) => shared.watermark.left(&search),
    }
    let handed = handed?;
    if handed.leased.jobs.len() < ask.limit && !handed.missed {
        shared.waiters.caught_up(ask.worker, since);
    } else {
        shared.waiters.fell_behind(ask.worker);
    }
    shared.broadcast.notifier.notify_jobs(handed.leased.jobs.iter().map(|job| job.call.id));
    if handed.missed {
        // What others looked at when we did, they may have left.
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(10)).await;
            shared.broadcast.notifier.notify_work();
        });
    }
    Ok(handed.leased)
}

/// Gives the jobs, each with: when the next one is due, whether suspects wait, and whether any other job still waits.
/// Where there are none, it gives that alone.
///
/// A lane is a task in a queue; of each the most urgent jobs are read by index, together with those whose time has just
/// come, of these some thousands at most. What others hold is passed over. All that was due and is not taken stands in line
/// from then on. Whoever enqueued a job may have a clock that is ahead of the worker's: a few such jobs are looked for, and
/// tell when they are due. Of the suspects the one that has survived least has the seat, and it is taken if it is among
/// the most urgent of all that is chosen from.
const LEASE: &str = concat!(
    "
    WITH lane AS MATERIALIZED (
        SELECT q.queue, t.task FROM unnest($2::text[]) AS q(queue), unnest($3::text[]) AS t(task)
        WHERE coalesce(
            (SELECT true FROM qtasks.jobs j WHERE j.queue = q.queue AND j.task = t.task AND j.state = 1
                AND NOT j.suspect AND (-(j.priority::int4), j.id) > ($7::int4, $8::uuid) LIMIT 1),
            (SELECT true FROM qtasks.jobs j WHERE j.queue = q.queue AND j.task = t.task AND j.state = 1 AND j.suspect LIMIT 1),
            (SELECT true FROM qtasks.jobs j WHERE j.queue = q.queue AND j.task = t.task AND j.state = 0 LIMIT 1))
    ), late AS MATERIALIZED (
        SELECT c.* FROM lane, LATERAL (
            SELECT j.id, j.priority, j.suspect, j.survived FROM qtasks.jobs j
            WHERE j.queue = lane.queue AND j.task = lane.task AND j.state = 0 AND j.due <= $5
            ORDER BY j.due LIMIT 4096 FOR UPDATE SKIP LOCKED) c
    ), ready AS MATERIALIZED (
        SELECT c.* FROM lane, LATERAL (
            SELECT j.id, j.priority FROM qtasks.jobs j
            WHERE j.queue = lane.queue AND j.task = lane.task AND j.state = 1 AND NOT j.suspect AND j.due <= $5
                AND (-(j.priority::int4), j.id) > ($7, $8)
            ORDER BY -(j.priority::int4), j.id LIMIT $4 FOR UPDATE SKIP LOCKED) c
    ), suspect AS MATERIALIZED (
        SELECT c.* FROM lane, LATERAL (
            SELECT j.id, j.priority, j.survived FROM qtasks.jobs j
            WHERE $6 AND j.queue = lane.queue AND j.task = lane.task AND j.state = 1 AND j.suspect AND j.due <= $5
            ORDER BY j.survived, -(j.priority::int4), j.id LIMIT 1 FOR UPDATE SKIP LOCKED) c
    ), seat AS MATERIALIZED (
        SELECT id, priority FROM (
            SELECT id, priority, survived FROM suspect
            UNION ALL SELECT id, priority, survived FROM late WHERE suspect AND $6) s
        ORDER BY survived, priority DESC, id LIMIT 1
    ), chosen AS MATERIALIZED (
        SELECT id FROM (
            SELECT id, priority FROM ready UNION ALL SELECT id, priority FROM late WHERE NOT suspect
            UNION ALL SELECT id, priority FROM seat) c
        ORDER BY priority DESC, id LIMIT $4
    ), taken AS (
        UPDATE qtasks.jobs j SET state = 2, worker = $1, attempt = j.attempt + 1,
            leased = CASE WHEN j.suspect THEN $5 END, liable = CASE WHEN j.suspect THEN $9 END
        WHERE j.id = ANY (ARRAY(SELECT id FROM chosen))
        RETURNING ",
    job_columns!(),
    "
    ), in_line AS (
        UPDATE qtasks.jobs j SET state = 1
        WHERE j.id = ANY (ARRAY(SELECT id FROM late EXCEPT SELECT id FROM chosen))
    ), ahead AS MATERIALIZED (
        SELECT c.due FROM lane, LATERAL (
            SELECT j.due FROM qtasks.jobs j
            WHERE j.queue = lane.queue AND j.task = lane.task AND j.state = 1 AND NOT j.suspect
                AND (-(j.priority::int4), j.id) > ($7, $8)
            ORDER BY -(j.priority::int4), j.id LIMIT $4 + 64) c
        WHERE c.due > $5
    ), rest AS (
        SELECT
            (SELECT min(c.due) FROM lane, LATERAL (
                (SELECT j.due FROM qtasks.jobs j
                WHERE j.queue = lane.queue AND j.task = lane.task AND j.state = 0 AND j.due > $5
                ORDER BY j.due LIMIT 1)
                UNION ALL
                (SELECT j.due FROM qtasks.jobs j
                WHERE j.queue = lane.queue AND j.task = lane.task AND j.state = 1 AND j.suspect
                ORDER BY j.survived, -(j.priority::int4), j.id LIMIT 64)
                UNION ALL
                SELECT due FROM ahead) c
            WHERE c.due > $5) AS next_due,
            EXISTS (SELECT FROM lane, LATERAL (
                SELECT j.id FROM qtasks.jobs j
                WHERE j.queue = lane.queue AND j.task = lane.task AND j.state = 1 AND j.suspect AND j.due <= $5
                LIMIT 2) s WHERE NOT EXISTS (SELECT FROM chosen c WHERE c.id = s.id))
            OR EXISTS (SELECT FROM late l
                WHERE l.suspect AND NOT EXISTS (SELECT FROM chosen c WHERE c.id = l.id)) AS suspects,
            (SELECT count(*) FROM ready) < $4 AND EXISTS (SELECT FROM lane, LATERAL (
                SELECT j.id FROM qtasks.jobs j
                WHERE j.queue = lane.queue AND j.task = lane.task AND j.state = 1 AND NOT j.suspect AND j.due <= $5
                    AND (-(j.priority::int4), j.id) > ($7, $8)
                ORDER BY -(j.priority::int4), j.id LIMIT 64) r
                WHERE NOT EXISTS (SELECT FROM ready WHERE ready.id = r.id)) AS missed,
            EXISTS (SELECT FROM ahead) OR EXISTS (SELECT FROM late) AS left
    )
    SELECT t.*, r.next_due, r.suspects, r.missed, r.left FROM rest r LEFT JOIN taken t ON true"
);

/// What was leased.
struct Handed {
    leased: Leased,
    /// Whether jobs were passed over since somebody else looked at them at the same time.
    missed: bool,
    /// Whether more urgent ones may stand before those that were leased.
    left: bool,
}

/// Leases jobs behind `from`.
async fn lease_behind(database: &Database, ask: &Ask, from: Urgency) -> Result<Handed, Fault> {
    let worker = encoding::worker_id(ask.worker);
    let queues = once_each(ask.queues.iter().map(String::as_str));
    let tasks = once_each(ask.tasks.iter().copied());
    let (limit, now) = (i64::from(u32::try_from(ask.limit).unwrap_or(u32::MAX)), encoding::millis(ask.now));
    let (one_suspect, liable) = (ask.suspects.allow_one(), ask.suspects.liable());
    let parameters: [Parameter<'_>; 9] = [
        (&worker, Type::UUID),
        (&queues, Type::TEXT_ARRAY),
        (&tasks, Type::TEXT_ARRAY),
        (&limit, Type::INT8),
        (&now, Type::INT8),
        (&one_suspect, Type::BOOL),
        (&from.0, Type::INT4),
        (&from.1, Type::UUID),
        (&liable, Type::BOOL),
    ];
    let rows = database.query(LEASE, &parameters).await?;
    let mut jobs = Vec::with_capacity(rows.len());
    for row in &rows {
        if encoding::get::<Option<uuid::Uuid>>(row, 0)?.is_some() {
            jobs.push(encoding::job(row)?);
        }
    }
    jobs.sort_by_key(|job| (Reverse(job.call.priority), job.call.id));
    let Some(row) = rows.first() else { return Err(Fault::refused("a lease was answered with nothing")) };
    let next_due = encoding::get::<Option<i64>>(row, 20)?.map(encoding::time);
    let leased = Leased { jobs, next_due, suspects: encoding::get(row, 21)? };
    Ok(Handed { leased, missed: encoding::get(row, 22)?, left: encoding::get(row, 23)? })
}

fn once_each<'t>(names: impl Iterator<Item = &'t str>) -> Vec<&'t str> {
    let mut names: Vec<_> = names.collect();
    names.sort_unstable();
    names.dedup();
    names
}
