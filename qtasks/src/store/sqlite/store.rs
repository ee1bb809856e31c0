//! The store in a SQLite file.

#[cfg(test)]
mod tests;

use std::{cell::RefCell, fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::future::BoxFuture;
use jiff::Timestamp;

use super::{
    batcher::thread::{self, Handle},
    calls::{
        count::{self, Miscount},
        enqueue::Enqueue,
        expire::LookForExpired,
        find,
        note::{self, ChangeNotes},
        prune::{Prune, Pruned},
        rate::{self, AddRates, PruneRates},
        read,
        record::Records,
        settle::Settle,
        transact::{self, Transact},
    },
    pool::Readers,
    renewal::Renewals,
    steps,
    transaction::KIND,
    url::StoreUrl,
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
        name: "sqlite",
        form: "sqlite:PATH",
        open: |url| Box::pin(async move { Ok(Arc::new(Sqlite::open(url).await?) as Arc<dyn Store>) }),
    }
}

/// A store in a SQLite file.
///
/// Commits are durable when a call returns: the file is in WAL mode with `synchronous=FULL`, which by
/// [SQLite's documentation](https://www.sqlite.org/pragma.html#pragma_synchronous) holds through a power cut too. Calls that
/// are under way at the same time share a commit.
///
/// Workers on `jobs.db` show in the folder `jobs.db-workers` that they live. Each keeps a file locked there, and writes a
/// number into another that changes with each renewal. A worker whose process has ended is gone at that moment; one that is
/// frozen is gone when its number has not changed for the time of a lease. A renewal writes nothing to the database and
/// waits for no other call, so that a database that is locked, or full, takes no worker's jobs.
///
/// All writes are made by one thread of the store's own, and reads by a few others: neither needs the caller's runtime. A
/// process that is stopped within a write transaction holds up all that write to the file until it goes on or ends.
///
/// The files must stay where they are. Before a call is answered, the store looks whether the database, its log (`-wal`) and
/// the index of that (`-shm`) are still the files that it has open. Once one is not, because it was removed, renamed or
/// replaced, each call fails with [`Error::StoreChanged`], workers stop within a second, and nothing is acknowledged any
/// more, until the program opens the store again. This goes by device and inode: a file that is written over in place, as by
/// `cp`, is not noticed (restore with SQLite's own `.restore`, or with all programs stopped), and on Windows, which lets no
/// program remove a file that is open, nothing is compared. A file that is mounted by itself is refused on Linux, and a
/// second hard link is warned of on Unix: programs that open the file by different names would have different logs.
///
/// A full disk delays work and loses none: calls fail with an [error](Error::is_store_trouble) when there was no room within
/// `?busy=SECONDS`, and workers wait for it. Where there is little room, the log is kept small, and the last of it is not given
/// to new jobs: those that are there need it to end.
pub struct Sqlite {
    pub(super) writer: Handle,
    pub(super) readers: Arc<Readers>,
    renewals: Renewals,
    notifier: Arc<Notifier>,
}

impl Sqlite {
    /// Opens the store at a URL like `sqlite:qtasks.db` or `sqlite:/var/lib/app/jobs.db`, or at a path; makes the file
    /// and the tables where they are missing.
    ///
    /// In a URL, `%3F` stands for a `?` in the name of the file, `%25` for a `%` that two hex digits follow, and `%` with two
    /// hex digits for any other byte, which need not be text. All else stands for itself, also spaces and `#`. A path without
    /// `sqlite:` is taken as it is, up to a `?`.
    ///
    /// Parameters stand after a `?`, with `&` between them: `synchronous=normal` gives up the last commits in a power cut
    /// (none in a crash of the process) for speed; `busy=10` is how many seconds a call waits for a database that
    /// another process keeps locked, or for a disk that is full, instead of 30; `mode=rw` makes no file where there is
    /// none, and `mode=rwc` does, as without it.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened, is no SQLite database, has tables of a newer qtasks, or stays locked; when this user
    /// may not write to it, to its log or to its folder; and on Linux when the file is mounted by itself.
    ///
    /// # Cancel safety
    ///
    /// The file may have been made, and its tables too; nothing of it stays open.
    pub async fn open(url: &str) -> Result<Self> {
        let notifier = Arc::new(Notifier::new());
        let writer = thread::start(StoreUrl::parse(url)?, Arc::clone(&notifier)).await?;
        let readers = Readers::new(Arc::clone(&writer.files));
        let renewals = Renewals::new(Arc::clone(&writer.files), Arc::clone(&writer.workers));
        Ok(Self { writer, readers, renewals, notifier })
    }
}

