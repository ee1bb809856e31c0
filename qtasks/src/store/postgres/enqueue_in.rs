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

use super::{
    calls::{
        after,
        enqueue::{Jobs, stand},
        keys::{self, Keys},
    },
    encoding,
    error::Fault,
    notify::CHANNEL,
    pool::Parameter,
    schema::FORMAT,
    url::in_schema,
};
use crate::{
    error::{Error, Result},
    model::{
        job::{JobId, NewJob},
        json::Json,
    },
    store::{Home, Joined, UserTransaction, same_call::is_of_call},
};

/// Enqueues in the schema of the application.
impl<'t> UserTransaction for &'t mut Transaction<'_> {
    type Answer<T> = Enqueueing<'t, T>;

    fn enqueue<T>(
        self,
        home: &Home,
        job: Result<NewJob>,
        then: impl FnOnce(JobId) -> T + Send + 'static,
    ) -> Enqueueing<'t, T> {
        let Home::Schema { name, .. } = home else { return refuse("a database of Postgres".to_owned(), home) };
        InSchema::new(name, self).enqueue(home, job, then)
    }
}

/// Enqueues in the schema of the store whose transaction it is.
impl<'t> UserTransaction for &'t mut super::Transaction<'_> {
    type Answer<T> = Enqueueing<'t, T>;

    fn enqueue<T>(
        self,
        home: &Home,
        job: Result<NewJob>,
        then: impl FnOnce(JobId) -> T + Send + 'static,
    ) -> Enqueueing<'t, T> {
        let (schema, transaction) = self.parts();
        InSchema::new(schema, transaction).enqueue(home, job, then)
    }
}

/// A transaction together with the schema in which [`QueueTasks::enqueue_in`](crate::QueueTasks::enqueue_in) enqueues. It
/// must be the schema of the application, which a transaction by itself takes anyway.
pub struct InSchema<'t, 'c> {
    schema: String,
    transaction: &'t mut Transaction<'c>,
}

impl<'t, 'c> InSchema<'t, 'c> {
    /// Enqueues jobs in `schema`, which is a name as in the URL of the store.
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

    fn enqueue<T>(
        self,
        home: &Home,
        job: Result<NewJob>,
        then: impl FnOnce(JobId) -> T + Send + 'static,
    ) -> Enqueueing<'t, T> {
        let Self { schema, transaction } = self;
        if !matches!(home, Home::Schema { name, .. } if *name == schema) {
            return refuse(format!("the schema `{schema}`"), home);
        }
        match job {
            Err(error) => Enqueueing::failed(error),
            Ok(job) => {
                let (then, home): (Option<Then<T>>, _) = (Some(Box::new(then)), home.clone());
                Enqueueing { done: async move { enqueue_in(transaction, &home, &schema, &job).await }.boxed(), then }
            }
        }
    }
}

/// Says that a transaction is not on the store at `home`.
fn refuse<'t, T>(transaction: String, home: &Home) -> Enqueueing<'t, T> {
    Enqueueing::failed(Error::OtherStore { transaction, store: home.to_string() })
}

/// A job that is being enqueued in a transaction; to be awaited.
///
/// # Errors
///
/// When the job is over a limit, or the database has no tables of qtasks, or tables of another version. The tables are there
/// once the database has been opened [as a store](super::Postgres::open). As after any error of a statement, the transaction
/// can do nothing more. When the [id](crate::CallOptions::id) of the call is that of another job, the transaction goes on.
#[must_use = "a job is enqueued when this is awaited"]
pub struct Enqueueing<'t, T> {
    done: BoxFuture<'t, Result<JobId>>,
    then: Option<Then<T>>,
}

/// What is made of the id of the job.
type Then<T> = Box<dyn FnOnce(JobId) -> T + Send>;

impl<T> Enqueueing<'_, T> {
    fn failed(error: Error) -> Self {
        Self { done: std::future::ready(Err(error)).boxed(), then: None }
    }
}

// The value is moved out in one piece, and nothing points into it.
impl<T> Unpin for Enqueueing<'_, T> {}

