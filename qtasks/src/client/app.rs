//! The application: a store, the tasks of this program, and the states that they share.

use std::{collections::HashMap, fmt, sync::Arc};

use serde::Serialize;

use super::{
    enqueuing::enqueue,
    handle::JobHandle,
    run::run,
    statement::{Statement, sql},
};
use crate::{
    environment::App,
    error::{Error, Result},
    model::{job::JobId, json::Json, lifecycle::later, limits::check_name},
    schema::{TaskExecSchema, UniqueSchema},
    store,
    task::{
        Task,
        call::{AnyCall, CallOptions},
        options::no_key,
        prepared::Prepared,
    },
    telemetry::trace::linked,
    worker::WorkerBuilder,
};

/// So many jobs that are enqueued together would make too large a part of the trace that enqueues them.
const MANY: usize = 100;

/// The application: it opens a store, enqueues calls of tasks, and starts workers. Cloning is cheap.
///
/// ```
/// use qtasks::prelude::*;
///
/// async fn add_two(value: i64) -> i64 {
///     value + 2
/// }
///
/// #[qtask(generate_handler = add_two)]
/// async fn first_numbers(n: i64) -> Vec<i64> {
///     for i in 0..n {
///         yield_!(i);
///     }
/// }
///
/// #[tokio::main]
/// async fn main() -> qtasks::Result<()> {
///     let app = QueueTasks::open("memory:").await?;
///     let worker = app.worker().start().await?;
///     let job = app.enqueue(first_numbers(3)).await?;
///     assert_eq!(job.result().await?, [2, 3, 4]);
///     worker.shutdown().await
/// }
/// ```
#[derive(Clone)]
pub struct QueueTasks {
    app: Arc<App>,
}

impl QueueTasks {
    pub(crate) fn app(&self) -> Arc<App> {
        self.app.clone()
    }

    pub(crate) fn of(app: App) -> Self {
        Self { app: Arc::new(app) }
    }

    /// Enqueues a call. When this returns, the job is durable.
    ///
    /// The call waits for a store that is away, for as long as the `timeout` of its URL allows. It is made again until the store
    /// answers, and enqueues the job once however often that is.
    ///
    /// # Errors
    ///
    /// [`Error::OverLimit`] and [`Error::Encode`] when the arguments do not fit, [`Error::Refused`] when the store does not take
    /// them; [`Error::Duplicate`] when another job holds the key of a call that is [refused](crate::Duplicate::Refuse) then, and
    /// [`Error::NoParent`] when a job that it is to come [after](CallOptions::after) is not there; [`Error::OtherTask`] and
    /// [`Error::OtherArguments`] when the [`id`](CallOptions::id) of the call is that of another job; [`Error::Rejected`] when an
    /// [`Around`](crate::Around) refuses the call; [`Error::InDoubt`] when the store did not answer in time: then the job may or may
    /// not have been enqueued, and its id is [in the error](Error::jobs_in_doubt).
    ///
    /// # Cancel safety
    ///
    /// The job may be enqueued although the future was dropped.
    pub async fn enqueue<C: CallOptions>(&self, call: C) -> Result<JobHandle<<C::Task as Task>::Output>> {
        self.enqueue_prepared(self.prepare(call)?).await
    }

    /// Enqueues many calls in one round trip, all of them or none; the handles come in the order of the calls.
    ///
    /// # Errors
    ///
    /// Those of [`enqueue`](Self::enqueue).
    pub async fn enqueue_all<C: CallOptions>(
        &self,
        calls: impl IntoIterator<Item = C>,
    ) -> Result<Vec<JobHandle<<C::Task as Task>::Output>>> {
        self.enqueue_together(calls.into_iter().map(|call| self.prepare(call))).await
    }

    /// Enqueues calls of different tasks in one round trip, all of them or none; the handles come in the order of the calls.
    ///
    /// ```
    /// use qtasks::prelude::*;
    ///
    /// #[qtask]
    /// async fn charge(order: u64) {}
    ///
    /// #[qtask]
    /// async fn thank(customer: String) -> String {
    ///     format!("thank you, {customer}")
    /// }
    ///
    /// # #[tokio::main]
    /// # async fn main() -> qtasks::Result<()> {
    /// let app = QueueTasks::open("memory:").await?;
    /// let jobs = app.enqueue_many([charge(7).priority(9).into(), thank("Ada".into()).into()]).await?;
    /// # app.worker().run_until_idle().await?;
    /// assert_eq!(jobs[1].result().await?, "thank you, Ada");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`enqueue`](Self::enqueue).
    pub async fn enqueue_many(
        &self,
        calls: impl IntoIterator<Item = AnyCall>,
    ) -> Result<Vec<JobHandle<serde_json::Value>>> {
        self.enqueue_together(calls.into_iter().map(|call| self.app.prepare_any(call))).await
    }

