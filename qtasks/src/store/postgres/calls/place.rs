//! How a job that waits is moved.

use tokio_postgres::types::Type;

use crate::store::{
    Changes, Placement, Written,
    postgres::{encoding, error::Fault, pool::Parameter, shared::Shared},
};

/// Moves a job that waits and never started, and gives whether it did.
///
/// From then on the job is none of the fresh ones, which are found by their ids from the mark of their lane on: it may be older
/// than that mark. It stands in the list of jobs that are due later, and the next lease to come takes it from there, or puts
/// it in line, if it is due by then.
const PLACE: &str = "
    WITH there AS MATERIALIZED (
        SELECT j.id, j.queue FROM qtasks.jobs j WHERE j.id = $1 AND j.state <= 1 AND j.attempt = 0 FOR UPDATE
    ), placed AS (
        UPDATE qtasks.jobs j SET queue = coalesce($2, j.queue), priority = coalesce($3, j.priority), due = coalesce($4, j.due),
            fresh = false, list = CASE WHEN j.state >= 0 THEN 0 END, state = least(j.state, 0)
        FROM there t WHERE j.id = t.id RETURNING t.queue AS old, j.queue AS new, j.task
    ), counted AS (
        INSERT INTO qtasks.deltas (queue, task, waiting)
        SELECT old, task, -1 FROM placed WHERE old <> new UNION ALL SELECT new, task, 1 FROM placed WHERE old <> new
    ), expiring AS (
        INSERT INTO qtasks.expiring (at, job)
        SELECT least($4 + (j.more::json ->> 'expires')::numeric, 9223372036854775807), j.id FROM there t JOIN qtasks.jobs j ON j.id = t.id
        WHERE $4 IS NOT NULL AND left(j.more, 1) = '{' AND j.more::json ->> 'expires' IS NOT NULL
        ON CONFLICT DO NOTHING
    )
    SELECT count(*) > 0 FROM placed";

pub(crate) async fn place(shared: &Shared, placement: &Placement) -> Result<Written, Fault> {
    let (id, due) = (encoding::job_id(placement.job), placement.due.map(encoding::millis));
    let parameters: [Parameter<'_>; 4] =
        [(&id, Type::UUID), (&placement.queue, Type::TEXT), (&placement.priority, Type::INT2), (&due, Type::INT8)];
    let came = shared.database.query(PLACE, &parameters).await;
    // If no answer came, the job may have been moved all the same.
    shared.broadcast.of(&Changes::placed(placement.job));
    let rows = came?;
    shared.folding.wrote();
    let placed = rows.first().map_or(Ok(false), |row| encoding::get(row, 0))?;
    Ok(if placed { Written::Yes } else { Written::Fenced })
}
