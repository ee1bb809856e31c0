//! How many jobs each lane has, and since when the next of them is due.

use std::time::Duration;

use jiff::Timestamp;
use tokio_postgres::{Row, types::Type};

use crate::store::{
    JobCounts, Lane, LaneCounts,
    postgres::{encoding, error::Fault, pool::Database, shared::Shared},
};

/// How long counting all jobs anew may take.
const ALL: Duration = Duration::from_mins(30);

/// What is known of each lane, from both tables in one snapshot.
macro_rules! known {
    () => {
        "known AS MATERIALIZED (
        SELECT b.queue, b.task, coalesce(sum(b.waiting), 0)::int8 AS waiting, coalesce(sum(b.running), 0)::int8 AS running,
            coalesce(sum(b.done), 0)::int8 AS done, coalesce(sum(b.dead), 0)::int8 AS dead,
            coalesce(sum(b.cancelled), 0)::int8 AS cancelled, count(*) AS rows
        FROM (
            SELECT c.queue, c.task, c.waiting, c.running, c.done, c.dead, c.cancelled FROM qtasks.counts c
            UNION ALL SELECT d.queue, d.task, d.waiting, d.running, d.done, d.dead, d.cancelled FROM qtasks.deltas d) b
        GROUP BY b.queue, b.task
    )"
    };
}

/// Gives the counts of each lane, and since when its next job is due, or when it will be. That is looked for only where jobs
/// wait, by index, from the mark of the lane on. Fresh jobs behind the mark are left out: they are few, and do not wait there
/// for long.
const COUNTS: &str = concat!(
    "WITH ",
    known!(),
    "
    SELECT k.queue, k.task, k.waiting, k.running, k.done, k.dead, k.cancelled, k.rows, CASE WHEN k.waiting > 0 THEN coalesce(
        (SELECT h.due FROM (
            (SELECT j.due, j.priority, j.id FROM qtasks.jobs j
            WHERE j.queue = k.queue AND j.task = k.task AND j.fresh AND uuid_send(j.id) >= uuid_send(k.upto)
                AND j.state = 1 AND j.list IS NULL AND j.due <= $1
            ORDER BY uuid_send(j.id) LIMIT 1)
            UNION ALL
            (SELECT j.due, j.priority, j.id FROM qtasks.jobs j
            WHERE j.queue = k.queue AND j.task = k.task AND j.list = 1 AND j.due <= $1
            ORDER BY -(j.priority::int4), j.id LIMIT 1)
            UNION ALL
            (SELECT j.due, j.priority, j.id FROM qtasks.jobs j
            WHERE j.queue = k.queue AND j.task = k.task AND j.list = 0 AND j.due <= $1 AND NOT j.suspect
            ORDER BY j.due LIMIT 4096)) h
        ORDER BY h.priority DESC, h.id LIMIT 1),
        (SELECT min(n.due) FROM (
            (SELECT j.due FROM qtasks.jobs j
            WHERE j.queue = k.queue AND j.task = k.task AND j.list = 0 AND j.due > $1 AND NOT j.suspect
            ORDER BY j.due LIMIT 1)
            UNION ALL
            (SELECT j.due FROM qtasks.jobs j
            WHERE j.queue = k.queue AND j.task = k.task AND j.fresh AND uuid_send(j.id) >= uuid_send(k.upto)
                AND j.state = 1 AND j.list IS NULL
            ORDER BY uuid_send(j.id) LIMIT 64)
            UNION ALL
            (SELECT j.due FROM qtasks.jobs j WHERE j.queue = k.queue AND j.task = k.task AND j.list = 1
            ORDER BY -(j.priority::int4), j.id LIMIT 64)) n)
        ) END
    FROM (
        SELECT k.*, coalesce(l.upto, '00000000-0000-0000-0000-000000000000') AS upto FROM known k
        LEFT JOIN qtasks.lanes l ON l.queue = k.queue AND l.task = k.task
            AND pg_snapshot_xmax(l.seen) <= pg_snapshot_xmax(pg_current_snapshot())) k"
);

