//! How due jobs are found and leased.

use std::{cmp::Reverse, sync::Arc, time::Duration};

use tokio_postgres::types::Type;

use super::mark;
use crate::store::postgres::{
    encoding::{self, JOB_COLUMNS, job_columns},
    error::Fault,
    pool::{Database, Parameter},
    shared::Shared,
    watermark::{self, Search},
};
use crate::{
    model::job::Job,
    store::{Ask, Changes, Leased},
};

/// Leases jobs, and takes note of how far the store has taken everything.
pub(crate) async fn lease(shared: Arc<Shared>, ask: Ask) -> Result<Leased, Fault> {
    let turn = shared.waiters.turn(ask.worker).await;
    let since = shared.broadcast.notifier.work();
    let mut handed = lease_once(&shared, &ask).await?;
    if handed.leased.jobs.is_empty() && !handed.everywhere {
        shared.watermark.forget();
        handed = lease_once(&shared, &ask).await?;
    }
    if handed.leased.jobs.len() < ask.limit && !handed.missed {
        shared.waiters.caught_up(ask.worker, since, &handed.leased);
    } else {
        shared.waiters.fell_behind(ask.worker);
    }
    drop(turn);
    shared.broadcast.notifier.notify(&Changes::progressed(handed.leased.jobs.iter().map(|job| job.call.id)));
    if handed.missed {
        // Jobs that other calls were looking at may have been left by them.
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(10)).await;
            shared.broadcast.notifier.notify_work();
        });
    }
    if shared.watermark.is_mark_due(handed.leased.jobs.len()) {
        tokio::spawn(async move { mark::mark(&shared, &ask).await });
    }
    Ok(handed.leased)
}

/// Makes one search, and takes note of how far it got.
async fn lease_once(shared: &Shared, ask: &Ask) -> Result<Handed, Fault> {
    let search = shared.watermark.search(ask);
    let handed = search_from(&shared.database, ask, &search).await;
    match &handed {
        Ok(Handed { leased, missed: false, left: false, .. }) => shared.watermark.took(&search, ask, &leased.jobs),
        Ok(_) | Err(_) => shared.watermark.left(&search),
    }
    let handed = handed?;
    if let Some(number) = handed.number {
        shared.folding.wrote();
        shared.leases.add(ask.worker, number, handed.leased.jobs.iter().filter_map(Job::lease));
    }
    Ok(handed)
}

