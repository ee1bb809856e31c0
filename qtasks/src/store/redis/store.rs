//! The store on a Redis server.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::TryFutureExt as _;
use jiff::Timestamp;

#[cfg(feature = "redis-tls")]
use super::tls;
use super::{
    batcher::Batcher,
    calls::{claim, counts, enqueue::Batch, expire, find, lease, note, place, prune, rates, read, record, settle},
    connection::Link,
    error::Fault,
    notify::Subscription,
    presence::{self, Renewals},
    runtime::Engine,
    server,
    url::StoreUrl,
};
use crate::store::{
    Ask, Budget, Expired, Find, GAP, Joined, Lane, LaneCounts, Leased, Note, NoteChange, Notifier, Page, Placement,
    Presence, Rate, RateSpan, Record, Renewed, Scheme, Settlement, Store, Written,
};
use crate::{
    error::{Error, Result},
    model::{
        job::{Attempt, Counts, Job, JobId, Memo, NewJob, Standing, Step, WorkerId},
        unique::Holder,
    },
};

inventory::submit! {
    Scheme {
        name: "redis",
        form: "redis://HOST",
        open: |url| Box::pin(async move { Ok(Arc::new(Redis::open(url).await?) as Arc<dyn Store>) }),
    }
}

#[cfg(feature = "redis-tls")]
inventory::submit! {
    Scheme {
        name: "rediss",
        form: "rediss://HOST",
        open: |url| Box::pin(async move {
            tls::provide();
            Ok(Arc::new(Redis::open(url).await?) as Arc<dyn Store>)
        }),
    }
}

/// A store on a Redis server, 6.2 or newer.
///
/// When a call returns, what it wrote is as durable as the server makes it:
///
/// | configuration | what a crash of the server, or of its machine, takes |
/// | --- | --- |
/// | `appendonly yes`, `appendfsync always` | nothing that was acknowledged |
/// | `appendonly yes`, `appendfsync everysec` | the last second, in rare cases two; a crash of the server alone, nothing that reached the operating system |
/// | `appendonly no`, with `save` | what came after the last snapshot |
/// | `appendonly no`, `save ""` | everything |
///
/// After such a loss the jobs are as they were at that time: those enqueued since are gone, and values recorded since are
/// handled again; no job is done without all the steps of its result. With replicas the same holds for what a failover
/// takes, since they follow behind. The memory of the server must hold all jobs, and `maxmemory-policy` be `noeviction`. At
/// the start it warns (by `tracing`) of a server that may lose jobs, or does not say whether it may.
///
/// When the memory is full (`maxmemory`), enqueueing a job is an [`Error::Store`]. The jobs that are there are worked off:
/// leased, recorded with the jobs that their bodies enqueue, settled, cancelled and pruned. What that takes goes beyond
/// `maxmemory`, so leave room between it and what the machine has.
///
/// A server takes values up to its `proto-max-bulk-len`, and calls up to its `client-query-buffer-limit`, and cuts the
/// connection at larger ones. So calls of 512 KiB and more go over a connection of their own, and what is too large for the
/// server is an [`Error::Refused`].
///
/// The store reconnects by itself. A call that finds the server away, or is not answered within the `timeout` of the URL, is
/// an [`Error::Store`], and can be made again. An application makes it again until that time is over.
///
/// A worker shows that it lives by a number that it raises on the server each second. When the number has stood still for
/// three seconds, by the clock of another worker that watches it, that worker takes the jobs over: the jobs of a worker that
/// is killed go on within five seconds. Renewals wait for no other call: they have a thread and a connection of their own,
/// and are given up after 1.5 seconds, or the `timeout` of the URL if that is less, so that the worker has time for another
/// try. Whether a job is due goes by the clock of the server.
///
/// All keys begin with the name of the application in braces, so that in a cluster they stand on one node; the store
/// follows them when they move. Handlers cannot take part in its transactions.
///
/// # The account
///
/// On a server with accounts (ACL) this gives the account `worker` all that it needs, and no more. It is one line; the name
/// of the application stands in place of `qtasks` in the keys and the channel:
///
/// ```text
/// ACL SETUSER worker on >SECRET resetkeys ~{qtasks}:* resetchannels &{qtasks}:news -@all
/// +append +del +evalsha +exists +get +getrange +hdel +hget +hgetall +hincrby +hset +hsetnx +lindex +llen +lpop +lpush
/// +lrange +ltrim +mget +mset +msetnx +ping +publish +rename +rpush +sadd +script|load +set +setnx +setrange +smembers
/// +smismember +srem +subscribe +time +unlink +zadd +zrange +zrangebylex +zrangebyscore +zrem
/// ```
///
/// With `+info +config|get` the store can find out too whether the server may lose jobs, and warns of that. `+select` is
/// needed where the URL names a database.
pub struct Redis {
    batcher: Arc<Batcher>,
    engine: Engine,
    renewals: Renewals,
}