impl fmt::Debug for Sqlite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sqlite").field("path", &self.writer.files.url.path).finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for Sqlite {
    async fn enqueue(&self, jobs: Vec<NewJob>) -> Result<Vec<Joined>> {
        self.writer.queue.ask(Enqueue(jobs)).await?
    }

    async fn holder(&self, task: &str, key: &str) -> Result<Option<Holder>> {
        let (task, key) = (task.to_owned(), key.to_owned());
        self.readers.read("read who holds a key", move |tables| read::holder_of(tables, &task, &key)).await
    }

    async fn lease(&self, ask: Ask) -> Result<Leased> {
        self.writer.queue.ask(ask).await
    }

    fn lease_on_enqueue(&self, ask: Ask, free: FreeSlots) -> Option<BoxFuture<'static, Result<Vec<Job>>>> {
        let queue = Arc::clone(&self.writer.queue);
        Some(Box::pin(async move { queue.stand(ask, free).await }))
    }

    async fn stop_lease_on_enqueue(&self, worker: WorkerId) {
        self.writer.queue.stop_lease_on_enqueue(worker).await;
    }

    async fn renew(&self, worker: WorkerId, beat: u64) -> Result<Renewed> {
        let leases = self.renewals.renew(worker, beat, &self.notifier)?;
        Ok(Renewed { leases, now: None })
    }

    async fn leave(&self, worker: WorkerId) -> Result<()> {
        if self.renewals.leave(worker)? {
            self.notifier.notify_lost();
        }
        Ok(())
    }

    async fn workers(&self) -> Result<Vec<Presence>> {
        const DOING: &str = "look at the workers there are";
        let workers = Arc::clone(&self.writer.workers);
        let seen = self.readers.read(DOING, move |tables| Ok(workers.seen(&read::holders(tables)?))).await?;
        seen.map_err(|error| Error::store(DOING, error))
    }

    async fn held(&self, worker: WorkerId, limit: usize) -> Result<Vec<Job>> {
        self.readers.read("read the jobs of a worker", move |tables| read::held(tables, worker, limit)).await
    }

    async fn forget(&self, worker: WorkerId, beat: Option<u64>) -> Result<()> {
        const DOING: &str = "forget a worker";
        let workers = Arc::clone(&self.writer.workers);
        let forget = move |tables: &_| {
            let holds = !read::held(tables, worker, 1)?.is_empty();
            Ok(if holds { Ok(()) } else { workers.forget(worker, beat) })
        };
        self.readers.read(DOING, forget).await?.map_err(|error| Error::store(DOING, error))
    }

    async fn record(&self, records: Arc<[Record]>) -> Result<Vec<Written>> {
        self.writer.queue.ask(Records(records)).await
    }

    async fn transact(&self, lease: Option<Lease>, works: Vec<Arc<PendingStep>>) -> Result<Transacted> {
        self.writer.queue.ask(Transact { lease, works, long: transact::LONG, to_blame: RefCell::default() }).await
    }

    fn transactions(&self) -> Option<&'static str> {
        Some(KIND)
    }

    async fn settle(&self, settlements: Arc<[Settlement]>) -> Result<Vec<Written>> {
        self.writer.queue.ask(Settle(settlements)).await
    }

    async fn job(&self, id: JobId) -> Result<Option<Job>> {
        self.readers.read("read a job", move |tables| read::job(tables, id)).await
    }

    async fn standing(&self, id: JobId) -> Result<Option<(Standing, Counts)>> {
        self.readers.read("read a job", move |tables| read::standing(tables, id)).await
    }

    async fn find(&self, find: Find, after: Option<JobId>, budget: Budget) -> Result<Page> {
        self.readers.read("find jobs", move |tables| find::find(tables, &find, after, budget)).await
    }

    async fn counts(&self, now: Timestamp) -> Result<Vec<LaneCounts>> {
        self.readers.read("read how many jobs there are", move |tables| count::counts(tables, now)).await
    }

    async fn recount(&self) -> Result<usize> {
        loop {
            let miscount = self.readers.read("count all jobs", Miscount::find).await?;
            let lanes = miscount.lanes();
            // Counts that were mended meanwhile are looked at again.
            if lanes == 0 || self.writer.queue.ask(miscount).await? {
                return Ok(lanes);
            }
        }
    }

    async fn add_rates(&self, rates: Vec<Rate>) -> Result<()> {
        self.writer.queue.ask(AddRates(rates)).await
    }

    async fn rates(&self, span: RateSpan, from: Timestamp, to: Timestamp) -> Result<Vec<Rate>> {
        self.readers.read("read what happened", move |tables| rate::rates(tables, span, from, to)).await
    }

    async fn prune_rates(&self, minutes: Timestamp, hours: Timestamp) -> Result<()> {
        self.writer.queue.ask(PruneRates { minutes, hours }).await
    }

    async fn notes(&self, kind: &str) -> Result<Vec<Note>> {
        let kind = kind.to_owned();
        self.readers.read("read notes", move |tables| note::notes(tables, &kind)).await
    }

    async fn note(&self, changes: Vec<NoteChange>, jobs: Vec<NewJob>) -> Result<Written> {
        self.writer.queue.ask(ChangeNotes { changes, jobs }).await
    }

    async fn place(&self, placement: Placement) -> Result<Written> {
        self.writer.queue.ask(placement).await
    }

    async fn expired(&self, now: Timestamp, limit: usize) -> Result<Expired> {
        self.writer.queue.ask(LookForExpired { now, limit }).await
    }

    async fn due_lanes(&self, now: Timestamp) -> Result<Vec<Lane>> {
        self.readers.read("look for due jobs", move |tables| read::due_lanes(tables, now)).await
    }

    async fn steps(&self, id: JobId, from: u64, limit: usize) -> Result<Vec<Step>> {
        self.readers.read("read steps", move |tables| steps::read(tables, id, from, limit)).await
    }

    async fn last_step(&self, id: JobId) -> Result<Option<Step>> {
        self.readers.read("read the last step", move |tables| steps::last(tables, id)).await
    }

    async fn memos(&self, id: JobId, step: Option<u64>, from: u64, limit: usize) -> Result<Vec<Memo>> {
        self.readers.read("read memos", move |tables| read::memos(tables, id, step, from, limit)).await
    }

    async fn attempts(&self, id: JobId) -> Result<Vec<Attempt>> {
        self.readers.read("read attempts", move |tables| read::attempts(tables, id)).await
    }

    async fn prune(&self, finished: Timestamp, dead: Timestamp, limit: usize) -> Result<usize> {
        let mut deleted = 0;
        loop {
            let Pruned { jobs, more } = self.writer.queue.ask(Prune { finished, dead, limit: limit - deleted }).await?;
            deleted += jobs;
            if !more {
                return Ok(deleted);
            }
        }
    }

    fn patience(&self) -> Duration {
        self.writer.files.url.patience
    }

    fn home(&self) -> Home {
        Home::File(self.writer.files.url.path.clone())
    }

    fn hold_clock(&self) {
        self.readers.holding.begin();
        self.writer.queue.holding.begin();
    }

    fn notifier(&self) -> &Notifier {
        &self.notifier
    }
}
