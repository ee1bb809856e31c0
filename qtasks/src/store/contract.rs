//! What a store is.

use std::{
    collections::HashSet,
    fmt::{self, Debug},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use futures::future::BoxFuture;
use jiff::Timestamp;
use uuid::Uuid;

use super::{
    expired::Expired,
    joined::Joined,
    lane::{Lane, LaneCounts},
    lease::{Ask, FreeSlots, Leased},
    note::{Note, NoteChange},
    notify::Notifier,
    placement::Placement,
    presence::{Presence, Renewed},
    rate::{Rate, RateSpan},
    record::{Record, Transacted},
    settlement::{Settlement, Written},
};
use crate::{
    error::{Error, Result},
    model::{
        find::{Budget, Find, Page},
        job::{Attempt, Counts, Job, JobCall, JobId, Lease, Memo, NewJob, Standing, StateKind, Step, WorkerId},
        lifecycle::expire,
        pending::PendingStep,
        unique::Holder,
    },
};

/// Keeps jobs, and hands them to workers.
///
/// Every call is atomic and durable: when it returns, what it wrote survives a crash of the process, and for a store
/// that promises it, of the machine. A call that returns an error may or may not have been carried out; each can be
/// made again with the same arguments without harm. All are cancel safe in the same sense. Times count to the
/// millisecond; what is finer may be lost.
///
/// # A store of your own
///
/// Implement this, and give it to an application with [`Builder::store_at`](crate::Builder::store_at). The feature
/// `conformance` has the rules that every store keeps, each a test of its own: `store_conformance!` runs them. The example
/// `log_store` is such a store, in a file that is appended to.
///
/// - Calls come from any thread, many at a time, and their futures may be dropped.
/// - An [`Error::Store`] is for what may be better soon: workers make the same call again until it is carried out, and
///   callers for as long as the store's [patience](Store::patience) lasts. What no repetition mends is another error: an
///   [`Error::Refused`] where the job itself is to blame, such as a value that is too large. When a call with several
///   records or settlements is answered so, workers write each of them again by itself, and the attempt of the one that is
///   refused fails.
/// - Jobs are ordered by their ids, which sort by the time of their making. Text and JSON are kept to the letter.
/// - A store has one [`Notifier`], which it calls before a call that changes something returns. [`Changes`](super::Changes) says
///   which listeners a change concerns, [`notify`](Notifier::notify) notifies them, and [`notify_all`](Notifier::notify_all)
///   belongs to changes by another process. A notification too many does no harm.
#[async_trait]
pub trait Store: Debug + Send + Sync + 'static {
    /// Adds the jobs, all of them or none. A job whose id is there already stays as it is.
    ///
    /// A job with [`unique`](NewJob::unique) takes the [key](JobCall::key) of its task, unless another job holds that:
    /// [`Unique::claim`](crate::unique::Unique::claim) says what becomes of it then, by the job that has taken the key last. Gives the jobs that were not added, for
    /// another is the job of their call; of two with one key the second finds the first. A call that is refused is
    /// [`Error::Duplicate`], and nothing is added then. A job that is replaced keeps its id, its queue, the time of its enqueue, and what
    /// it waits for.
    ///
    /// A job that comes [after](JobCall::after) others waits for those of them that live: [`After::begin`](crate::job::After::begin) says
    /// how it begins. They are there already, or come before it in the call and have no keys; otherwise the call is
    /// [`Error::NoParent`], and nothing is added. The commit that ends the last of them lets the job on: it is due then, unless its own
    /// time comes later. Where one ends dead or cancelled, the job is cancelled in that commit, if it is [not to
    /// run](crate::job::AfterFailure::cancels) then, and so are those that wait for it. A job that ends before lets go of the others.
    /// Jobs that come with a record or a note come after no others.
    async fn enqueue(&self, jobs: Vec<NewJob>) -> Result<Vec<Joined>>;

    /// The job that has taken the key of a task last, as long as the store knows of it: at least while that [holds](Holder::holds) it.
    async fn holder(&self, task: &str, key: &str) -> Result<Option<Holder>>;

    /// Leases up to `ask.limit` due jobs to `ask.worker`, most urgent first: by priority, then by id. Each is running from now
    /// on, at its next attempt. Of [suspects](crate::job::Standing::suspect) at most one is among them, and none unless
    /// `ask.suspects` [allows](super::Suspects::allow_one) it: the one that has survived least, then by priority and id, at the
    /// position of its priority among the others. It is leased at `ask.now`, and [liable](super::Suspects::liable) as asked.
    /// All other suspects are passed over and go on waiting.
    ///
    /// The lease lasts as long as the worker [renews](Self::renew) it.
    async fn lease(&self, ask: Ask) -> Result<Leased>;

    /// Leases new jobs to the worker in the commit that enqueues them, if they are due then: as many as are `free` at that time,
    /// and `ask.limit` at most. Waits until there are some. It is for stores that save a commit by it; the default gives `None`.
    ///
    /// Jobs that wait already come first: at the beginning, and after a notification of work, new jobs wait too until
    /// [`lease`](Self::lease) has given the same worker less than it asked for. A worker may ask again before it has its
    /// answer, so that it misses no job while it takes in others: one commit answers one question, the oldest.
    fn lease_on_enqueue(&self, ask: Ask, free: FreeSlots) -> Option<BoxFuture<'static, Result<Vec<Job>>>> {
        let _ = (ask, free);
        None
    }

    /// When this returns, [`lease_on_enqueue`](Self::lease_on_enqueue) of this worker has answered: without jobs, if none was
    /// leased to it.
    async fn stop_lease_on_enqueue(&self, worker: WorkerId) {
        let _ = worker;
    }

    /// Says that `worker` lives: `beat` is the next number of its own count, which other workers [see](Self::workers) change.
    /// Gives the leases that the worker holds. A lease that was not renewed for long is among them until another worker takes it.
    ///
    /// The first call makes the worker known, as does the first after [`leave`](Self::leave). A worker makes this call each
    /// second, from a thread of its own, and loses its jobs when it cannot: so a renewal must not wait for anything that other
    /// calls occupy. A store whose tables or keys have become those of a newer qtasks answers
    /// [`Error::NewerStore`], one that is not where it was [`Error::StoreChanged`], and the worker stops.
    ///
    /// If the store may wrongly show a worker of its own process as [gone](Presence::gone), it raises a lease
    /// [doubt](Notifier::notify_doubt).
    async fn renew(&self, worker: WorkerId, beat: u64) -> Result<Renewed>;

    /// Forgets `worker`, if it is known. Leases that it still holds can be taken at once: it is [gone](Presence::gone).
    async fn leave(&self, worker: WorkerId) -> Result<()>;

    /// All workers that hold leases or are known otherwise, in no order.
    async fn workers(&self) -> Result<Vec<Presence>>;

    /// Up to `limit` running jobs that `worker` holds, in no order.
    async fn held(&self, worker: WorkerId, limit: usize) -> Result<Vec<Job>>;

    /// Forgets a worker that [`workers`](Self::workers) showed with this `beat` and without leases, if both are still so. For
    /// stores that keep something of a worker until it leaves.
    async fn forget(&self, worker: WorkerId, beat: Option<u64>) -> Result<()> {
        let _ = (worker, beat);
        Ok(())
    }

    /// The time by the clock of the server, if there is a server: all processes count delays and schedules by it.
    async fn time(&self) -> Result<Option<Timestamp>> {
        Ok(None)
    }

    /// Appends steps and memos to running jobs, and enqueues the jobs that came of them; one answer for each record, in order.
    /// A new step sets the failures of its job to 0; a [suspect](crate::job::Standing::suspect) has had no losses from then on,
    /// and is [liable](crate::model::job::Suspect::liable) no more.
    ///
    /// Steps and memos whose number is recorded already are passed over, as are jobs that are there, so that a record can
    /// be written again. A step or memo whose number leaves a gap makes the call an error that no repetition can mend
    /// ([`Error::BrokenContract`]), and nothing of the call is written. A record that is fenced off is not checked for gaps.
    async fn record(&self, records: Arc<[Record]>) -> Result<Vec<Written>>;

    /// Runs the handlers of these values in a transaction, each in a savepoint of its own, in order, and appends their steps
    /// in the same one, if the lease holds: what a handler writes and its step are there both or not at all. Without a
    /// lease there are no steps to append.
    ///
    /// Values whose step is recorded already are passed over, so that a call can be made again. But no handler is run
    /// twice: where what it wrote could not be committed, the value is [spent](Transacted::Spent).
    ///
    /// Only for a store that has [transactions](Self::transactions).
    async fn transact(&self, lease: Option<Lease>, works: Vec<Arc<PendingStep>>) -> Result<Transacted> {
        let _ = (lease, works);
        Err(Error::Unsupported("this store has no transactions for handlers to run in"))
    }

    /// The kind of transactions that handlers can run in, if the store has any. A handler is written for one kind.
    fn transactions(&self) -> Option<&'static str> {
        None
    }

    /// Moves jobs to their next state; one answer for each settlement, in order, whatever becomes of the others. The attempt
    /// that ends with it goes into the job's history.
    ///
    /// A job that had ended and is to wait again takes its [key](JobCall::key), if it has one; while another job lives that has that, the
    /// settlement is fenced.
    async fn settle(&self, settlements: Arc<[Settlement]>) -> Result<Vec<Written>>;

    /// The job of this id, if there is one.
    async fn job(&self, id: JobId) -> Result<Option<Job>>;

    /// What changes of a job: how it stands, and its counts. A caller that waits for a job asks this each time the
    /// [notifier](Self::notifier) says that the job has changed. The default reads the whole job; a store does well to leave the
    /// arguments, which may be large, unread.
    async fn standing(&self, id: JobId) -> Result<Option<(Standing, Counts)>> {
        Ok(self.job(id).await?.map(|job| (job.standing, job.counts)))
    }

    /// Looks at jobs in the order of `find`, from the one behind `after` on, and gives those that [pass](Find::passes): until it
    /// has found `budget.jobs` of them, has looked at `budget.looks` jobs, or has come to the end.
    ///
    /// Jobs that are dead are found without a look at others, as are jobs of an [id](Find::id).
    async fn find(&self, find: Find, after: Option<JobId>, budget: Budget) -> Result<Page>;

    /// How many jobs each lane has. Exact: what a call has changed is counted in its commit. It takes as long as there are lanes,
    /// however many jobs there are. A lane without jobs may be among them. `now` is for [`oldest_due`](LaneCounts::oldest_due).
    async fn counts(&self, now: Timestamp) -> Result<Vec<LaneCounts>>;

    /// Counts all jobs anew, which may take long, and mends the counts of lanes that were wrong; gives how many those were. The
    /// default is for stores that keep no counts.
    async fn recount(&self) -> Result<usize> {
        Ok(0)
    }

    /// Adds what happened to what is there of the same span, time and lane. Unlike all other calls it may not be repeated without
    /// harm: it is statistics, and its caller does not repeat it.
    async fn add_rates(&self, rates: Vec<Rate>) -> Result<()>;

    /// What happened in all spans of this kind that begin at `from` or later and before `to`, in no order.
    async fn rates(&self, span: RateSpan, from: Timestamp, to: Timestamp) -> Result<Vec<Rate>>;

    /// Deletes what happened in minutes that began before `minutes` and in hours that began before `hours`.
    async fn prune_rates(&self, minutes: Timestamp, hours: Timestamp) -> Result<()>;

    /// All notes of a kind, in no order.
    async fn notes(&self, kind: &str) -> Result<Vec<Note>>;

    /// Changes notes and enqueues jobs in one commit: everything, or nothing where a note is not at the version that was
    /// [seen](NoteChange::may_follow). No two changes are of one note. A job whose [key](JobCall::key) another one holds is left out, or
    /// joins or replaces that one, and is never refused.
    async fn note(&self, changes: Vec<NoteChange>, jobs: Vec<NewJob>) -> Result<Written>;

    /// Moves a job that waits and never started into another queue, or to another priority or time; nothing else of it changes.
    async fn place(&self, placement: Placement) -> Result<Written>;

    /// Looks at up to `limit` jobs that may have expired at `now`, and gives those that have: they wait, were never
    /// [started](crate::job::JobCall::expires), and were due so long ago. The attempts at a job say whether it was started: one that was
    /// handed out and given back without a start has none. A job stays among those to be looked at until it ends or starts.
    ///
    /// A worker asks this once a minute, and ends these jobs; one that it has leased it looks at itself. The default looks at the first
    /// thousand jobs that wait.
    async fn expired(&self, now: Timestamp, limit: usize) -> Result<Expired> {
        let waiting = Find::default().state(StateKind::Waiting).oldest_first();
        let waiting = self.find(waiting, None, Budget::jobs(FIRST)).await?.jobs;
        let mut expired = Expired::default();
        for job in waiting {
            let due = job.standing.state.due().unwrap_or(Timestamp::MAX);
            if expire(job.call.expires, due, now).is_none() || !self.attempts(job.call.id).await?.is_empty() {
                continue;
            }
            if expired.jobs.len() == limit {
                expired.more = true;
                break;
            }
            expired.jobs.push(job);
        }
        Ok(expired)
    }

    /// The lanes in which jobs are due that wait at `now`, each once and in no order. A worker asks this once a minute, to say
    /// of which no worker takes any. The default finds the lanes of the first thousand jobs that wait; a store that finds lanes
    /// without reading jobs gives all.
    async fn due_lanes(&self, now: Timestamp) -> Result<Vec<Lane>> {
        let waiting = Find::default().state(StateKind::Waiting).oldest_first();
        let waiting = self.find(waiting, None, Budget::jobs(FIRST)).await?.jobs;
        let due = waiting.into_iter().filter(|job| job.standing.state.due().is_some_and(|due| due <= now));
        let lanes: HashSet<_> = due.map(|Job { call: JobCall { queue, task, .. }, .. }| Lane { queue, task }).collect();
        Ok(lanes.into_iter().collect())
    }

    /// Up to `limit` steps of a job in order, from number `from`.
    async fn steps(&self, id: JobId, from: u64, limit: usize) -> Result<Vec<Step>>;

    /// The last step of a job that was not skipped.
    async fn last_step(&self, id: JobId) -> Result<Option<Step>>;

    /// Up to `limit` memos of a job in order, from number `from`: those for the step of this number, or, without one,
    /// those for the body. Once a step is recorded, the memos for it may be gone.
    async fn memos(&self, id: JobId, step: Option<u64>, from: u64, limit: usize) -> Result<Vec<Memo>>;

    /// The attempts of a job that have ended, oldest first: where there are more than 100, the first
    /// [`FIRST_ATTEMPTS`](super::FIRST_ATTEMPTS) and the last [`LAST_ATTEMPTS`](super::LAST_ATTEMPTS). A settlement deletes what
    /// stands between these.
    async fn attempts(&self, id: JobId) -> Result<Vec<Attempt>>;

    /// Deletes up to `limit` ended jobs with all that belongs to them: dead ones that ended before `dead`, others that
    /// ended before `finished`, by the `now` of the [`Settlement`] that ended them. Gives how many it deleted.
    async fn prune(&self, finished: Timestamp, dead: Timestamp, limit: usize) -> Result<usize>;

    /// How long a caller waits for a store that is away: while a call ends in an [`Error::Store`], the application makes it again
    /// for this long. Workers wait without an end.
    fn patience(&self) -> Duration {
        Duration::from_secs(5)
    }

    /// Tells the store that the application goes by tokio's clock, which its tests may pause. Tokio moves such a clock on
    /// whenever its runtime has nothing to do; a store that carries calls out on threads of its own holds the clock from now on
    /// while the caller waits for one, as `tokio::task::spawn_blocking` does.
    fn hold_clock(&self) {}

    /// Where the jobs are, for applications that enqueue in transactions of their own.
    fn home(&self) -> Home {
        Home::Apart
    }

    /// The notifier of what is new in the store. A call that changed something has notified before it returns, so that its caller
    /// finds by the notifier what the call led to.
    fn notifier(&self) -> &Notifier;
}