impl<T> Future for Enqueueing<'_, T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.done
            .poll_unpin(context)
            .map(|done| done.map(|id| self.then.take().expect("a future that has ended is not polled again")(id)))
    }
}

impl<T> fmt::Debug for Enqueueing<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a job that is being enqueued")
    }
}

/// Gives the facts about the tables, and whether the job was added. It is added if the format is the one of this version, the
/// tables are those of the application, and the id is new.
const ENQUEUE_IN: &str = concat!(
    "
    WITH found AS MATERIALIZED (
        SELECT max(format) AS format, bool_or(store = $13 AND current_database() = $14) AS is_ours FROM qtasks.format
    ), added AS (
        INSERT INTO qtasks.jobs (id, queue, task, priority, state, due, max_time, enqueued, args, more, fresh, list)
        SELECT n.*, ",
    stand!(),
    "
        FROM unnest($1::uuid[], $2::text[], $3::text[], $4::int2[], $5::int2[], $6::int8[], $7::int8[], $8::int8[],
            $9::text[], $10::text[]) AS n(id, queue, task, priority, state, due, max_time, enqueued, args, more), found
        WHERE found.format = $11 AND found.is_ours
        ON CONFLICT (id) DO NOTHING RETURNING id, fresh, queue, task
    ), counted AS (
        INSERT INTO qtasks.deltas (queue, task, waiting) SELECT queue, task, 1 FROM added
    ) SELECT found.format, found.is_ours, added.id IS NOT NULL, current_database()::text,
        pg_notify($12, '- work' || CASE WHEN added.fresh THEN ':' || added.id ELSE '' END)
    FROM found LEFT JOIN added ON true"
);

/// The row that [`ENQUEUE_IN`] gives.
struct Found {
    format: i64,
    is_ours: bool,
    is_new: bool,
    database: String,
}

/// Reads the job that already has the id.
const THERE: &str = "SELECT task, args FROM qtasks.jobs WHERE id = $1";

/// Enqueues the job, and gives the id of the one that is that of the call.
async fn enqueue_in(transaction: &Transaction<'_>, home: &Home, schema: &str, job: &NewJob) -> Result<JobId> {
    let id = job.call.id;
    let users = Users { transaction, schema };
    let mut begun = Vec::new();
    let is_apart = job.keyed().is_some() || job.call.after.is_some();
    if is_apart && is_ours(transaction, home, schema).await.map_err(failed)? {
        begun = Box::pin(after::begin(&users, &[job])).await.map_err(failed)??;
        let claimed = Box::pin(keys::claim(&users, &[job], true)).await.map_err(failed)??;
        if let [Joined { holder, .. }] = claimed.joined[..] {
            users.notify().await.map_err(failed)?;
            return Ok(holder);
        }
    }
    let Found { format, is_ours, is_new, database } = add(transaction, home, schema, job).await.map_err(failed)?;
    let location = || format!("the schema `{schema}`");
    match format {
        FORMAT if is_new => after::hold(&users, &begun).await.map(|()| id).map_err(failed),
        FORMAT if is_ours => is_there(transaction, schema, job).await.map(|()| id),
        FORMAT => {
            let transaction = format!("the database `{database}`");
            Err(Error::OtherStore { transaction, store: home.to_string() })
        }
        newer if newer > FORMAT => Err(Error::NewerStore { store: location(), found: newer, known: FORMAT }),
        0 => Err(Error::ForeignStore {
            store: location(),
            why: "it has no tables of qtasks; open it once as the store, and use the same database here".to_owned(),
        }),
        _ => Err(Error::ForeignStore {
            store: location(),
            why: "its tables are those of an older qtasks; open it once as the store".to_owned(),
        }),
    }
}

/// The application's transaction, in which keys are taken.
struct Users<'t, 'c> {
    transaction: &'t Transaction<'c>,
    schema: &'t str,
}

impl Keys for Users<'_, '_> {
    async fn ask(&self, sql: &'static str, parameters: &[Parameter<'_>]) -> Result<Vec<Row>, Fault> {
        let parameters: Vec<_> = parameters.iter().map(|(value, kind)| (*value as _, kind.clone())).collect();
        // Not prepared: through a pooler, the next transaction would look for it in another session.
        Ok(self.transaction.query_typed(&in_schema(self.schema, sql), &parameters).await?)
    }
}

