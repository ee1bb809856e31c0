//! Enqueueing in a transaction of the application.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use futures::{FutureExt as _, future::BoxFuture};
use tokio_postgres::{
    Row, Transaction,
    error::SqlState,
    types::{ToSql, Type},
};

use super::{calls::enqueue::Jobs, encoding, error::Fault, notify::CHANNEL, schema::FORMAT, url::in_schema};
use crate::{
    error::{Error, Result},
    model::{
        job::{JobId, NewJob},
        json::Json,
    },
    store::{UserTransaction, same_call::is_of_call},
};

/// Enqueues in the schema `qtasks`.
impl<'t> UserTransaction for &'t mut Transaction<'_> {
    type Answer<T> = Enqueueing<'t, T>;

    fn enqueue<T>(self, job: Result<NewJob>, then: impl FnOnce(JobId) -> T) -> Enqueueing<'t, T> {
        InSchema::new("qtasks", self).enqueue(job, then)
    }
}

/// Enqueues in the schema of the store whose transaction it is.
impl<'t> UserTransaction for &'t mut super::Transaction<'_> {
    type Answer<T> = Enqueueing<'t, T>;

    fn enqueue<T>(self, job: Result<NewJob>, then: impl FnOnce(JobId) -> T) -> Enqueueing<'t, T> {
        self.in_schema().enqueue(job, then)
    }
}

/// A transaction in whose database qtasks stands in a schema of another name, for
/// [`QueueTasks::enqueue_in`](crate::QueueTasks::enqueue_in).
pub struct InSchema<'t, 'c> {
    schema: String,
    transaction: &'t mut Transaction<'c>,
}

impl<'t, 'c> InSchema<'t, 'c> {
    /// Jobs are enqueued in `schema`, as the URL of the store names it.
    pub fn new(schema: impl Into<String>, transaction: &'t mut Transaction<'c>) -> Self {
        Self { schema: schema.into(), transaction }
    }
}

impl fmt::Debug for InSchema<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a transaction with qtasks in `{}`", self.schema)
    }
}

impl<'t> UserTransaction for InSchema<'t, '_> {
    type Answer<T> = Enqueueing<'t, T>;

    fn enqueue<T>(self, job: Result<NewJob>, then: impl FnOnce(JobId) -> T) -> Enqueueing<'t, T> {
        match job {
            Err(error) => Enqueueing { done: std::future::ready(Err(error)).boxed(), then: None },
            Ok(job) => {
                let then = Some(then(job.id));
                let Self { schema, transaction } = self;
                Enqueueing { done: async move { enqueue_in(transaction, &schema, &job).await }.boxed(), then }
            }
        }
    }
}

/// A job that is being enqueued in a transaction; to be awaited.
///
/// # Errors
///
/// When the job is over a limit, or the database has no tables of qtasks, or not those of this version. They are there once
/// it has been opened [as a store](super::Postgres::open). As after any error of a statement, nothing more can be done in
/// the transaction. And when the [id](crate::CallOptions::id) of the call is that of another job; then the transaction goes on.
#[must_use = "a job is enqueued when this is awaited"]
pub struct Enqueueing<'t, T> {
    done: BoxFuture<'t, Result<()>>,
    then: Option<T>,
}

// It is moved out in one piece, and nothing points into it.
impl<T> Unpin for Enqueueing<'_, T> {}

impl<T> Future for Enqueueing<'_, T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.done
            .poll_unpin(context)
            .map(|done| done.map(|()| self.then.take().expect("a future that has ended is not polled again")))
    }
}

impl<T> fmt::Debug for Enqueueing<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a job that is being enqueued")
    }
}

/// Gives the format of the tables, and whether the job was added; it is if the format is the one known, and its id is new.
const ENQUEUE_IN: &str = "
    WITH found AS MATERIALIZED (SELECT max(format) AS format FROM qtasks.format), added AS (
        INSERT INTO qtasks.jobs (id, queue, task, priority, state, due, max_time, enqueued, args)
        SELECT n.* FROM unnest($1::uuid[], $2::text[], $3::text[], $4::int2[], $5::int2[], $6::int8[], $7::int8[],
            $8::int8[], $9::text[]) AS n, found WHERE found.format = $10
        ON CONFLICT (id) DO NOTHING RETURNING id
    ) SELECT found.format, EXISTS (SELECT FROM added), pg_notify($11, '- work') FROM found";

/// The job that is there.
const THERE: &str = "SELECT task, args FROM qtasks.jobs WHERE id = $1";

async fn enqueue_in(transaction: &Transaction<'_>, schema: &str, job: &NewJob) -> Result<()> {
    let jobs = Jobs::new([job]);
    let (sql, channel) = (in_schema(schema, ENQUEUE_IN), in_schema(schema, CHANNEL));
    let more: [(&(dyn ToSql + Sync), Type); 2] = [(&FORMAT, Type::INT8), (&channel, Type::TEXT)];
    let parameters: Vec<_> = jobs.parameters().into_iter().chain(more).collect();
    let place = || format!("the schema `{schema}`");
    // Not prepared: through a pooler, the next transaction would look for it in another session.
    let (found, is_new) = match transaction.query_typed(&sql, &parameters).await {
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => (0, false),
        found => read(&found.map_err(|error| failed(error.into()))?).map_err(failed)?,
    };
    match found {
        FORMAT if is_new => Ok(()),
        FORMAT => is_there(transaction, schema, job).await,
        newer if newer > FORMAT => Err(Error::NewerStore { place: place(), found: newer, known: FORMAT }),
        0 => Err(Error::ForeignStore {
            place: place(),
            why: "it has no tables of qtasks; open it once as the store, and use the same database here".to_owned(),
        }),
        _ => Err(Error::ForeignStore {
            place: place(),
            why: "its tables are those of an older qtasks; open it once as the store".to_owned(),
        }),
    }
}

/// Reads what [`ENQUEUE_IN`] gives.
fn read(rows: &[Row]) -> Result<(i64, bool), Fault> {
    let Some(row) = rows.first() else { return Ok((0, false)) };
    Ok((encoding::get::<Option<i64>>(row, 0)?.unwrap_or(0), encoding::get(row, 1)?))
}

/// That the job which is there of this id is the same one.
async fn is_there(transaction: &Transaction<'_>, schema: &str, job: &NewJob) -> Result<()> {
    let (sql, id) = (in_schema(schema, THERE), encoding::job_id(job.id));
    let rows = transaction.query_typed(&sql, &[(&id, Type::UUID)]).await.map_err(|error| failed(error.into()))?;
    // One that has been pruned since was no other.
    let Some(row) = rows.first() else { return Ok(()) };
    let (task, args): (String, String) =
        (encoding::get(row, 0).map_err(failed)?, encoding::get(row, 1).map_err(failed)?);
    is_of_call(job.id, (&task, &Json::from_stored(args)), (&job.task, &job.args))
}

fn failed(fault: Fault) -> Error {
    fault.of_write("enqueue a job in the application's transaction")
}
