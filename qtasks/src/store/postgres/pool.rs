//! The connections that calls share, and how a statement is sent over one.

use std::{
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use deadpool_postgres::{Hook, HookError, Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime};
use futures::future::try_join_all;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};
use tokio_postgres::{
    Config, Row,
    types::{ToSql, Type},
};

use super::{error::Fault, tls, url::StoreUrl};
use crate::error::{Error, Result};

/// Lets a session be idle, and a transaction last, whatever is set for the role or the database: the store limits otherwise
/// how long its own may take. Not every server has both settings, so they cannot be given when the store connects.
pub(super) const UNLIMITED: &str = "SELECT set_config(name, '0', false) FROM pg_settings
    WHERE name IN ('idle_session_timeout', 'transaction_timeout') AND setting <> '0'";

/// A database, and the connections to it that calls and handlers use.
pub(super) struct Database {
    pub(super) place: StoreUrl,
    pool: Pool,
    /// The connections of handlers. They are apart from the others, so that no call waits for a connection however long
    /// handlers take.
    of_handlers: Pool,
    /// Permits for calls that read much, which must leave connections to others.
    listings: Semaphore,
    /// Connections that were made before this time are not used again.
    oldest: Arc<Mutex<Option<Instant>>>,
}

/// A parameter of a statement with its type, so that the server need not be asked for the type.
pub(super) type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

/// A statement, which names the schema `qtasks`, with its parameters.
pub(super) struct Statement<'a> {
    pub(super) sql: &'static str,
    pub(super) parameters: &'a [Parameter<'a>],
}

impl Database {
    pub(super) fn new(url: StoreUrl) -> Result<Self> {
        let oldest = Arc::default();
        let (pool, of_handlers) = (pool(&url, &url.config, &oldest)?, pool(&url, &url.of_handlers, &oldest)?);
        let listings = Semaphore::new(url.connections.div_ceil(2));
        Ok(Self { place: url, pool, of_handlers, listings, oldest })
    }

    /// Gives up connections that were made before `time`, which may lead to another server than they should.
    pub(super) fn give_up_older(&self, time: Instant) {
        *self.oldest.lock().unwrap_or_else(PoisonError::into_inner) = Some(time);
    }

    /// Carries out one statement, in a transaction of its own.
    pub(super) async fn query(&self, sql: &'static str, parameters: &[Parameter<'_>]) -> Result<Vec<Row>, Fault> {
        let rows = self.queries(&[Statement { sql, parameters }]).await?;
        Ok(rows.into_iter().next().unwrap_or_default())
    }

    /// Carries out one statement that may give many rows. However many of these run, they leave half of the connections to
    /// others.
    pub(super) async fn list(&self, sql: &'static str, parameters: &[Parameter<'_>]) -> Result<Vec<Row>, Fault> {
        let _permit = self.permit_of_listing().await?;
        self.query(sql, parameters).await
    }

    async fn permit_of_listing(&self) -> Result<SemaphorePermit<'_>, Fault> {
        match timeout(self.place.patience, self.listings.acquire()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(Fault::away("the store is busy with other listings")),
        }
    }

    /// Carries out statements one after the other in a single round trip, each in a transaction of its own.
    pub(super) async fn queries(&self, statements: &[Statement<'_>]) -> Result<Vec<Vec<Row>>, Fault> {
        let lent = self.lend().await?;
        let all = try_join_all(statements.iter().map(|statement| lent.send(&self.place, statement)));
        let came = self.in_time(self.place.patience, all).await?;
        lent.give_back();
        Ok(came)
    }

    /// Begins a transaction of several statements.
    pub(super) async fn begin(&self) -> Result<Transaction<'_>, Fault> {
        self.begin_by("BEGIN", self.place.patience, None).await
    }

    /// Begins a transaction of statements that read much, each of which may take no longer than `patience`. However many of
    /// these run, they leave half of the connections to others.
    pub(super) async fn begin_listing(&self, patience: Duration) -> Result<Transaction<'_>, Fault> {
        let (permit, patience) = (self.permit_of_listing().await?, patience.min(self.place.patience));
        let begin = format!("BEGIN READ ONLY; SET LOCAL statement_timeout = {}", patience.as_millis());
        self.begin_by(&begin, patience, Some(permit)).await
    }

    async fn begin_by<'d>(
        &'d self,
        begin: &str,
        patience: Duration,
        permit: Option<SemaphorePermit<'d>>,
    ) -> Result<Transaction<'d>, Fault> {
        let lent = self.lend().await?;
        let begun = async { Ok(lent.connection().batch_execute(begin).await?) };
        self.in_time(self.place.patience, begun).await?;
        Ok(Transaction { lent, database: self, patience, _permit: permit })
    }

    /// The result of `work`, unless it takes too long. Then the way to the server may be dead, and all connections that were
    /// there before are given up: each of them would keep a caller waiting as long again.
    async fn in_time<T>(&self, patience: Duration, work: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
        let begun = Instant::now();
        let came = in_time(patience, work).await.map_err(|fault| fault.explained(&self.place));
        if matches!(came, Err(Fault::Silent(_))) {
            self.pool.retain(|_, connection| connection.created > begun);
        }
        came
    }

    async fn lend(&self) -> Result<Lent, Fault> {
        lend(&self.pool, &self.place).await
    }

    /// Lends a connection on which handlers run.
    pub(super) async fn lend_to_handlers(&self) -> Result<Lent, Fault> {
        lend(&self.of_handlers, &self.place).await
    }
}

