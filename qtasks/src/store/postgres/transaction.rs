//! The transaction that a handler writes in.

use std::{
    fmt,
    ops::{Deref, DerefMut},
    time::Duration,
};

use futures::future::BoxFuture;
use tokio::runtime::Handle;
use tokio_postgres::error::SqlState;

use super::{error::Fault, pool::in_time};
use crate::{error::BoxError, model::job::Reply};

/// A transaction of the store, in which a handler writes what is to be there exactly once.
///
/// It is a [`tokio_postgres::Transaction`] on the store's own database, at the isolation level `READ COMMITTED`. The step of
/// the value is recorded in it, so that both are there or neither is. An error or a panic of the handler undoes what that
/// handler wrote, as does a statement that failed and was passed over, or a deferred constraint that does not hold at its
/// end.
///
/// The handlers of one job share a transaction for up to 50 ms; those of other jobs have their own. Yet keep a handler short:
/// others wait for the rows that it has locked. After `?timeout=10` seconds the handler is given up, and that is an error of
/// it. A handler must neither commit nor roll back by SQL.
///
/// [`QueueTasks::enqueue_in`](crate::QueueTasks::enqueue_in) takes it too, as `&mut *tx`.
///
/// ```no_run,standalone_crate
/// use qtasks::{
///     postgres::{Transaction, tokio_postgres},
///     prelude::*,
/// };
///
/// async fn save(tx: &mut Transaction<'_>, name: String) -> Result<i64, tokio_postgres::Error> {
///     let row = tx.query_one("INSERT INTO users (name) VALUES ($1) RETURNING id", &[&name]).await?;
///     row.try_get("id")
/// }
///
/// #[qtask(generate_handler = save)]
/// async fn import(names: Vec<String>) -> Vec<i64> {
///     for name in names {
///         yield_!(name);
///     }
/// }
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let app = QueueTasks::open("postgres://me:secret@db.example/app").await?;
/// let job = app.enqueue(import(vec!["Ada".into(), "Grace".into()])).await?;
/// app.worker().run_until_idle().await?;
/// assert_eq!(job.result().await?, [1, 2]);
/// # Ok(())
/// # }
/// ```
pub struct Transaction<'c> {
    pub(super) transaction: tokio_postgres::Transaction<'c>,
    pub(super) schema: &'c str,
    pub(super) timer: Timer,
    pub(super) sealed: Sealed,
}

impl<'c> Deref for Transaction<'c> {
    type Target = tokio_postgres::Transaction<'c>;

    fn deref(&self) -> &Self::Target {
        &self.transaction
    }
}

impl DerefMut for Transaction<'_> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.transaction
    }
}

impl fmt::Debug for Transaction<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a transaction of the store")
    }
}

/// Whether the writes of a handler stay if the transaction commits.
pub(super) enum Sealed {
    No,
    Yes,
    /// The commit failed in a way that does not tell whether it was carried out; this is the error.
    InDoubt(Fault),
}

/// The name of the kind of transaction that handlers of this store take.
pub(crate) const KIND: &str = "postgres";

/// A handler with its value, for [`PendingStep`]: gives the reply to record, once the transaction is sealed, or nothing when
/// it failed.
pub(crate) type InTransaction =
    Box<dyn for<'t, 'c> FnOnce(&'t mut Transaction<'c>) -> BoxFuture<'t, Option<Reply>> + Send>;

/// Checks deferred constraints now and not at the commit, so that it is known which handler broke one.
const SEAL: &str = "
    SAVEPOINT qtasks_check;
    SET CONSTRAINTS ALL IMMEDIATE;
    ROLLBACK TO SAVEPOINT qtasks_check;
    RELEASE SAVEPOINT qtasks_handler;
    SAVEPOINT qtasks_handler";

const SEALING: &str = "keep what a handler wrote";
pub(super) const ENDED: &str =
    "a handler ended the transaction that it was given; it must neither commit nor roll back";
const PASSED_OVER: &str =
    "a statement of the handler failed, and it went on; what may fail belongs into a savepoint: `tx.savepoint(..)`";

impl<'c> Transaction<'c> {
    /// The limit of how long a handler may take from now on.
    pub(crate) fn limit(&self) -> Limit {
        Limit(self.timer.clone())
    }

    /// Keeps the writes of a handler, after checking that the commit will not refuse them.
    pub(crate) async fn seal(&mut self) -> Result<(), BoxError> {
        self.sealed = Sealed::InDoubt(Fault::away("the call was given up"));
        let sealed = self.timer.in_time(async { Ok(self.transaction.batch_execute(SEAL).await) }).await;
        let (state, answer) = match sealed {
            Ok(Ok(())) => (Sealed::Yes, Ok(())),
            Ok(Err(error)) => {
                let answer = match error.code() {
                    Some(&SqlState::IN_FAILED_SQL_TRANSACTION) => PASSED_OVER.into(),
                    Some(&SqlState::NO_ACTIVE_SQL_TRANSACTION | &SqlState::S_E_INVALID_SPECIFICATION) => ENDED.into(),
                    _ => Fault::from(error).into_error(SEALING).into(),
                };
                (Sealed::No, Err(answer))
            }
            Err(fault) => (Sealed::InDoubt(fault.clone()), Err(fault.into_error(SEALING).into())),
        };
        self.sealed = state;
        answer
    }

    /// The schema in which jobs are enqueued, and the driver's transaction.
    pub(super) fn parts(&mut self) -> (&'c str, &mut tokio_postgres::Transaction<'c>) {
        (self.schema, &mut self.transaction)
    }

    pub(super) async fn execute(&self, sql: &str) -> Result<(), Fault> {
        self.timer.in_time(async { Ok(self.transaction.batch_execute(sql).await?) }).await
    }
}

/// Limits how long work may take, by the clock of the store's own runtime: the runtime in which handlers run may have no
/// clock, or stop it.
#[derive(Clone)]
pub(super) struct Timer {
    pub(super) runtime: Handle,
    pub(super) patience: Duration,
}

impl Timer {
    pub(super) async fn in_time<T>(&self, work: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
        let limited = {
            let _there = self.runtime.enter();
            in_time(self.patience, work)
        };
        limited.await
    }
}

/// The limit of how long a handler may take.
pub(crate) struct Limit(Timer);

impl Limit {
    /// The result of the handler, unless it takes too long.
    pub(crate) async fn upon<T>(self, handler: impl Future<Output = Result<T, BoxError>>) -> Result<T, BoxError> {
        let Self(Timer { runtime, patience }) = self;
        let limited = {
            let _there = runtime.enter();
            tokio::time::timeout(patience, handler)
        };
        let late = |_| {
            let seconds = patience.as_secs();
            Err(format!("a handler in a transaction took longer than {seconds} s, which is the store's `timeout`")
                .into())
        };
        limited.await.unwrap_or_else(late)
    }
}