/// At so many jobs the defaults of calls look that a store can answer without a look at jobs.
const FIRST: usize = 1_000;

/// How many steps or memos are read at a time.
pub(crate) const PAGE: usize = 1024;

/// Where a store keeps its jobs, as far as other connections can reach them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Home {
    /// Where no transaction of another connection reaches.
    Apart,
    /// In a SQLite file.
    File(PathBuf),
    /// In a Postgres database.
    Schema {
        /// The database, as the server calls it.
        database: String,
        /// The schema in that database which has the tables.
        name: String,
        /// The id of the store, which no other store's tables have.
        store: Uuid,
    },
}

impl fmt::Display for Home {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Apart => f.write_str("one that no transaction reaches, such as `memory:`"),
            Self::File(path) => write!(f, "`{}`", path.display()),
            Self::Schema { database, name, .. } => write!(f, "the schema `{name}` of the database `{database}`"),
        }
    }
}

/// A transaction of the user's own on a store, in which jobs can be enqueued.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a transaction that jobs can be enqueued in",
    label = "expected `&qtasks::sqlite::rusqlite::Transaction` or `&mut qtasks::postgres::tokio_postgres::Transaction`"
)]
pub trait UserTransaction {
    /// The answer: a `Result`, or a future of one.
    type Answer<T>;

    /// Enqueues `job`, and makes something of the id of the job of the call: another one may hold its key. That is [`Error::OtherStore`] in a transaction that is not on the store
    /// at `home`, which is the application's.
    fn enqueue<T>(
        self,
        home: &Home,
        job: Result<NewJob>,
        then: impl FnOnce(JobId) -> T + Send + 'static,
    ) -> Self::Answer<T>;
}
