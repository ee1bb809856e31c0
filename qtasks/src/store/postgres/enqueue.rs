//! How jobs are added.

use tokio_postgres::types::Type;

use super::{
    database::{Database, Parameter},
    fault::Fault,
    row::{self, LATER, READY},
};
use crate::{job::NewJob, json::Json};

/// A job whose id is there already is left as it is.
pub(super) const ENQUEUE: &str = "
    INSERT INTO qtasks.jobs (id, queue, task, priority, state, due, max_time, enqueued, args)
    SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::int2[], $5::int2[], $6::int8[], $7::int8[], $8::int8[],
        $9::text[])
    ON CONFLICT (id) DO NOTHING";

pub(super) async fn enqueue<'j>(database: &Database, jobs: impl IntoIterator<Item = &'j NewJob>) -> Result<(), Fault> {
    let jobs = Jobs::new(jobs);
    if !jobs.ids.is_empty() {
        database.query(ENQUEUE, &jobs.parameters()).await?;
    }
    Ok(())
}

/// Jobs to add, by column.
#[derive(Default)]
pub(super) struct Jobs<'j> {
    ids: Vec<uuid::Uuid>,
    queues: Vec<&'j str>,
    tasks: Vec<&'j str>,
    priorities: Vec<i16>,
    states: Vec<i16>,
    dues: Vec<i64>,
    limits: Vec<Option<i64>>,
    enqueued: Vec<i64>,
    args: Vec<&'j str>,
}

impl<'j> Jobs<'j> {
    pub(super) fn new(jobs: impl IntoIterator<Item = &'j NewJob>) -> Self {
        let mut sorted: Vec<_> = jobs.into_iter().collect();
        // Else two processes that add the same jobs could each wait for the other. Of two with one id the first stays first.
        sorted.sort_by_key(|job| job.id);
        let mut columns = Self::default();
        for job in sorted {
            let (due, enqueued) = (row::millis(job.due), row::millis(job.enqueued));
            columns.ids.push(row::job_id(job.id));
            columns.queues.push(&job.queue);
            columns.tasks.push(&job.task);
            columns.priorities.push(job.priority);
            columns.states.push(if due <= enqueued { READY } else { LATER });
            columns.dues.push(due);
            columns.limits.push(job.max_time.map(row::limit_millis));
            columns.enqueued.push(enqueued);
            columns.args.push(Json::as_str(&job.args));
        }
        columns
    }

    pub(super) fn parameters(&self) -> [Parameter<'_>; 9] {
        [
            (&self.ids, Type::UUID_ARRAY),
            (&self.queues, Type::TEXT_ARRAY),
            (&self.tasks, Type::TEXT_ARRAY),
            (&self.priorities, Type::INT2_ARRAY),
            (&self.states, Type::INT2_ARRAY),
            (&self.dues, Type::INT8_ARRAY),
            (&self.limits, Type::INT8_ARRAY),
            (&self.enqueued, Type::INT8_ARRAY),
            (&self.args, Type::TEXT_ARRAY),
        ]
    }
}