impl Users<'_, '_> {
    /// Tells that a job may have been replaced, once the transaction commits.
    async fn notify(&self) -> Result<(), Fault> {
        let channel = in_schema(self.schema, CHANNEL);
        self.transaction.query_typed("SELECT pg_notify($1, '- work')", &[(&channel, Type::TEXT)]).await?;
        Ok(())
    }
}

/// Whether the tables are those of the application and of this version. Where they are not, the call that adds the job says so.
async fn is_ours(transaction: &Transaction<'_>, home: &Home, schema: &str) -> Result<bool, Fault> {
    const OURS: &str = "
        SELECT count(*) > 0 FROM qtasks.format WHERE format = $1 AND store = $2 AND current_database() = $3";
    let Home::Schema { database, store, .. } = home else { return Ok(false) };
    let there = "SELECT count(*) = 2 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = $1 AND c.relname IN ('format', 'keys')";
    let found = transaction.query_typed(there, &[(&schema, Type::TEXT)]).await?;
    if !encoding::get::<bool>(&found[0], 0)? {
        return Ok(false);
    }
    let parameters: [(&(dyn ToSql + Sync), Type); 3] =
        [(&FORMAT, Type::INT8), (store, Type::UUID), (database, Type::TEXT)];
    let found = transaction.query_typed(&in_schema(schema, OURS), &parameters).await?;
    encoding::get(&found[0], 0)
}

/// Adds the job, if the tables allow it.
async fn add(transaction: &Transaction<'_>, home: &Home, schema: &str, job: &NewJob) -> Result<Found, Fault> {
    let Home::Schema { database, store, .. } = home else { return Ok(Found::of(0)) };
    let jobs = Jobs::new([job]);
    let (sql, channel) = (in_schema(schema, ENQUEUE_IN), in_schema(schema, CHANNEL));
    let more: [(&(dyn ToSql + Sync), Type); 4] =
        [(&FORMAT, Type::INT8), (&channel, Type::TEXT), (store, Type::UUID), (database, Type::TEXT)];
    let parameters: Vec<_> = jobs.parameters().into_iter().chain(more).collect();
    // Not prepared: through a pooler, the next transaction would look for it in another session.
    match transaction.query_typed(&sql, &parameters).await {
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => Ok(Found::of(0)),
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_COLUMN) => Ok(Found::of(OLDER)),
        found => Found::read(&found?),
    }
}

/// A format without an id of the store.
const OLDER: i64 = 2;

impl Found {
    fn of(format: i64) -> Self {
        Self { format, is_ours: false, is_new: false, database: String::new() }
    }

    fn read(rows: &[Row]) -> Result<Self, Fault> {
        let Some(row) = rows.first() else { return Ok(Self::of(0)) };
        Ok(Self {
            format: encoding::get::<Option<i64>>(row, 0)?.unwrap_or(0),
            is_ours: encoding::get::<Option<bool>>(row, 1)?.unwrap_or(false),
            is_new: encoding::get(row, 2)?,
            database: encoding::get(row, 3)?,
        })
    }
}

/// Checks that the job which has this id already is of the same call.
async fn is_there(transaction: &Transaction<'_>, schema: &str, job: &NewJob) -> Result<()> {
    let (sql, id) = (in_schema(schema, THERE), encoding::job_id(job.call.id));
    let rows = transaction.query_typed(&sql, &[(&id, Type::UUID)]).await.map_err(|error| failed(error.into()))?;
    // If the job has been pruned since, it is taken for one of the same call.
    let Some(row) = rows.first() else { return Ok(()) };
    let (task, args): (String, String) =
        (encoding::get(row, 0).map_err(failed)?, encoding::get(row, 1).map_err(failed)?);
    is_of_call(job.call.id, (&task, &Json::from_stored(args)), (&job.call.task, &job.call.args))
}

fn failed(fault: Fault) -> Error {
    fault.of_write("enqueue a job in the application's transaction")
}
