//! The store in a Postgres database.

use std::{
    fmt,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use async_trait::async_trait;
use futures::{future::BoxFuture, join};
use jiff::Timestamp;
use tokio::runtime::{Builder, Handle, Runtime};

use super::{
    batcher::Batcher,
    calls::{
        counts, enqueue::Enqueue, expire, find, keys, lease, notes, place, prune, rates, read, record::Records,
        settle::Settle, transact,
    },
    error::Fault,
    folding::Folding,
    leases::Leases,
    notify::Broadcast,
    pool::Database,
    presence, schema, server,
    session::{self, Session, Sessions},
    shared::Shared,
    transaction::KIND,
    url::StoreUrl,
    waiters::SharedWaiters,
    watermark::Watermark,
};
use crate::store::{
    Ask, Budget, Expired, Find, FreeSlots, Home, Joined, Lane, LaneCounts, Leased, Note, NoteChange, Notifier, Page,
    PendingStep, Placement, Presence, Rate, RateSpan, Record, Renewed, Scheme, Settlement, Store, Transacted, Written,
};
use crate::{
    error::{Error, Result},
    model::{
        job::{Attempt, Counts, Job, JobId, Lease, Memo, NewJob, Standing, Step, WorkerId},
        unique::Holder,
    },
};

inventory::submit! {
    Scheme {
        name: "postgres",
        form: "postgres://USER@HOST/DATABASE",
        open: |url| Box::pin(async move { Ok(Arc::new(Postgres::open(url).await?) as Arc<dyn Store>) }),
    }
}

inventory::submit! {
    Scheme {
        name: "postgresql",
        form: "postgresql://USER@HOST/DATABASE",
        open: |url| Box::pin(async move { Ok(Arc::new(Postgres::open(url).await?) as Arc<dyn Store>) }),
    }
}

/// A store in a Postgres database.
///
/// When a call returns, its commit is as durable as the server makes it: with `synchronous_commit = on` and `fsync = on`,
/// as they are by default, it survives a crash of the server's machine. Calls that are under way at the same time share
/// statements and commits.
///
/// Workers show that they live by a session-level advisory lock, and by a number that they raise each second. When the
/// process of a worker has ended the server knows it at once, and the jobs go on within a second or so. A worker that is
/// frozen, or cut off, loses its jobs when its number has not changed for 3 s. A worker that runs and reaches the server
/// keeps them, also when another server takes the place of this one.
///
/// Leases are renewed on one connection and one thread that the calls of the store do not share. The store needs neither
/// extensions nor a superuser, only the right to make the schema, and not even that once the schema is there.
pub struct Postgres {
    shared: Arc<Shared>,
    enqueues: Batcher<Enqueue>,
    records: Batcher<Records>,
    settlements: Batcher<Settle>,
    engine: Engine,
    /// The runtime of the [session]. It is apart from the other, so that renewals do not wait however much there is to do.
    of_sessions: Engine,
}

impl Postgres {
    /// Opens the store at a URL like `postgres://me:secret@db.example/app`, as libpq has them, and makes the schema and its
    /// tables where they are missing.
    ///
    /// Further parameters, after a `?`, with `&` between them:
    ///
    /// - `schema=jobs`: a schema other than `qtasks`.
    /// - `connections=8`: how many connections calls share at most, and handlers in [transactions](super::Transaction) as many others.
    /// - `timeout=10`: how many seconds a call, or a handler in a transaction, may take before it is an error; and for how
    ///   long an application makes a call again that finds the server away.
    /// - `sslmode=`: `disable`, `prefer` (the default: encrypted where the server can), `require` (encrypted, whatever the
    ///   server's certificate), or `verify-full` (its certificate must be good too); `sslrootcert=ca.pem` says by which
    ///   certificates, in place of those that the system trusts.
    /// - `pooler=transaction`: connections go through a pooler such as PgBouncer, which gives each transaction another
    ///   session. Then jobs can be enqueued, read and settled by hand, and changes of them are seen every five seconds, but
    ///   neither can a worker be started nor a handler run in a transaction. Without this parameter a pooler is noticed,
    ///   since it does not pass on the settings of a connection.
    ///
    /// # Errors
    ///
    /// When the server is not reached, refuses the role, is too old (before 13), or stands behind a pooler that the URL does
    /// not name; when the schema is not one of qtasks, or one of a newer version.
    ///
    /// # Cancel safety
    ///
    /// The schema may have been made. No connection stays open.
    pub async fn open(url: &str) -> Result<Self> {
        let (engine, of_sessions) = (Engine::start("qtasks-postgres")?, Engine::start("qtasks-renewals")?);
        let database = Database::new(StoreUrl::parse(url)?)?;
        let shared = Arc::new(Shared {
            database: Arc::new(database),
            identity: OnceLock::new(),
            broadcast: Arc::new(Broadcast::new()),
            sessions: Arc::new(Sessions::new()),
            watermark: Watermark::default(),
            leases: Leases::default(),
            folding: Folding::default(),
            pruned_upto: Mutex::default(),
            waiters: SharedWaiters::default(),
        });
        let begun = begin(Arc::clone(&shared), of_sessions.runtime().handle().clone());
        engine.runtime().spawn(begun).await.map_err(|error| Error::store("open its database", error))??;
        let runtime = engine.runtime().handle();
        Ok(Self {
            enqueues: Batcher::start(runtime, &shared),
            records: Batcher::start(runtime, &shared),
            settlements: Batcher::start(runtime, &shared),
            shared,
            engine,
            of_sessions,
        })
    }

    async fn run<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl Future<Output = Result<T, Fault>> + Send + 'static,
    ) -> Result<T> {
        // In a box: a runtime moves a future several times, and these are large.
        self.engine.run(doing, Box::pin(work)).await
    }
}

