//! The store in a SQLite file.

use std::{cell::RefCell, fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::future::BoxFuture;
use jiff::Timestamp;

use super::{
    batcher::thread::{self, Handle},
    calls::{
        enqueue::Enqueue,
        prune::{Prune, Pruned},
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
    Ask, Filter, FreeSlots, Home, Lane, Leased, Notifier, PendingStep, Presence, Record, Renewed, Scheme, Settlement,
    Store, Transacted, Written,
};
use crate::{
    error::{Error, Result},
    model::job::{Attempt, Counts, Job, JobId, Lease, Memo, NewJob, Standing, Step, WorkerId},
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
    async fn enqueue(&self, jobs: Vec<NewJob>) -> Result<()> {
        self.writer.queue.ask(Enqueue(jobs)).await
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

    async fn jobs(&self, filter: Filter, after: Option<JobId>, limit: usize) -> Result<Vec<Job>> {
        self.readers.read("list jobs", move |tables| read::jobs(tables, &filter, after, limit)).await
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sqlite::fixture::{NOW, ask, lease, neighbour, new_job, soon, store, temp_url};
    use crate::{
        model::{
            job::{Ending, JobCall, NextState, Output, Progress, Reply, Shape, State, Suspect},
            json::Json,
            lifecycle::Outcome,
        },
        store::{Hold, Suspects},
    };

    fn step(seq: u64) -> Step {
        Step { seq, hash: u64::MAX - seq, reply: Reply::Value(Json::from_stored(seq.to_string())) }
    }

    fn record(lease: Lease, steps: Vec<Step>) -> Record {
        Record { lease, steps, memos: Vec::new(), jobs: Vec::new(), progress: None, passed: false }
    }

    fn settlement(job: &Job, worker: WorkerId, output: Output) -> Settlement {
        let attempt = Attempt {
            number: job.standing.attempt,
            worker,
            started: Some(NOW),
            ended: NOW,
            ending: Ending::Done,
            steps: None,
        };
        Settlement {
            hold: Hold::Lease(Lease { job: job.call.id, attempt: job.standing.attempt, worker }),
            outcome: Outcome { next: NextState::Done { output }, failures: 0, suspect: None },
            steps: None,
            attempt: Some(attempt),
            now: NOW,
        }
    }

    fn worker(job: &Job) -> WorkerId {
        match job.standing.state {
            State::Running { worker } => worker,
            _ => panic!("{job:?} does not run"),
        }
    }

    /// An older qtasks kept all.
    #[tokio::test]
    async fn of_thousands_of_attempts_those_to_be_kept_are_read_and_the_next_settlement_deletes_the_others() {
        let (folder, store) = store().await;
        store.enqueue(vec![new_job()]).await.unwrap();
        let job = lease(&store, 1).await.remove(0);
        let file = neighbour(&folder);
        let plant = "WITH RECURSIVE n (n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM n WHERE n < 5000)
                     INSERT INTO qtasks_attempts SELECT ?1, n, ?1, NULL, 0, 'snoozed', NULL FROM n";
        file.execute(plant, [job.call.id.to_bytes()]).unwrap();
        let numbers = async || -> Vec<u32> {
            store.attempts(job.call.id).await.unwrap().iter().map(|attempt| attempt.number).collect()
        };
        assert_eq!(numbers().await, (1..=10).chain(4911..=5000).collect::<Vec<_>>());
        let mut settled = settlement(&job, worker(&job), Output::Value(Json::from_stored("1")));
        settled.attempt.as_mut().unwrap().number = 5001;
        assert_eq!(store.settle([settled].into()).await.unwrap(), [Written::Yes]);
        assert_eq!(numbers().await, (1..=10).chain(4912..=5001).collect::<Vec<_>>());
        let rows: i64 = file.query_row("SELECT count(*) FROM qtasks_attempts", [], |row| row.get(0)).unwrap();
        assert_eq!(rows, 100);
    }

    #[tokio::test]
    async fn all_of_a_job_is_there_after_reopening() {
        let (_folder, url) = temp_url("");
        let store = Sqlite::open(&url).await.unwrap();
        let large = Json::from_stored(format!("{{\"text\":\"{}\"}}", "x".repeat(5000)));
        store
            .enqueue(vec![NewJob::from(JobCall { args: large.clone(), priority: -7, ..new_job().call })])
            .await
            .unwrap();
        let job = lease(&store, 1).await.remove(0);
        assert_eq!((&job.call.args, job.call.priority), (&large, -7));
        let lease = Lease { job: job.call.id, attempt: 1, worker: worker(&job) };
        let progress = Some(Progress { done: u64::MAX, total: 3 });
        let skipped = Step { reply: Reply::Skipped("no".into()), ..step(1) };
        let record = Record { progress, ..record(lease, vec![step(0), skipped.clone()]) };
        assert_eq!(store.record([record].into()).await.unwrap(), [Written::Yes]);
        let settled = settlement(&job, worker(&job), Output::Steps(Shape::List));
        assert_eq!(store.settle([settled.clone()].into()).await.unwrap(), [Written::Yes]);
        drop(store);

        let store = Sqlite::open(&url).await.unwrap();
        let found = store.job(job.call.id).await.unwrap().unwrap();
        let counts = Counts { steps: 2, skipped: 1, memos: 0, progress };
        assert_eq!(found, Job { standing: settled.outcome.standing(1), counts, ..job });
        assert_eq!(store.steps(found.call.id, 0, 9).await.unwrap(), [step(0), skipped]);
        assert_eq!(store.last_step(found.call.id).await.unwrap(), Some(step(0)));
        assert_eq!(store.attempts(found.call.id).await.unwrap(), [settled.attempt.unwrap()]);
    }

    #[tokio::test]
    async fn a_suspect_is_one_after_reopening() {
        let (_folder, url) = temp_url("");
        let store = Sqlite::open(&url).await.unwrap();
        store.enqueue(vec![new_job()]).await.unwrap();
        let job = lease(&store, 1).await.remove(0);
        let known = Suspect { survived: Duration::from_millis(90_001), losses: 3, ..Suspect::default() };
        let outcome = Outcome { next: NextState::Waiting { due: NOW }, failures: 2, suspect: Some(known) };
        let lost =
            Settlement { outcome: outcome.clone(), ..settlement(&job, worker(&job), Output::Steps(Shape::List)) };
        assert_eq!(store.settle([lost].into()).await.unwrap(), [Written::Yes]);
        drop(store);
        let store = Sqlite::open(&url).await.unwrap();
        let found = store.job(job.call.id).await.unwrap().unwrap();
        assert_eq!(found, Job { standing: outcome.standing(1), ..job });
        assert!(lease(&store, 1).await.is_empty(), "it is passed over");
        let asked = Ask { suspects: Suspects::OneAlone, ..ask(1) };
        let leased = store.lease(asked).await.unwrap().jobs.remove(0);
        assert_eq!(leased.standing.suspect, Some(Suspect { leased: Some(NOW), liable: true, ..known }));
        drop(store);
        let store = Sqlite::open(&url).await.unwrap();
        assert_eq!(store.job(leased.call.id).await.unwrap().unwrap(), leased);
    }

    #[tokio::test]
    async fn two_stores_on_one_file_wake_each_other() {
        let (_folder, url) = temp_url("");
        let (one, other) = (Sqlite::open(&url).await.unwrap(), Sqlite::open(&url).await.unwrap());
        let job = new_job();
        let (mut work, mut changes) = (other.notifier().work(), one.notifier().job(job.call.id));
        one.enqueue(vec![job]).await.unwrap();
        soon(work.notification()).await;
        assert_eq!(lease(&other, 1).await.len(), 1);
        soon(changes.notification()).await;
    }

    #[tokio::test]
    async fn a_job_with_more_steps_than_one_transaction_deletes_is_pruned_whole() {
        let (_folder, store) = store().await;
        store.enqueue(vec![new_job(), new_job()]).await.unwrap();
        let jobs = lease(&store, 2).await;
        let lease = Lease { job: jobs[0].call.id, attempt: 1, worker: worker(&jobs[0]) };
        for steps in (0..10_000).map(step).collect::<Vec<_>>().chunks(1000) {
            assert_eq!(store.record([record(lease, steps.to_vec())].into()).await.unwrap(), [Written::Yes]);
        }
        for job in &jobs {
            let settlement = settlement(job, worker(job), Output::Steps(Shape::Count));
            assert_eq!(store.settle([settlement].into()).await.unwrap(), [Written::Yes]);
        }
        assert_eq!(store.prune(NOW, NOW, 9).await.unwrap(), 0);
        let later = NOW + jiff::SignedDuration::from_secs(1);
        assert_eq!(store.prune(later, later, 9).await.unwrap(), 2);
        assert_eq!(store.job(jobs[0].call.id).await.unwrap(), None);
        assert_eq!(store.steps(jobs[0].call.id, 0, 9).await.unwrap(), []);
        assert_eq!(store.attempts(jobs[0].call.id).await.unwrap(), []);
    }

    /// How many rows these tables have.
    fn rows<const N: usize>(file: &rusqlite::Connection, tables: [&str; N]) -> [i64; N] {
        tables.map(|table| file.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap())
    }

    #[tokio::test]
    async fn jobs_that_are_done_at_once_need_one_more_row_together() {
        let (folder, store) = store().await;
        store.enqueue((0..20).map(|_| new_job()).collect()).await.unwrap();
        let jobs = lease(&store, 20).await;
        let settlements = jobs.iter().map(|job| settlement(job, worker(job), Output::Steps(Shape::Nothing)));
        _ = store.settle(settlements.collect()).await.unwrap();
        let file = neighbour(&folder);
        let tables = ["qtasks_jobs", "qtasks_attempts", "qtasks_ends"];
        assert_eq!(rows(&file, tables), [20, 0, 1]);
        for job in &jobs {
            assert_eq!(store.attempts(job.call.id).await.unwrap().len(), 1);
        }
        // A part, and what is not old enough is listed again.
        let later = NOW + jiff::SignedDuration::from_secs(1);
        for (before, limit, pruned, remaining) in [(NOW, 9, 0, 20), (later, 7, 7, 13), (later, 20, 13, 0)] {
            assert_eq!(store.prune(before, before, limit).await.unwrap(), pruned);
            assert_eq!(rows(&file, tables), [remaining, 0, remaining.min(1)]);
        }
    }

    #[tokio::test]
    async fn jobs_with_more_steps_than_are_deleted_at_once_are_all_pruned() {
        let (_folder, store) = store().await;
        store.enqueue((0..3).map(|_| new_job()).collect()).await.unwrap();
        let jobs = lease(&store, 3).await;
        for job in &jobs {
            let lease = Lease { job: job.call.id, attempt: 1, worker: worker(job) };
            let steps = (0..1500).map(step).collect();
            assert_eq!(store.record([record(lease, steps)].into()).await.unwrap(), [Written::Yes]);
        }
        let settlements = jobs.iter().map(|job| settlement(job, worker(job), Output::Steps(Shape::Count)));
        _ = store.settle(settlements.collect()).await.unwrap();
        assert_eq!(store.prune(Timestamp::MAX, Timestamp::MAX, 2).await.unwrap(), 2);
        assert_eq!(store.prune(Timestamp::MAX, Timestamp::MAX, 9).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn a_dropped_call_is_carried_out() {
        let (_folder, url) = temp_url("");
        let store = Sqlite::open(&url).await.unwrap();
        let job = new_job();
        let id = job.call.id;
        {
            let mut call = store.enqueue(vec![job]);
            _ = futures::poll!(&mut call);
        }
        drop(store);
        let store = Sqlite::open(&url).await.unwrap();
        // The first store's writer may still be at it.
        let mut work = store.notifier().work();
        while store.job(id).await.unwrap().is_none() {
            soon(work.notification()).await;
        }
    }
}