    async fn enqueue_together<C>(&self, jobs: impl Iterator<Item = Result<Prepared>>) -> Result<Vec<JobHandle<C>>> {
        let mut jobs = jobs.collect::<Result<Vec<_>>>()?;
        if jobs.len() > MANY {
            jobs.iter_mut().for_each(|job| job.trace = linked(job.trace.take()));
        }
        let joined = enqueue(&*self.app.store, &jobs).await?;
        let holders: HashMap<_, _> = joined.into_iter().map(|joined| (joined.job, joined.holder)).collect();
        let found = |id| holders.get(&id).copied().unwrap_or(id);
        Ok(jobs.iter().map(|job| JobHandle::of_call(found(job.id), job.id, self.app.clone())).collect())
    }

    /// Enqueues a call within the caller's own transaction on the same store: the job exists if that commits. The
    /// [`id`](CallOptions::id) of a call has its usual meaning, among the jobs that the transaction sees.
    ///
    /// For SQLite it takes a `&rusqlite::Transaction` and answers at once:
    ///
    /// ```
    /// use qtasks::{prelude::*, sqlite::rusqlite};
    ///
    /// #[qtask]
    /// async fn welcome(user: String) {
    ///     println!("welcome, {user}");
    /// }
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("app.db");
    /// let app = QueueTasks::open(&format!("sqlite:{}", path.display())).await?;
    /// let mut database = rusqlite::Connection::open(&path)?;
    /// database.execute_batch("CREATE TABLE users (name TEXT)")?;
    ///
    /// let tx = database.transaction()?;
    /// tx.execute("INSERT INTO users VALUES ('Ada')", [])?;
    /// let job = app.enqueue_in(&tx, welcome("Ada".into()))?;
    /// tx.commit()?;
    /// assert_eq!(job.status().await?.attempt, 0);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// For Postgres it takes a `&mut tokio_postgres::Transaction`, of `qtasks::postgres::tokio_postgres`, and the caller awaits
    /// its answer: `app.enqueue_in(&mut tx, welcome("Ada".into())).await?`. For transactions of other drivers there is
    /// [`statement`](Self::statement).
    ///
    /// # Errors
    ///
    /// [`Error::OtherStore`] when the transaction is on another file or database than the application's store; where that is
    /// `memory:`, each is. A database to which the store's file is attached is another one. Besides, those of
    /// [`enqueue`](Self::enqueue), [`Error::ForeignStore`] when the tables are not those of this qtasks, and
    /// [`Error::StoreChanged`]. After an [`Error::OtherTask`], [`Error::OtherArguments`] or [`Error::OtherStore`] the transaction
    /// can go on; after any other error that Postgres itself gave it cannot.
    pub fn enqueue_in<X: store::UserTransaction, C: CallOptions>(
        &self,
        tx: X,
        call: C,
    ) -> X::Answer<JobHandle<<C::Task as Task>::Output>> {
        let (app, job) = (self.app.clone(), self.prepare(call));
        let own = job.as_ref().map(|job| job.id).unwrap_or_default();
        tx.enqueue(&self.app.store.home(), job.map(|job| job.job()), move |id| JobHandle::of_call(id, own, app))
    }

    /// A call as SQL, for a driver that qtasks does not know, as those of sqlx, sea-orm and diesel: the driver carries it out in
    /// its own transaction on the same store. The job exists if that commits.
    ///
    /// This does not call the store, and the id of the job is known already. A statement that is carried out twice makes no
    /// second job. A [`delay`](CallOptions::delay) counts from when the statement is carried out.
    ///
    /// ```standalone_crate
    /// use qtasks::{prelude::*, sqlite::rusqlite};
    ///
    /// #[qtask]
    /// async fn welcome(user: String) {
    ///     println!("welcome, {user}");
    /// }
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("app.db");
    /// let app = QueueTasks::open(&format!("sqlite:{}", path.display())).await?;
    /// let statement = app.statement(welcome("Ada".into()))?;
    /// // With sqlx: query(&statement.sql).bind(..) of each, `.execute(&mut *tx)`.
    /// let database = rusqlite::Connection::open(&path)?;
    /// database.execute(&statement.sql, statement.parameters())?;
    /// assert_eq!(app.job::<welcome>(statement.id).await?.status().await?.attempt, 0);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// On SQLite the statement inserts into the view `qtasks_enqueue`. That takes SQLite 3.38, and a connection with
    /// `PRAGMA trusted_schema = OFF` may not do it. On Postgres the statement calls the function `enqueue` in the schema of the
    /// store. Both take arguments of up to 1 MiB, whatever the [`Limits`](crate::Limits) are. What they refuse is an error of the
    /// driver.
    ///
    /// # Errors
    ///
    /// [`Error::OverLimit`] and [`Error::Encode`] when the arguments do not fit; [`Error::Unsupported`] where the store is
    /// neither on SQLite nor on Postgres, for a call that has a [key](CallOptions::unique_key), and for one that comes
    /// [after](CallOptions::after) others.
    pub fn statement<C: CallOptions>(&self, call: C) -> Result<Statement> {
        let sql = sql(&self.app.store.home())?;
        let (job, options) = self.app.prepare_in_sql(call)?;
        if job.unique.is_some() || job.after.is_some() {
            return Err(Error::Unsupported(
                "a call with a unique key, and one that waits for other jobs, has no form in SQL; use `enqueue` or `enqueue_in`",
            ));
        }
        let (id, task) = (job.id, job.task.into_owned());
        Ok(Statement { sql, id, task, args: job.args.as_str().to_owned(), options: options.to_string() })
    }