/// Checks the server, makes the tables, and starts to listen.
async fn begin(shared: Arc<Shared>, of_sessions: Handle) -> Result<()> {
    const LISTENING: &str = "listen to its database";
    server::check(&shared.database).await?;
    schema::migrate(&shared.database, schema::MIGRATIONS).await?;
    let identity = schema::identity(&shared.database).await.map_err(|fault| fault.into_error("read its tables"))?;
    _ = shared.identity.set(identity);
    let (database, broadcast) = (Arc::clone(&shared.database), Arc::clone(&shared.broadcast));
    if database.place.pooled {
        of_sessions.spawn(session::poll(broadcast));
    } else {
        let sessions = Arc::clone(&shared.sessions);
        let kept = of_sessions.spawn(async move {
            let first = Session::open(&database.place, database.place.patience, &broadcast).await?;
            tokio::spawn(session::keep(sessions, database, broadcast, first));
            Ok::<_, Fault>(())
        });
        let opened = kept.await.map_err(|error| Error::store(LISTENING, error))?;
        opened.map_err(|fault| fault.into_error(LISTENING))?;
    }
    tokio::spawn(async move {
        let Shared { database, broadcast, watermark, leases, folding, .. } = &*shared;
        join!(broadcast.publish(database), broadcast.listen(watermark), leases.tidy(database), folding.go_on(database))
    });
    Ok(())
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Postgres").field("place", &self.shared.database.place.to_string()).finish_non_exhaustive()
    }
}

/// A runtime of a store. Dropping it ends the tasks that run there, and closes their connections.
struct Engine(Option<Runtime>);

impl Engine {
    fn start(name: &str) -> Result<Self> {
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name(name).enable_all().build();
        runtime.map(|runtime| Self(Some(runtime))).map_err(|error| Error::store("start a thread", error))
    }