impl Redis {
    /// Opens the store at a URL like `redis://localhost:6379` or `redis://USER:PASSWORD@HOST:PORT/DATABASE`; with the
    /// feature `redis-tls` also `rediss://`, for TLS. The server's certificate must then be good for the host, by the
    /// certificates that the system trusts, or those in the file that the environment names as `SSL_CERT_FILE`. In a user or
    /// password `@ : / ? # %` are written as `%40 %3A %2F %3F %23 %25`.
    ///
    /// Parameters stand after a `?`, with `&` between them:
    ///
    /// - `app=NAME`: the name of the application, which keeps its jobs apart from those of others on the same server. Without
    ///   it the name is `qtasks`.
    /// - `timeout=10`: how many seconds a call waits for the server, instead of 5.
    /// - `sslrootcert=ca.pem`: a file with the certificates to trust, in place of those that the system trusts.
    ///
    /// # Errors
    ///
    /// When the server cannot be reached, is too old, refuses the password or a command that the
    /// [account](Self#the-account) needs, or has jobs of a newer qtasks. Jobs of an older version are brought into the new
    /// format, a thousand at a time. A server whose memory is full can be opened if a store was opened on it before.
    ///
    /// # Cancel safety
    ///
    /// No connection stays open.
    pub async fn open(url: &str) -> Result<Self> {
        let url = StoreUrl::parse(url)?;
        let renewals = Renewals::start(&url)?;
        let link = Arc::new(Link::new(url, Arc::new(Notifier::new())));
        let engine = Engine::start("qtasks-redis")?;
        let opening = Arc::clone(&link);
        let subscription =
            engine.ask("connect to its server", async move { Subscription::open(&opening).await }).await?;
        let checking = Arc::clone(&link);
        for warning in engine.run("check its server", async move { server::check(&checking).await }).await? {
            tracing::warn!(server = %link.url, "{warning}");
        }
        engine.keep(subscription.listen(Arc::clone(&link)));
        Ok(Self { batcher: Arc::new(Batcher::new(link, engine.crew.clone())), engine, renewals })
    }