    /// Enqueues a call of the task named `name`, with the arguments as an object by parameter name; for tools.
    ///
    /// The task need not be known to this program. Its queue, its priority, when it expires and its key are then those of its
    /// [card](crate::TaskCard), if a worker on this store has known the task.
    ///
    /// # Errors
    ///
    /// Those of [`enqueue`](Self::enqueue).
    pub async fn enqueue_json(&self, name: &str, args: &impl Serialize) -> Result<JobHandle<serde_json::Value>> {
        check_name("task", name)?;
        let schema = self.app.registry.get(name).map(|task| task.schema());
        let card = if schema.is_none() { self.app.task_card(name).await? } else { None };
        let args = Json::encode(args)
            .map_err(|source| Error::Encode { what: format!("the arguments of `{name}`"), source: source.into() })?;
        self.app.limits.check_args(&args)?;
        let now = self.app.now();
        let rule = match schema {
            Some(schema) => schema.unique.as_ref().map(UniqueSchema::card),
            None => card.as_ref().and_then(|card| card.unique.clone()),
        };
        let quiet = rule.as_ref().and_then(|rule| rule.quiet);
        let unique = rule.map(|rule| rule.of_args(&args)).transpose().map_err(|source| no_key(name, source))?;
        let job = Prepared {
            id: JobId::new(),
            has_own_id: false,
            task: schema.map_or_else(|| name.to_owned().into(), |schema| schema.name.into()),
            priority: schema.map(|schema| schema.priority).or(card.as_ref().map(|card| card.priority)).unwrap_or(0),
            queue: match (schema, &card) {
                (Some(schema), _) => schema.queue.into(),
                (None, Some(card)) => card.queue.clone().into(),
                (None, None) => "default".into(),
            },
            args,
            due: quiet.map_or(now, |quiet| later(now, quiet)),
            max_time: None,
            enqueued: now,
            expires: schema.map_or_else(|| card.as_ref().and_then(|card| card.expires), |schema| schema.expires),
            trace: None,
            unique,
            after: None,
        };
        self.enqueue_prepared(self.app.let_in(job)?).await
    }

    /// Runs a call here and now: one try, and nothing is stored.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] with the text of the task's own error, or of an [`Around`](crate::Around) that ended it;
    /// [`Error::MissingState`], [`Error::NoTransactions`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops an `async fn` task. A `fn` task goes on to its end, or until it next asks something of
    /// its [`TaskContext`](crate::TaskContext), as it does when its time is up.
    pub async fn run<C: CallOptions>(&self, call: C) -> Result<<C::Task as Task>::Output> {
        run(&self.app, call).await
    }

    /// Attaches to a job of the task `T`, enqueued here or elsewhere.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchJob`], [`Error::OtherTask`], and [`Error::Store`] when the store cannot be read.
    pub async fn job<T: Task>(&self, id: JobId) -> Result<JobHandle<T::Output>> {
        let job = self.app.job(id).await?;
        let asked = T::schema().name;
        if job.call.task != asked {
            return Err(Error::OtherTask { id, found: job.call.task, asked: asked.to_owned() });
        }
        Ok(JobHandle::new(id, self.app.clone()))
    }

    /// Attaches to a job of any task; for tools.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchJob`], and [`Error::Store`] when the store cannot be read.
    pub async fn any_job(&self, id: JobId) -> Result<JobHandle<serde_json::Value>> {
        self.app.standing(id).await?;
        Ok(JobHandle::new(id, self.app.clone()))
    }

    /// All tasks linked into this program, by name.
    pub fn tasks(&self) -> impl Iterator<Item = &'static TaskExecSchema> {
        self.app.registry.schemas()
    }

    /// A worker of this application, to be started.
    pub fn worker(&self) -> WorkerBuilder {
        WorkerBuilder::new(self.app.clone())
    }

    fn prepare<C: CallOptions>(&self, call: C) -> Result<Prepared> {
        self.app.prepare(call)
    }

    async fn enqueue_prepared<C>(&self, job: Prepared) -> Result<JobHandle<C>> {
        let joined = enqueue(&*self.app.store, std::slice::from_ref(&job)).await?;
        Ok(JobHandle::of_call(job.found(&joined), job.id, self.app.clone()))
    }
}

impl fmt::Debug for QueueTasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} tasks on {:?}", self.app.registry.schemas().count(), self.app.store)
    }
}