    /// Carries out `work` here, where it goes on although the caller goes away, or its runtime is busy or has no I/O.
    async fn run<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl Future<Output = Result<T, Fault>> + Send + 'static,
    ) -> Result<T> {
        let came = self.runtime().spawn(work).await.map_err(|error| Error::store(doing, error))?;
        came.map_err(|fault| fault.into_error(doing))
    }

    fn runtime(&self) -> &Runtime {
        self.0.as_ref().expect("it is taken only at the end")
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

#[async_trait]
impl Store for Postgres {
    async fn enqueue(&self, jobs: Vec<NewJob>) -> Result<Vec<Joined>> {
        self.enqueues.ask(Enqueue(jobs)).await?
    }

    async fn holder(&self, task: &str, key: &str) -> Result<Option<Holder>> {
        let (shared, task, key) = (Arc::clone(&self.shared), task.to_owned(), key.to_owned());
        self.run("read who holds a key", async move { keys::holder(&shared.database, &task, &key).await }).await
    }

    async fn lease(&self, ask: Ask) -> Result<Leased> {
        self.run("lease jobs", lease::lease(Arc::clone(&self.shared), ask)).await
    }

    fn lease_on_enqueue(&self, ask: Ask, free: FreeSlots) -> Option<BoxFuture<'static, Result<Vec<Job>>>> {
        let shared = Arc::clone(&self.shared);
        Some(Box::pin(async move {
            let jobs = shared.waiters.ask(ask, free);
            // Otherwise the store would not end when it is dropped, since this call keeps it.
            drop(shared);
            jobs.await.map_err(|_| Error::store("lease jobs", "the store was closed"))
        }))
    }

    async fn stop_lease_on_enqueue(&self, worker: WorkerId) {
        self.shared.waiters.stop_lease_on_enqueue(worker).await;
    }

    async fn renew(&self, worker: WorkerId, beat: u64) -> Result<Renewed> {
        let shared = Arc::clone(&self.shared);
        self.of_sessions.run("renew leases", async move { shared.renew(worker, beat).await }).await
    }

    async fn leave(&self, worker: WorkerId) -> Result<()> {
        let (shared, sessions) = (Arc::clone(&self.shared), self.of_sessions.runtime().handle().clone());
        self.run("forget a worker", async move {
            let hiding = Arc::clone(&shared);
            // There, so that it comes behind the renewals that were asked for before.
            let hidden = sessions.spawn(async move { hiding.sessions.hide(worker).await });
            let _turn = hidden.await.map_err(Fault::away)?;
            shared.leave(worker).await
        })
        .await
    }

    async fn workers(&self) -> Result<Vec<Presence>> {
        let shared = Arc::clone(&self.shared);
        self.run("look at workers", async move { presence::workers(&shared.database).await }).await
    }

    async fn held(&self, worker: WorkerId, limit: usize) -> Result<Vec<Job>> {
        let shared = Arc::clone(&self.shared);
        self.run("find lost jobs", async move { presence::held(&shared.database, worker, limit).await }).await
    }

    async fn forget(&self, worker: WorkerId, beat: Option<u64>) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        self.run("forget a worker", async move { presence::forget(&shared.database, worker, beat).await }).await
    }

    async fn time(&self) -> Result<Option<Timestamp>> {
        let shared = Arc::clone(&self.shared);
        self.run("read the time", async move { read::time(&shared.database).await }).await
    }

    async fn record(&self, records: Arc<[Record]>) -> Result<Vec<Written>> {
        self.records.ask(Records(records)).await
    }

    async fn transact(&self, lease: Option<Lease>, works: Vec<Arc<PendingStep>>) -> Result<Transacted> {
        let runtime = self.engine.runtime().handle().clone();
        // On the runtime of the caller, because handlers are its own code.
        let came = transact::transact(&self.shared, runtime, lease, &works).await;
        came.map_err(|fault| fault.of_write("run handlers in a transaction"))
    }

    fn transactions(&self) -> Option<&'static str> {
        Some(KIND)
    }

    async fn settle(&self, settlements: Arc<[Settlement]>) -> Result<Vec<Written>> {
        self.settlements.ask(Settle(settlements)).await
    }

    async fn job(&self, id: JobId) -> Result<Option<Job>> {
        let shared = Arc::clone(&self.shared);
        self.run("read a job", async move { read::job(&shared.database, id).await }).await
    }

    async fn standing(&self, id: JobId) -> Result<Option<(Standing, Counts)>> {
        let shared = Arc::clone(&self.shared);
        self.run("read a job", async move { read::standing(&shared.database, id).await }).await
    }

    async fn find(&self, find: Find, after: Option<JobId>, budget: Budget) -> Result<Page> {
        let shared = Arc::clone(&self.shared);
        self.run("search for jobs", async move { find::find(&shared.database, &find, after, budget).await }).await
    }

    async fn counts(&self, now: Timestamp) -> Result<Vec<LaneCounts>> {
        let shared = Arc::clone(&self.shared);
        self.run("read how many jobs there are", async move { counts::counts(&shared, now).await }).await
    }

    async fn recount(&self) -> Result<usize> {
        let shared = Arc::clone(&self.shared);
        self.run("count all jobs", async move { counts::recount(&shared.database).await }).await
    }

    async fn add_rates(&self, rates: Vec<Rate>) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        self.run("count what happened", async move { rates::add(&shared.database, rates).await }).await
    }

    async fn rates(&self, span: RateSpan, from: Timestamp, to: Timestamp) -> Result<Vec<Rate>> {
        let shared = Arc::clone(&self.shared);
        self.run("read what happened", async move { rates::rates(&shared.database, span, from, to).await }).await
    }

    async fn prune_rates(&self, minutes: Timestamp, hours: Timestamp) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        self.run("forget what happened long ago", async move { rates::prune(&shared.database, minutes, hours).await })
            .await
    }

    async fn notes(&self, kind: &str) -> Result<Vec<Note>> {
        let (shared, kind) = (Arc::clone(&self.shared), kind.to_owned());
        self.run("read notes", async move { notes::notes(&shared.database, &kind).await }).await
    }

    async fn note(&self, changes: Vec<NoteChange>, jobs: Vec<NewJob>) -> Result<Written> {
        const DOING: &str = "change notes";
        let shared = Arc::clone(&self.shared);
        let came = self.run(DOING, async move { Ok(notes::note(&shared, &changes, &jobs).await) }).await?;
        came.map_err(|fault| fault.of_write(DOING))
    }

    async fn place(&self, placement: Placement) -> Result<Written> {
        let shared = Arc::clone(&self.shared);
        self.run("move a job", async move { place::place(&shared, &placement).await }).await
    }

    async fn expired(&self, now: Timestamp, limit: usize) -> Result<Expired> {
        let shared = Arc::clone(&self.shared);
        self.run("look for jobs that have expired", async move { expire::expired(&shared.database, now, limit).await })
            .await
    }

    async fn due_lanes(&self, now: Timestamp) -> Result<Vec<Lane>> {
        let shared = Arc::clone(&self.shared);
        self.run("look for due jobs", async move { read::due_lanes(&shared.database, now).await }).await
    }

    async fn steps(&self, id: JobId, from: u64, limit: usize) -> Result<Vec<Step>> {
        let shared = Arc::clone(&self.shared);
        self.run("read steps", async move { read::steps(&shared.database, id, from, limit).await }).await
    }

    async fn last_step(&self, id: JobId) -> Result<Option<Step>> {
        let shared = Arc::clone(&self.shared);
        self.run("read the last step", async move { read::last_step(&shared.database, id).await }).await
    }

    async fn memos(&self, id: JobId, step: Option<u64>, from: u64, limit: usize) -> Result<Vec<Memo>> {
        let shared = Arc::clone(&self.shared);
        self.run("read memos", async move { read::memos(&shared.database, id, step, from, limit).await }).await
    }

    async fn attempts(&self, id: JobId) -> Result<Vec<Attempt>> {
        let shared = Arc::clone(&self.shared);
        self.run("read attempts", async move { read::attempts(&shared.database, id).await }).await
    }

    async fn prune(&self, finished: Timestamp, dead: Timestamp, limit: usize) -> Result<usize> {
        let shared = Arc::clone(&self.shared);
        self.run("prune old jobs", async move { prune::prune(&shared, finished, dead, limit).await }).await
    }

    fn patience(&self) -> Duration {
        self.shared.database.place.patience
    }

    fn home(&self) -> Home {
        let (database, store) = self.shared.identity.get().cloned().expect("it is read when the store is opened");
        Home::Schema { database, name: self.shared.database.place.schema.clone(), store }
    }

    fn notifier(&self) -> &Notifier {
        &self.shared.broadcast.notifier
    }
}