    /// Carries out a call on the thread of the store, whether or not the caller still waits for it.
    async fn write<T, F>(&self, doing: &'static str, call: impl FnOnce(Arc<Batcher>) -> F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Fault>> + Send + 'static,
    {
        // In a box: a runtime moves a future several times, and these are large.
        let call = Box::pin(call(Arc::clone(&self.batcher)));
        self.engine.run(doing, call.map_err(|fault| fault.of_write(doing))).await
    }

    /// Does the same as [`write`](Self::write) for a call that reads, or is about workers.
    async fn ask<T, F>(&self, doing: &'static str, call: impl FnOnce(Arc<Batcher>) -> F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Fault>> + Send + 'static,
    {
        self.engine.ask(doing, Box::pin(call(Arc::clone(&self.batcher)))).await
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis").field("server", &self.batcher.link.url.to_string()).finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for Redis {
    async fn enqueue(&self, jobs: Vec<NewJob>) -> Result<Vec<Joined>> {
        const DOING: &str = "enqueue jobs";
        if jobs.is_empty() {
            return Ok(Vec::new());
        }
        if jobs.iter().any(|new| new.keyed().is_some() || new.call.after.is_some()) {
            return self.write(DOING, |batcher| async move { claim::enqueue(&batcher, &jobs).await }).await?;
        }
        self.engine.answer_of_write(DOING, self.batcher.enqueue(Batch::of(&jobs))).await.map(|()| Vec::new())
    }

    async fn holder(&self, task: &str, key: &str) -> Result<Option<Holder>> {
        let (task, key) = (task.to_owned(), key.to_owned());
        self.ask("read who holds a key", |batcher| async move { read::holder(&batcher.link, &task, &key).await }).await
    }

    async fn lease(&self, ask: Ask) -> Result<Leased> {
        self.ask("lease jobs", |batcher| async move { lease::lease(&batcher, &ask).await }).await
    }

    async fn renew(&self, worker: WorkerId, beat: u64) -> Result<Renewed> {
        self.renewals.renew(worker, beat).await
    }

    async fn leave(&self, worker: WorkerId) -> Result<()> {
        self.renewals.leave(worker, Arc::clone(&self.batcher.link.notifier)).await
    }

    async fn workers(&self) -> Result<Vec<Presence>> {
        self.ask("look for workers", |batcher| async move { presence::workers(&batcher.link).await }).await
    }

    async fn held(&self, worker: WorkerId, limit: usize) -> Result<Vec<Job>> {
        self.ask("read held jobs", |batcher| async move { presence::held(&batcher.link, worker, limit).await }).await
    }

    async fn forget(&self, worker: WorkerId, beat: Option<u64>) -> Result<()> {
        self.ask("forget a worker", |batcher| async move { presence::forget(&batcher.link, worker, beat).await }).await
    }

    async fn time(&self) -> Result<Option<Timestamp>> {
        self.ask("tell the time", |batcher| async move { presence::time(&batcher.link).await.map(Some) }).await
    }

    async fn record(&self, records: Arc<[Record]>) -> Result<Vec<Written>> {
        if records.is_empty() {
            return Ok(Vec::new());
        }
        let written =
            self.write("record steps", |batcher| async move { record::record(&batcher, &records).await }).await?;
        written.ok_or(Error::BrokenContract(GAP))
    }

    async fn settle(&self, settlements: Arc<[Settlement]>) -> Result<Vec<Written>> {
        if settlements.is_empty() {
            return Ok(Vec::new());
        }
        // Made here, so that the thread of the store has less to do.
        let call = settle::call(&settlements, &self.batcher.link);
        self.write("settle jobs", |batcher| async move { settle::settle(&batcher, call, &settlements).await }).await
    }

    async fn job(&self, id: JobId) -> Result<Option<Job>> {
        self.ask("read a job", |batcher| async move { read::job(&batcher.link, id).await }).await
    }

    async fn standing(&self, id: JobId) -> Result<Option<(Standing, Counts)>> {
        self.ask("read a job", |batcher| async move { read::standing(&batcher.link, id).await }).await
    }

    async fn find(&self, find: Find, after: Option<JobId>, budget: Budget) -> Result<Page> {
        self.ask("find jobs", |batcher| async move { find::find(&batcher.link, &find, after, budget).await }).await
    }

    async fn counts(&self, now: Timestamp) -> Result<Vec<LaneCounts>> {
        self.ask("count jobs", |batcher| async move { counts::counts(&batcher.link, now).await }).await
    }

    async fn recount(&self) -> Result<usize> {
        self.ask("count jobs anew", |batcher| async move { counts::recount(&batcher.link).await }).await
    }

    async fn add_rates(&self, rates: Vec<Rate>) -> Result<()> {
        self.ask("count what happened", |batcher| async move { rates::add(&batcher.link, &rates).await }).await
    }

    async fn rates(&self, span: RateSpan, from: Timestamp, to: Timestamp) -> Result<Vec<Rate>> {
        self.ask("read what happened", move |batcher| async move { rates::rates(&batcher.link, span, from, to).await })
            .await
    }

    async fn prune_rates(&self, minutes: Timestamp, hours: Timestamp) -> Result<()> {
        let prune = |batcher: Arc<Batcher>| async move { rates::prune(&batcher.link, minutes, hours).await };
        self.ask("forget what happened long ago", prune).await
    }

    async fn notes(&self, kind: &str) -> Result<Vec<Note>> {
        let kind = kind.to_owned();
        self.ask("read notes", |batcher| async move { note::notes(&batcher.link, &kind).await }).await
    }

    async fn note(&self, changes: Vec<NoteChange>, jobs: Vec<NewJob>) -> Result<Written> {
        self.write("change notes", |batcher| async move { note::note(&batcher, &changes, &jobs).await }).await
    }

    async fn place(&self, placement: Placement) -> Result<Written> {
        self.write("move a job", |batcher| async move { place::place(&batcher, placement).await }).await
    }

    async fn expired(&self, now: Timestamp, limit: usize) -> Result<Expired> {
        let look = |batcher: Arc<Batcher>| async move { expire::expired(&batcher.link, now, limit).await };
        self.ask("look for jobs that have expired", look).await
    }

    async fn due_lanes(&self, now: Timestamp) -> Result<Vec<Lane>> {
        self.ask("look for due jobs", |batcher| async move { read::due_lanes(&batcher.link, now).await }).await
    }

    async fn steps(&self, id: JobId, from: u64, limit: usize) -> Result<Vec<Step>> {
        self.ask("read steps", |batcher| async move { read::steps(&batcher.link, id, from, limit).await }).await
    }

    async fn last_step(&self, id: JobId) -> Result<Option<Step>> {
        self.ask("read the last step", |batcher| async move { read::last_step(&batcher.link, id).await }).await
    }

    async fn memos(&self, id: JobId, step: Option<u64>, from: u64, limit: usize) -> Result<Vec<Memo>> {
        self.ask("read memos", |batcher| async move { read::memos(&batcher.link, id, step, from, limit).await }).await
    }

    async fn attempts(&self, id: JobId) -> Result<Vec<Attempt>> {
        self.ask("read attempts", |batcher| async move { read::attempts(&batcher.link, id).await }).await
    }

    async fn prune(&self, finished: Timestamp, dead: Timestamp, limit: usize) -> Result<usize> {
        self.ask("prune jobs", |batcher| async move { prune::prune(&batcher.link, finished, dead, limit).await }).await
    }

    fn patience(&self) -> Duration {
        self.batcher.link.url.patience
    }

    fn notifier(&self) -> &Notifier {
        &self.batcher.link.notifier
    }
}
