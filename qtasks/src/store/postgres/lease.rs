//! How due jobs are found and handed out.

use std::cmp::Reverse;

use tokio_postgres::types::Type;

use super::{
    database::Database,
    fault::Fault,
    row::{self, job_columns},
};
use crate::store::{Ask, Leased};

/// Gives the jobs, each with: when the next one is due, whether suspects wait, and whether any other job still waits.
/// Where there are none, it gives that alone.
///
/// A lane is a task in a queue; of each the most urgent jobs are read by index, together with those whose time has just
/// come, of these some thousands at most. What others hold is passed over. All that was due and is not taken stands in line
/// from then on. Whoever enqueued a job may have a clock that is ahead of the worker's: a few such jobs are looked for, and
/// tell when they are due.
const LEASE: &str = concat!(
    "
    WITH lane AS MATERIALIZED (
        SELECT q.queue, t.task FROM unnest($2::text[]) AS q(queue), unnest($3::text[]) AS t(task)
        WHERE EXISTS (SELECT FROM qtasks.jobs j WHERE j.queue = q.queue AND j.task = t.task AND j.state = 1)
            OR EXISTS (SELECT FROM qtasks.jobs j WHERE j.queue = q.queue AND j.task = t.task AND j.state = 0)
    ), late AS MATERIALIZED (
        SELECT c.* FROM lane, LATERAL (
            SELECT j.id, j.priority, j.suspect FROM qtasks.jobs j
            WHERE j.queue = lane.queue AND j.task = lane.task AND j.state = 0 AND j.due <= $5
            ORDER BY j.due LIMIT 4096 FOR UPDATE SKIP LOCKED) c
    ), ready AS MATERIALIZED (
        SELECT c.* FROM lane, LATERAL (
            SELECT j.id, j.priority FROM qtasks.jobs j
            WHERE j.queue = lane.queue AND j.task = lane.task AND j.state = 1 AND NOT j.suspect AND j.due <= $5
            ORDER BY j.priority DESC, j.id LIMIT $4 FOR UPDATE SKIP LOCKED) c
    ), suspect AS MATERIALIZED (
        SELECT c.* FROM lane, LATERAL (
            SELECT j.id, j.priority FROM qtasks.jobs j
            WHERE $6 AND j.queue = lane.queue AND j.task = lane.task AND j.state = 1 AND j.suspect AND j.due <= $5
            ORDER BY j.priority DESC, j.id LIMIT 1 FOR UPDATE SKIP LOCKED) c
    ), seat AS MATERIALIZED (
        SELECT id, priority FROM
            (SELECT id, priority FROM suspect UNION ALL SELECT id, priority FROM late WHERE suspect AND $6) s
        ORDER BY priority DESC, id LIMIT 1
    ), chosen AS MATERIALIZED (
        SELECT id FROM (
            SELECT id, priority FROM ready UNION ALL SELECT id, priority FROM late WHERE NOT suspect
            UNION ALL SELECT id, priority FROM seat) c
        ORDER BY priority DESC, id LIMIT $4
    ), taken AS (
        UPDATE qtasks.jobs j SET state = 2, worker = $1, attempt = j.attempt + 1
        FROM chosen c WHERE j.id = c.id
        RETURNING ",
    job_columns!(),
    "
    ), in_line AS (
        UPDATE qtasks.jobs j SET state = 1
        FROM late l WHERE j.id = l.id AND NOT EXISTS (SELECT FROM chosen c WHERE c.id = l.id)
    ), rest AS (
        SELECT
            (SELECT min(c.due) FROM lane, LATERAL (
                (SELECT j.due FROM qtasks.jobs j
                WHERE j.queue = lane.queue AND j.task = lane.task AND j.state = 0 AND j.due > $5
                ORDER BY j.due LIMIT 1)
                UNION ALL
                (SELECT j.due FROM qtasks.jobs j
                WHERE j.queue = lane.queue AND j.task = lane.task AND j.state = 1 AND NOT j.suspect
                ORDER BY j.priority DESC, j.id LIMIT 64)
                UNION ALL
                (SELECT j.due FROM qtasks.jobs j
                WHERE j.queue = lane.queue AND j.task = lane.task AND j.state = 1 AND j.suspect
                ORDER BY j.priority DESC, j.id LIMIT 64)) c
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
                ORDER BY j.priority DESC, j.id LIMIT 64) r
                WHERE NOT EXISTS (SELECT FROM ready WHERE ready.id = r.id)) AS missed
    )
    SELECT t.*, r.next_due, r.suspects, r.missed FROM rest r LEFT JOIN taken t ON true"
);

/// What was leased, and whether jobs were passed over since somebody else looked at them at the same time.
pub(super) struct Handed {
    pub(super) leased: Leased,
    pub(super) missed: bool,
}

pub(super) async fn lease(database: &Database, ask: &Ask) -> Result<Handed, Fault> {
    let worker = row::worker_id(ask.worker);
    let queues = once_each(ask.queues.iter().map(String::as_str));
    let tasks = once_each(ask.tasks.iter().copied());
    let (limit, now) = (row::count(ask.limit), row::millis(ask.now));
    let parameters: [super::database::Parameter<'_>; 6] = [
        (&worker, Type::UUID),
        (&queues, Type::TEXT_ARRAY),
        (&tasks, Type::TEXT_ARRAY),
        (&limit, Type::INT8),
        (&now, Type::INT8),
        (&ask.suspects, Type::BOOL),
    ];
    let rows = database.query(LEASE, &parameters).await?;
    let mut jobs = Vec::with_capacity(rows.len());
    for row in &rows {
        if row::get::<Option<uuid::Uuid>>(row, 0)?.is_some() {
            jobs.push(row::job(row)?);
        }
    }
    jobs.sort_by_key(|job| (Reverse(job.priority), job.id));
    let Some(row) = rows.first() else { return Err(Fault::refused("a lease was answered with nothing")) };
    let next_due = row::get::<Option<i64>>(row, 20)?.map(row::time);
    Ok(Handed { leased: Leased { jobs, next_due, suspects: row::get(row, 21)? }, missed: row::get(row, 22)? })
}

fn once_each<'t>(names: impl Iterator<Item = &'t str>) -> Vec<&'t str> {
    let mut names: Vec<_> = names.collect();
    names.sort_unstable();
    names.dedup();
    names
}
