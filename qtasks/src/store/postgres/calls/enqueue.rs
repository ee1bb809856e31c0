//! How jobs are added.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
};

use futures::future::BoxFuture;
use tokio_postgres::types::Type;

use super::{after, keys};
use crate::error::Result;
use crate::model::{
    job::{JobId, Lease, NewJob, WorkerId},
    json::Json,
};
use crate::store::{
    Changes, Joined,
    more::more,
    postgres::{
        batcher::BatchedCall,
        encoding::{self, LATER, READY, RUNNING},
        error::Fault,
        pool::{Database, Parameter, Transaction},
        shared::Shared,
    },
};

pub(crate) struct Enqueue(pub(crate) Vec<NewJob>);

impl BatchedCall for Enqueue {
    /// The error where a job is refused.
    type Answer = Result<Vec<Joined>>;
    const DOING: &'static str = "enqueue jobs";

    fn weight(&self) -> usize {
        self.0.len()
    }

    fn carry_out<'a>(calls: &'a [Self], shared: &'a Shared) -> BoxFuture<'a, Result<Vec<Self::Answer>, Fault>> {
        Box::pin(async move {
            let is_apart = |call: &&Self| call.0.iter().any(|new| new.keyed().is_some()) || after::some_wait(&call.0);
            let jobs = in_order(calls.iter().filter(|call| !is_apart(call)).flat_map(|call| &call.0));
            let assignment = shared.waiters.assign(&jobs).await;
            let workers = &assignment.workers;
            let came = enqueue(&shared.database, &jobs, workers).await;
            // If no answer came, the jobs may have been added all the same.
            shared.of_new(jobs.into_iter().filter(|job| !workers.contains_key(&job.call.id)));
            let rows = came?;
            shared.folding.wrote();
            for LeaseRow { worker, number, jobs } in &rows {
                shared.leases.add(
                    *worker,
                    *number,
                    jobs.iter().map(|job| Lease { job: *job, attempt: 1, worker: *worker }),
                );
            }
            let leased: HashSet<_> = rows.into_iter().flat_map(|row| row.jobs).collect();
            shared.broadcast.notifier.notify(&Changes::progressed(leased.iter().copied()));
            assignment.answer(&leased);
            let mut answers = Vec::with_capacity(calls.len());
            for call in calls {
                answers.push(if is_apart(&call) { enqueue_apart(shared, &call.0).await? } else { Ok(Vec::new()) });
            }
            Ok(answers)
        })
    }
}

/// Enqueues jobs of which some have keys or wait for others, in a transaction of their own.
async fn enqueue_apart(shared: &Shared, jobs: &[NewJob]) -> Result<Result<Vec<Joined>>, Fault> {
    let transaction = shared.database.begin().await?;
    let jobs: Vec<_> = jobs.iter().collect();
    let may = match after::begin(&transaction, &jobs).await? {
        Ok(begun) => keys::claim(&transaction, &jobs, true).await?.map(|claimed| (begun, claimed)),
        Err(refused) => Err(refused),
    };
    let (begun, claimed) = match may {
        Ok(may) => may,
        Err(refused) => {
            transaction.roll_back().await?;
            return Ok(Err(refused));
        }
    };
    let new = in_order(claimed.new.iter().map(|new| &**new));
    let came = async {
        enqueue_within(&transaction, &new).await?;
        after::hold(&transaction, &begun).await?;
        transaction.commit().await
    };
    let came = came.await;
    shared.of_claimed(&new, &claimed.joined);
    came?;
    shared.folding.wrote();
    Ok(Ok(claimed.joined))
}

/// The values of `fresh` and `list` for a new job `n`.
macro_rules! stand {
    () => {
        "n.state = 1 AND n.priority = 0, CASE WHEN n.state = 0 OR n.state = 1 AND n.priority <> 0 THEN n.state END"
    };
}
pub(crate) use stand;

/// Adds jobs. A job whose id is there already is left as it is. Gives the jobs that are added as running ones, as they stand
/// in `leases`.
const ENQUEUE: &str = concat!(
    "
    WITH added AS (
        INSERT INTO qtasks.jobs
            (id, queue, task, priority, state, due, max_time, enqueued, args, more, worker, attempt, fresh, list)
        SELECT n.*, CASE WHEN n.worker IS NULL THEN 0 ELSE 1 END, ",
    stand!(),
    "
        FROM unnest($1::uuid[], $2::text[], $3::text[], $4::int2[], $5::int2[], $6::int8[], $7::int8[], $8::int8[],
            $9::text[], $10::text[], $11::uuid[])
            AS n(id, queue, task, priority, state, due, max_time, enqueued, args, more, worker)
        ON CONFLICT (id) DO NOTHING
        RETURNING id, worker, queue, task
    ), counted AS (
        INSERT INTO qtasks.deltas (queue, task, waiting, running)
        SELECT queue, task, nullif(count(*) - count(worker), 0), nullif(count(worker), 0) FROM added GROUP BY queue, task
    ) INSERT INTO qtasks.leases (worker, jobs)
        SELECT worker, array_agg(id) FROM added WHERE worker IS NOT NULL GROUP BY worker
        RETURNING worker, number, jobs"
);