pub(crate) async fn counts(shared: &Shared, now: Timestamp) -> Result<Vec<LaneCounts>, Fault> {
    let rows = shared.database.list(COUNTS, &[(&encoding::millis(now), Type::INT8)]).await?;
    let mut found = 0;
    let counts = rows.iter().map(|row| {
        found += encoding::get::<i64>(row, 7)?;
        lane_counts(row)
    });
    let counts = counts.collect();
    shared.folding.found(found);
    counts
}

fn lane_counts(row: &Row) -> Result<LaneCounts, Fault> {
    // A count is less than nothing only where the tables were changed by hand.
    let count = |column| encoding::get::<i64>(row, column).map(|count| count.max(0).cast_unsigned());
    Ok(LaneCounts {
        lane: Lane { queue: encoding::get(row, 0)?, task: encoding::get(row, 1)? },
        jobs: JobCounts {
            waiting: count(2)?,
            running: count(3)?,
            done: count(4)?,
            dead: count(5)?,
            cancelled: count(6)?,
        },
        oldest_due: encoding::get::<Option<i64>>(row, 8)?.map(encoding::time),
    })
}

/// Held by one who counts anew: two at once would mend each count twice.
const TURN: &str = "SELECT pg_advisory_xact_lock(1903453539, hashtext('qtasks.counts'))";

/// Adds to the counts what they lack beside the jobs, and gives how many lanes lacked something. It sees jobs, counts and deltas
/// in one snapshot; what others change meanwhile changes all of these alike.
const RECOUNT: &str = concat!(
    "WITH ",
    known!(),
    ", there AS MATERIALIZED (
        SELECT j.queue, j.task, count(*) FILTER (WHERE j.state <= 1) AS waiting, count(*) FILTER (WHERE j.state = 2) AS running,
            count(*) FILTER (WHERE j.state = 3) AS done, count(*) FILTER (WHERE j.state = 4) AS dead,
            count(*) FILTER (WHERE j.state = 5) AS cancelled
        FROM qtasks.jobs j GROUP BY j.queue, j.task
    ), lacking AS MATERIALIZED (
        SELECT queue, task, sum(waiting) AS waiting, sum(running) AS running, sum(done) AS done, sum(dead) AS dead,
            sum(cancelled) AS cancelled
        FROM (
            SELECT queue, task, waiting, running, done, dead, cancelled FROM there
            UNION ALL SELECT queue, task, -waiting, -running, -done, -dead, -cancelled FROM known) b
        GROUP BY queue, task
        HAVING (sum(waiting), sum(running), sum(done), sum(dead), sum(cancelled)) <> (0, 0, 0, 0, 0)
    ), mended AS (
        INSERT INTO qtasks.counts AS c (queue, task, waiting, running, done, dead, cancelled)
        SELECT queue, task, waiting, running, done, dead, cancelled FROM lacking ORDER BY queue, task
        ON CONFLICT (queue, task) DO UPDATE SET waiting = c.waiting + excluded.waiting,
            running = c.running + excluded.running, done = c.done + excluded.done, dead = c.dead + excluded.dead,
            cancelled = c.cancelled + excluded.cancelled
    )
    SELECT count(*) FROM lacking"
);

pub(crate) async fn recount(database: &Database) -> Result<usize, Fault> {
    let mut transaction = database.begin().await?;
    transaction.allow(ALL).await?;
    // All jobs are read, which is quicker in the order in which they stand in the table.
    transaction.execute("SET LOCAL enable_seqscan = on").await?;
    transaction.query(TURN, &[]).await?;
    let rows = transaction.query(RECOUNT, &[]).await?;
    transaction.commit().await?;
    rows.first().map_or(Ok(0), |row| Ok(encoding::get::<i64>(row, 0)?.cast_unsigned() as usize))
}
