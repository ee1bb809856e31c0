//! How jobs end well at the worker that holds them, as most do: by a statement with no more than that takes.

use std::borrow::Cow;

use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::{
    model::{job::Lease, lifecycle::Outcome},
    store::{
        Hold, Settlement,
        postgres::{encoding, pool::Parameter},
    },
};

/// Gives the indices of the settlements that were written. The attempt stays in the row of the job.
pub(super) const SETTLE_DONE: &str = "
    WITH settled AS (
        UPDATE qtasks.jobs j SET state = 3, list = NULL, ended = a.ended, started = a.started, shape = a.shape,
            outcome = a.outcome, failures = a.failures, suspect = false, survived = NULL, losses = NULL, leased = NULL,
            liable = NULL
        FROM unnest($1::int8[], $2::uuid[], $3::int8[], $4::uuid[], $5::int8[], $6::int8[], $7::text[], $8::text[],
            $9::int8[], $10::int8[])
            AS a(place, job, attempt, worker, started, ended, shape, outcome, failures, steps)
        WHERE j.id = a.job AND j.state = 2 AND j.worker = a.worker AND j.attempt = a.attempt
            AND j.steps = coalesce(a.steps, j.steps)
        RETURNING a.place, j.queue, j.task, j.awaited
    ), counted AS (
        INSERT INTO qtasks.deltas (queue, task, running, done)
        SELECT s.queue, s.task, -count(*), count(*) FROM settled s GROUP BY s.queue, s.task
    )
    SELECT place, awaited FROM settled";

/// Settlements of jobs that end well, by column.
#[derive(Default)]
pub(super) struct Columns<'s> {
    places: Vec<i64>,
    jobs: Vec<Uuid>,
    attempts: Vec<i64>,
    workers: Vec<Uuid>,
    starts: Vec<Option<i64>>,
    ends: Vec<i64>,
    shapes: Vec<Option<&'static str>>,
    outcomes: Vec<Option<Cow<'s, str>>>,
    failures: Vec<i64>,
    steps: Vec<Option<i64>>,
}

impl<'s> Columns<'s> {
    /// The columns of a round, if all its jobs end so.
    pub(super) fn of(round: &[(usize, &'s Settlement)]) -> Option<Self> {
        let mut columns = Self::default();
        round.iter().all(|(place, settlement)| columns.push(*place, settlement)).then_some(columns)
    }

    /// Adds a settlement, and gives whether it is one for this statement.
    fn push(&mut self, place: usize, settlement: &'s Settlement) -> bool {
        let Settlement { hold: Hold::Lease(Lease { job, attempt, worker }), outcome, steps, now, .. } = settlement
        else {
            return false;
        };
        let Outcome { next, failures, suspect: None } = outcome else { return false };
        let Some(in_job) = settlement.attempt_in_job() else { return false };
        let (shape, outcome) = encoding::outcome(next);
        self.places.push(encoding::count(place));
        self.jobs.push(encoding::job_id(*job));
        self.attempts.push((*attempt).into());
        self.workers.push(encoding::worker_id(*worker));
        self.starts.push(in_job.started.map(encoding::millis));
        self.ends.push(encoding::millis(*now));
        self.shapes.push(shape);
        self.outcomes.push(outcome);
        self.failures.push((*failures).into());
        self.steps.push(steps.map(encoding::count));
        true
    }

    pub(super) fn parameters(&self) -> [Parameter<'_>; 10] {
        [
            (&self.places, Type::INT8_ARRAY),
            (&self.jobs, Type::UUID_ARRAY),
            (&self.attempts, Type::INT8_ARRAY),
            (&self.workers, Type::UUID_ARRAY),
            (&self.starts, Type::INT8_ARRAY),
            (&self.ends, Type::INT8_ARRAY),
            (&self.shapes, Type::TEXT_ARRAY),
            (&self.outcomes, Type::TEXT_ARRAY),
            (&self.failures, Type::INT8_ARRAY),
            (&self.steps, Type::INT8_ARRAY),
        ]
    }
}