/// Jobs that one worker got together.
pub(crate) struct LeaseRow {
    worker: WorkerId,
    number: i64,
    jobs: Vec<JobId>,
}

/// The jobs sorted by id: otherwise two processes that add the same jobs could each wait for the other. Of two jobs with one
/// id the first stays.
pub(crate) fn in_order<'j>(jobs: impl IntoIterator<Item = &'j NewJob>) -> Vec<&'j NewJob> {
    let mut jobs: Vec<_> = jobs.into_iter().collect();
    jobs.sort_by_key(|job| job.call.id);
    jobs.dedup_by_key(|job| job.call.id);
    jobs
}

/// Adds the jobs, which are in order. Jobs for which there is a worker run there from now on; gives these, by worker.
pub(crate) async fn enqueue(
    database: &Database,
    jobs: &[&NewJob],
    workers: &HashMap<JobId, WorkerId>,
) -> Result<Vec<LeaseRow>, Fault> {
    let mut columns = Jobs::new(jobs.iter().copied());
    let mut worker_ids = Vec::new();
    if !workers.is_empty() {
        for (job, state) in jobs.iter().zip(&mut columns.states) {
            let worker = workers.get(&job.call.id);
            worker_ids.push(worker.copied().map(encoding::worker_id));
            *state = if worker.is_some() { RUNNING } else { *state };
        }
    }
    if jobs.is_empty() {
        return Ok(Vec::new());
    }
    let worker_ids = (&worker_ids as _, Type::UUID_ARRAY);
    let parameters: Vec<Parameter<'_>> = columns.parameters().into_iter().chain([worker_ids]).collect();
    let rows = database.query(ENQUEUE, &parameters).await?;
    let lease_row = |row| {
        let jobs: Vec<uuid::Uuid> = encoding::get(row, 2)?;
        let jobs = jobs.into_iter().map(|id| JobId::from_bytes(id.into_bytes())).collect();
        Ok(LeaseRow { worker: encoding::worker(row, 0)?, number: encoding::get(row, 1)?, jobs })
    };
    rows.iter().map(lease_row).collect()
}

/// Adds the jobs, which are in order, in a transaction. All of them wait.
pub(crate) async fn enqueue_within(transaction: &Transaction<'_>, jobs: &[&NewJob]) -> Result<(), Fault> {
    if jobs.is_empty() {
        return Ok(());
    }
    let (columns, no_workers) = (Jobs::new(jobs.iter().copied()), Vec::<uuid::Uuid>::new());
    let no_workers = (&no_workers as _, Type::UUID_ARRAY);
    let parameters: Vec<Parameter<'_>> = columns.parameters().into_iter().chain([no_workers]).collect();
    transaction.query(ENQUEUE, &parameters).await.map(drop)
}

/// Jobs to add, by column.
#[derive(Default)]
pub(crate) struct Jobs<'j> {
    ids: Vec<uuid::Uuid>,
    queues: Vec<&'j str>,
    tasks: Vec<&'j str>,
    priorities: Vec<i16>,
    states: Vec<i16>,
    dues: Vec<i64>,
    limits: Vec<Option<i64>>,
    enqueued: Vec<i64>,
    args: Vec<&'j str>,
    more: Vec<Option<Cow<'j, str>>>,
}

impl<'j> Jobs<'j> {
    pub(crate) fn new(jobs: impl IntoIterator<Item = &'j NewJob>) -> Self {
        let mut columns = Self::default();
        for job in jobs {
            let (due, enqueued) = (encoding::millis(job.due), encoding::millis(job.call.enqueued));
            columns.ids.push(encoding::job_id(job.call.id));
            columns.queues.push(&job.call.queue);
            columns.tasks.push(&job.call.task);
            columns.priorities.push(job.call.priority);
            columns.states.push(if due <= enqueued { READY } else { LATER });
            columns.dues.push(due);
            columns.limits.push(job.call.max_time.map(encoding::limit_millis));
            columns.enqueued.push(enqueued);
            columns.args.push(Json::as_str(&job.call.args));
            columns.more.push(more(&job.call));
        }
        columns
    }

    pub(crate) fn parameters(&self) -> [Parameter<'_>; 10] {
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
            (&self.more, Type::TEXT_ARRAY),
        ]
    }
}