async fn lend(pool: &Pool, url: &StoreUrl) -> Result<Lent, Fault> {
    let lent = pool.get().await.map_err(|error| Fault::lending(error, url))?;
    Ok(Lent(Some(lent)))
}

fn pool(url: &StoreUrl, config: &Config, oldest: &Arc<Mutex<Option<Instant>>>) -> Result<Pool> {
    let oldest = Arc::clone(oldest);
    let not_too_old = Hook::sync_fn(move |_, metrics| {
        let oldest = *oldest.lock().unwrap_or_else(PoisonError::into_inner);
        if oldest.is_some_and(|oldest| metrics.created < oldest) {
            return Err(HookError::message("it may lead to another server"));
        }
        Ok(())
    });
    let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let manager = Manager::from_config(config.clone(), tls::connector(&url.trust)?, recycling);
    let unlimited = Hook::async_fn(|connection, _| {
        Box::pin(async { connection.batch_execute(UNLIMITED).await.map_err(HookError::Backend) })
    });
    // A pooler lends another session to each transaction.
    let builder = Pool::builder(manager);
    let builder = if url.pooled { builder } else { builder.post_create(unlimited) };
    builder
        .max_size(url.connections)
        .pre_recycle(not_too_old)
        .runtime(Runtime::Tokio1)
        .wait_timeout(Some(url.patience))
        .create_timeout(Some(url.patience))
        .build()
        .map_err(|error| Error::store("open its database", error))
}

/// A transaction, which is rolled back when it is dropped.
pub(super) struct Transaction<'d> {
    lent: Lent,
    database: &'d Database,
    patience: Duration,
    _permit: Option<SemaphorePermit<'d>>,
}

impl Transaction<'_> {
    pub(super) async fn query(&self, sql: &'static str, parameters: &[Parameter<'_>]) -> Result<Vec<Row>, Fault> {
        let statement = Statement { sql, parameters };
        self.database.in_time(self.patience, self.lent.send(&self.database.place, &statement)).await
    }

    /// Carries out statements without parameters.
    pub(super) async fn execute(&self, sql: &str) -> Result<(), Fault> {
        let executed = async { Ok(self.lent.connection().batch_execute(sql).await?) };
        self.database.in_time(self.patience, executed).await
    }

    /// Lets each statement from now on take as long as `patience`.
    pub(super) async fn allow(&mut self, patience: Duration) -> Result<(), Fault> {
        self.execute(&format!("SET LOCAL statement_timeout = {}", patience.as_millis())).await?;
        self.patience = patience;
        Ok(())
    }

    pub(super) async fn commit(self) -> Result<(), Fault> {
        self.end("COMMIT").await
    }

    /// Undoes all, and keeps the connection, which would be closed otherwise.
    pub(super) async fn roll_back(self) -> Result<(), Fault> {
        self.end("ROLLBACK").await
    }

    async fn end(self, sql: &str) -> Result<(), Fault> {
        self.execute(sql).await?;
        self.lent.give_back();
        Ok(())
    }
}

/// The result of `work`, unless it takes too long by the clock of the runtime in which this is called.
pub(super) fn in_time<T>(
    patience: Duration,
    work: impl Future<Output = Result<T, Fault>>,
) -> impl Future<Output = Result<T, Fault>> {
    // A little longer than the limit that the server itself has, because the answer of the server says more.
    let limited = tokio::time::timeout(patience + Duration::from_millis(500), work);
    async move { limited.await.unwrap_or_else(|_| Err(Fault::Silent(patience))) }
}

/// A connection that is lent to a call. It is closed when this is dropped, for instance by a call that failed or was given
/// up: it is not known what is still under way on it.
pub(super) struct Lent(Option<Object>);

impl Lent {
    fn connection(&self) -> &Object {
        self.0.as_ref().expect("it is taken only at the end")
    }

    pub(super) fn connection_mut(&mut self) -> &mut Object {
        self.0.as_mut().expect("it is taken only at the end")
    }

    async fn send(&self, url: &StoreUrl, statement: &Statement<'_>) -> Result<Vec<Row>, Fault> {
        let sql = url.sql(statement.sql);
        let connection = self.connection();
        if url.pooled {
            return Ok(connection.query_typed(&sql, statement.parameters).await?);
        }
        let types: Vec<_> = statement.parameters.iter().map(|(_, of_type)| of_type.clone()).collect();
        let prepared = connection.prepare_typed_cached(&sql, &types).await?;
        let values: Vec<_> = statement.parameters.iter().map(|(value, _)| *value).collect();
        Ok(connection.query(&prepared, &values).await?)
    }

    pub(super) fn give_back(mut self) {
        self.0.take();
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            drop(Object::take(connection));
        }
    }
}