/// Gives the jobs, and beside each of them when the next one is due, whether suspects wait, and whether any other job still
/// waits. If no job is leased, it gives one row with the latter alone.
///
/// A lane is a task in a queue. Fresh jobs are read by their ids from the first that waits, the head, which is looked for from
/// where the lane, and this store, have taken all; where the search is one of everything, also those behind that which have come to light since. With them come the most urgent of
/// the line, and those whose time has just come, of these some thousands at most. Rows that other calls have locked are
/// passed over. Jobs whose time has come and that are not taken stand in line from then on. The process that enqueued a job
/// may have a clock that is ahead of the worker's: a few such jobs are looked for, to learn when they are due. Of the
/// suspects the one that has survived least has the seat, and it is taken if it is among the most urgent of all that is
/// chosen from.
///
/// The statement does not wait for its commit to be durable: if a crash of the server takes a lease back, another lease of
/// the job fences off all that the worker writes, and each step that is recorded makes the lease durable too.
///
/// The mark of a lane is of no use if it knows of more transactions than the server has counted, as on a server that was
/// filled from a dump of another.
const LEASE: &str = concat!(
    "
    WITH asked AS MATERIALIZED (
        SELECT q.queue, t.task, greatest(l.upto, $7::uuid) AS start, l.seen
        FROM unnest($2::text[]) AS q(queue) CROSS JOIN unnest($3::text[]) AS t(task)
        LEFT JOIN qtasks.lanes l ON l.queue = q.queue AND l.task = t.task
            AND pg_snapshot_xmax(l.seen) <= pg_snapshot_xmax(pg_current_snapshot())
    ), head AS MATERIALIZED (
        SELECT a.queue, a.task, (
            SELECT j.id FROM qtasks.jobs j WHERE j.queue = a.queue AND j.task = a.task AND j.fresh
                AND uuid_send(j.id) >= uuid_send(a.start) AND j.state = 1 AND j.list IS NULL
            ORDER BY uuid_send(j.id) LIMIT 1) AS head
        FROM asked a
    ), lane AS MATERIALIZED (
        SELECT h.queue, h.task, h.head FROM head h
        WHERE coalesce(h.head IS NOT NULL OR NULL,
            (SELECT true FROM qtasks.jobs j WHERE j.queue = h.queue AND j.task = h.task AND j.list = 1 LIMIT 1),
            (SELECT true FROM qtasks.jobs j WHERE j.queue = h.queue AND j.task = h.task AND j.list = 2 LIMIT 1),
            (SELECT true FROM qtasks.jobs j WHERE j.queue = h.queue AND j.task = h.task AND j.list = 0 LIMIT 1))
    ), late AS MATERIALIZED (
        SELECT c.* FROM lane, LATERAL (
            SELECT j.id, j.priority, j.suspect, j.survived FROM qtasks.jobs j
            WHERE j.queue = lane.queue AND j.task = lane.task AND j.list = 0 AND j.due <= $5
            ORDER BY j.due LIMIT 4096 FOR UPDATE SKIP LOCKED) c
    ), fresh AS MATERIALIZED (
        SELECT c.* FROM lane, LATERAL (
            SELECT j.id, j.priority FROM qtasks.jobs j
            WHERE j.queue = lane.queue AND j.task = lane.task AND j.fresh
                AND uuid_send(j.id) >= uuid_send(lane.head) AND j.state = 1 AND j.list IS NULL AND j.due <= $5
            ORDER BY uuid_send(j.id) LIMIT $4 FOR UPDATE SKIP LOCKED) c
    ), ready AS MATERIALIZED (
        SELECT c.* FROM lane, LATERAL (
            SELECT j.id, j.priority FROM qtasks.jobs j
            WHERE j.queue = lane.queue AND j.task = lane.task AND j.list = 1 AND j.due <= $5
            ORDER BY -(j.priority::int4), j.id LIMIT $4 FOR UPDATE SKIP LOCKED) c
    ), recent AS MATERIALIZED (
        SELECT j.id, j.queue, j.task, j.due FROM qtasks.jobs j
        WHERE $8 AND j.fresh IS NOT FALSE AND j.state = 1 AND j.list IS NULL
            AND j.came >= (SELECT pg_snapshot_xmax(seen) FROM asked WHERE seen IS NOT NULL ORDER BY 1 LIMIT 1)
            AND uuid_send(j.id) < (SELECT uuid_send(start) FROM asked ORDER BY start DESC LIMIT 1)
        UNION
        SELECT j.id, j.queue, j.task, j.due FROM qtasks.jobs j
        WHERE $8 AND j.fresh IS NOT FALSE AND j.state = 1 AND j.list IS NULL
            AND j.came = ANY (ARRAY(SELECT pg_snapshot_xip(seen) FROM asked))
    ), came AS MATERIALIZED (
        SELECT r.id FROM recent r JOIN asked a ON a.queue = r.queue AND a.task = r.task WHERE r.id < a.start AND r.due <= $5
    ), behind AS MATERIALIZED (
        SELECT j.id, j.priority FROM qtasks.jobs j
        WHERE j.id = ANY (ARRAY(SELECT id FROM came ORDER BY id LIMIT $4)) AND j.state = 1 AND j.list IS NULL
        ORDER BY j.id FOR UPDATE SKIP LOCKED
    ), suspect AS MATERIALIZED (
        SELECT c.* FROM lane, LATERAL (
            SELECT j.id, j.priority, j.survived FROM qtasks.jobs j
            WHERE $6 AND j.queue = lane.queue AND j.task = lane.task AND j.list = 2 AND j.due <= $5
            ORDER BY j.survived, -(j.priority::int4), j.id LIMIT 1 FOR UPDATE SKIP LOCKED) c
    ), seat AS MATERIALIZED (
        SELECT id, priority FROM (
            SELECT id, priority, survived FROM suspect
            UNION ALL SELECT id, priority, survived FROM late WHERE suspect AND $6) s
        ORDER BY survived, priority DESC, id LIMIT 1
    ), found AS MATERIALIZED (
        SELECT id, priority FROM fresh UNION ALL SELECT id, priority FROM ready UNION ALL SELECT id, priority FROM behind
    ), chosen AS MATERIALIZED (
        SELECT id FROM (
            SELECT id, priority FROM found UNION ALL SELECT id, priority FROM late WHERE NOT suspect
            UNION ALL SELECT id, priority FROM seat) c
        ORDER BY priority DESC, id LIMIT $4
    ), taken AS (
        UPDATE qtasks.jobs j SET state = 2, list = NULL, worker = $1, attempt = j.attempt + 1,
            leased = CASE WHEN j.suspect THEN $5 END, liable = CASE WHEN j.suspect THEN $9 END
        WHERE j.id = ANY (ARRAY(SELECT id FROM chosen))
        RETURNING ",
    job_columns!(),
    "
    ), noted AS (
        INSERT INTO qtasks.leases (worker, jobs) SELECT $1, array_agg(t.id) FROM taken t HAVING count(*) > 0 RETURNING number
    ), counted AS (
        INSERT INTO qtasks.deltas (queue, task, waiting, running)
        SELECT t.queue, t.task, -count(*), count(*) FROM taken t GROUP BY t.queue, t.task
    ), in_line AS (
        UPDATE qtasks.jobs j SET state = 1, list = CASE WHEN j.suspect THEN 2 ELSE 1 END
        WHERE j.id = ANY (ARRAY(SELECT id FROM late EXCEPT SELECT id FROM chosen))
    ), waits AS MATERIALIZED (
        SELECT c.id, c.due FROM lane, LATERAL (
            (SELECT j.id, j.due FROM qtasks.jobs j
            WHERE j.queue = lane.queue AND j.task = lane.task AND j.fresh
                AND uuid_send(j.id) >= uuid_send(lane.head) AND j.state = 1 AND j.list IS NULL
            ORDER BY uuid_send(j.id) LIMIT $4 + 64)
            UNION ALL
            (SELECT j.id, j.due FROM qtasks.jobs j WHERE j.queue = lane.queue AND j.task = lane.task AND j.list = 1
            ORDER BY -(j.priority::int4), j.id LIMIT $4 + 64)) c
        WHERE NOT EXISTS (SELECT FROM unnest(ARRAY(SELECT id FROM found)) AS f(id) WHERE f.id = c.id)
    ), rest AS MATERIALIZED (
        SELECT
            (SELECT min(c.due) FROM lane, LATERAL (
                (SELECT j.due FROM qtasks.jobs j
                WHERE j.queue = lane.queue AND j.task = lane.task AND j.list = 0 AND j.due > $5
                ORDER BY j.due LIMIT 1)
                UNION ALL
                (SELECT j.due FROM qtasks.jobs j
                WHERE j.queue = lane.queue AND j.task = lane.task AND j.list = 2
                ORDER BY j.survived, -(j.priority::int4), j.id LIMIT 64)
                UNION ALL
                SELECT due FROM waits) c
            WHERE c.due > $5) AS next_due,
            EXISTS (SELECT FROM lane, LATERAL (
                SELECT j.id FROM qtasks.jobs j
                WHERE j.queue = lane.queue AND j.task = lane.task AND j.list = 2 AND j.due <= $5
                LIMIT 2) s WHERE NOT EXISTS (SELECT FROM chosen c WHERE c.id = s.id))
            OR EXISTS (SELECT FROM late l
                WHERE l.suspect AND NOT EXISTS (SELECT FROM chosen c WHERE c.id = l.id)) AS suspects,
            (SELECT count(*) FROM found) < $4 AND EXISTS (SELECT FROM waits WHERE due <= $5) AS missed,
            EXISTS (SELECT FROM waits WHERE due > $5) AS left,
            (SELECT number FROM noted) AS number,
            set_config('synchronous_commit', 'off', true) AS durability
    )
    SELECT t.*, r.next_due, r.suspects, r.missed, r.left, r.number, r.durability FROM rest r LEFT JOIN taken t ON true"
);

