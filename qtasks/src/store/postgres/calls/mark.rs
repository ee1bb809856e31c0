//! How far lanes have been taken: the mark from which a search for fresh jobs begins, in this process and in those to come.

use std::sync::Arc;

use tokio_postgres::types::Type;

use crate::store::{
    Ask,
    postgres::{error::Fault, shared::Shared, watermark},
};

/// Moves the marks of lanes on. A mark says: of the fresh jobs whose transaction `seen` knows, none with an id before `upto`
/// waits. So one statement finds both, and sees the jobs by the same snapshot.
///
/// The mark stays 50 ms behind the server's time: an id is made some moments before its job is there, and a search from
/// the mark on finds such a job without looking for transactions.
const MARK: &str = "
    WITH now AS MATERIALIZED (
        SELECT pg_current_snapshot() AS seen,
            encode(overlay('\\x00000000000070008000000000000000'::bytea PLACING substring(int8send(
                floor(extract(epoch FROM clock_timestamp()) * 1000)::int8 - 50) FROM 3) FROM 1 FOR 6), 'hex')::uuid AS recent
    ), asked AS MATERIALIZED (
        SELECT q.queue, t.task, coalesce(l.upto, '00000000-0000-0000-0000-000000000000') AS upto, l.seen
        FROM unnest($1::text[]) AS q(queue) CROSS JOIN unnest($2::text[]) AS t(task)
        LEFT JOIN qtasks.lanes l ON l.queue = q.queue AND l.task = t.task
            AND pg_snapshot_xmax(l.seen) <= pg_snapshot_xmax(pg_current_snapshot())
        WHERE coalesce((SELECT true FROM qtasks.jobs j WHERE j.queue = q.queue AND j.task = t.task AND j.fresh LIMIT 1), false)
    ), recent AS MATERIALIZED (
        SELECT j.queue, j.task, j.id FROM qtasks.jobs j
        WHERE j.fresh IS NOT FALSE AND j.state = 1 AND j.list IS NULL
            AND j.came >= (SELECT pg_snapshot_xmax(seen) FROM asked WHERE seen IS NOT NULL ORDER BY 1 LIMIT 1)
            AND uuid_send(j.id) < (SELECT uuid_send(upto) FROM asked ORDER BY upto DESC LIMIT 1)
        UNION
        SELECT j.queue, j.task, j.id FROM qtasks.jobs j
        WHERE j.fresh IS NOT FALSE AND j.state = 1 AND j.list IS NULL
            AND j.came = ANY (ARRAY(SELECT pg_snapshot_xip(seen) FROM asked))
    ), came AS MATERIALIZED (
        SELECT r.queue, r.task, r.id FROM recent r JOIN asked a ON a.queue = r.queue AND a.task = r.task WHERE r.id < a.upto
    )
    INSERT INTO qtasks.lanes AS known (queue, task, upto, seen)
    SELECT a.queue, a.task, least(n.recent,
        (SELECT j.id FROM qtasks.jobs j WHERE j.queue = a.queue AND j.task = a.task AND j.fresh
            AND uuid_send(j.id) >= uuid_send(a.upto) AND j.state = 1 AND j.list IS NULL ORDER BY uuid_send(j.id) LIMIT 1),
        (SELECT c.id FROM came c WHERE c.queue = a.queue AND c.task = a.task ORDER BY c.id LIMIT 1)), n.seen
    FROM asked a CROSS JOIN now n ORDER BY a.queue, a.task
    ON CONFLICT (queue, task) DO UPDATE SET upto = excluded.upto, seen = excluded.seen
        WHERE pg_snapshot_xmax(known.seen) <= pg_snapshot_xmax(excluded.seen)
            OR pg_snapshot_xmax(known.seen) > pg_snapshot_xmax(pg_current_snapshot())";

/// Marks how far the lanes of this worker have been taken.
pub(crate) async fn mark(shared: &Arc<Shared>, ask: &Ask) {
    if let Err(fault) = move_on(shared, ask).await {
        tracing::debug!(%fault, "it could not be marked how far jobs have been taken");
    }
    shared.watermark.marked();
}

async fn move_on(shared: &Shared, ask: &Ask) -> Result<(), Fault> {
    let (queues, tasks) = watermark::lanes(ask);
    let parameters = [(&queues as _, Type::TEXT_ARRAY), (&tasks as _, Type::TEXT_ARRAY)];
    shared.database.query(MARK, &parameters).await.map(drop)
}