/// The answer to one search.
struct Handed {
    leased: Leased,
    /// The number of the row of `leases` that names the jobs.
    number: Option<i64>,
    /// Whether jobs were passed over because another call had locked them.
    missed: bool,
    /// Whether fresh jobs may still wait that come before those that were leased.
    left: bool,
    /// Whether the search was one of everything.
    everywhere: bool,
}

async fn search_from(database: &Database, ask: &Ask, search: &Search) -> Result<Handed, Fault> {
    let worker = encoding::worker_id(ask.worker);
    let (queues, tasks) = watermark::lanes(ask);
    let (limit, now) = (i64::from(u32::try_from(ask.limit).unwrap_or(u32::MAX)), encoding::millis(ask.now));
    let (one_suspect, liable) = (ask.suspects.allow_one(), ask.suspects.liable());
    let parameters: [Parameter<'_>; 9] = [
        (&worker, Type::UUID),
        (&queues, Type::TEXT_ARRAY),
        (&tasks, Type::TEXT_ARRAY),
        (&limit, Type::INT8),
        (&now, Type::INT8),
        (&one_suspect, Type::BOOL),
        (&search.from, Type::UUID),
        (&search.everywhere, Type::BOOL),
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
    let next_due = encoding::get::<Option<i64>>(row, JOB_COLUMNS)?.map(encoding::time);
    Ok(Handed {
        leased: Leased { jobs, next_due, suspects: encoding::get(row, JOB_COLUMNS + 1)? },
        missed: encoding::get(row, JOB_COLUMNS + 2)?,
        left: encoding::get(row, JOB_COLUMNS + 3)?,
        number: encoding::get(row, JOB_COLUMNS + 4)?,
        everywhere: search.everywhere,
    })
}
