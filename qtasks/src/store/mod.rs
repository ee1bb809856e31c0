//! Where jobs are kept.
//!
//! A store finds due jobs, hands each to one worker, and writes what it is told if the lease still holds. It sees names,
//! JSON and times, never tasks, and it decides nothing: what becomes of a job comes from [`crate::model::lifecycle`]. It never
//! reads a clock either; `now` comes in with each call.

#[cfg(any(feature = "postgres", feature = "redis", feature = "sqlite"))]
mod codec;
#[cfg(feature = "conformance")]
pub mod conformance;
mod memory;
mod notify;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "redis")]
mod redis;
pub(crate) mod same_call;
mod secret;
#[cfg(feature = "sqlite")]
pub mod sqlite;

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

#[cfg(feature = "redis")]
pub use self::redis::Redis;
pub(crate) use self::secret::without_password;
pub use self::{
    memory::Memory,
    notify::{Bell, Listener},
};
pub use crate::model::pending::{BoxedHandler, PendingStep};
use crate::{
    error::{Error, Result},
    model::job::{Attempt, Job, JobId, Lease, Memo, NewJob, Progress, State, Step, Suspect, WorkerId},
};

/// A place where jobs are kept.
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
///   [`Error::Refused`] where the job itself is to blame, such as a value that is too large. Of a call with several records or
///   settlements that is answered so, workers make each part again by itself, and the attempt of the one that is refused
///   fails.
/// - Jobs are ordered by their ids, which sort by the time of their making. Text and JSON are kept to the letter.
/// - A store has one [`Bell`]. [`ring_work`](Bell::ring_work) belongs to every change after which a job waits,
///   [`ring_jobs`](Bell::ring_jobs) to every record and settlement, [`ring_ends`](Bell::ring_ends) to a settlement that
///   ends a job, and [`ring_all`](Bell::ring_all) to changes by another process. A ring too many does no harm.
#[async_trait]
pub trait Store: Debug + Send + Sync + 'static {
    /// Adds the jobs, all of them or none. A job whose id is there already is left as it is.
    async fn enqueue(&self, jobs: Vec<NewJob>) -> Result<()>;

    /// Leases up to `ask.limit` due jobs to `ask.worker`, most urgent first: by priority, then by id. Each is running
    /// from now on, at its next attempt. Of [suspects](Job::suspect) at most one is among them, and none unless
    /// `ask.suspects` [allows](Suspects::allow_one) it: the one that has survived least, then by priority and id, at the
    /// place of its priority among the others. It is leased at `ask.now`, and [liable](Suspects::liable) as asked. All other
    /// suspects are passed over and go on waiting.
    ///
    /// The lease lasts as long as the worker [renews](Self::renew) it.
    async fn lease(&self, ask: Ask) -> Result<Leased>;

    /// Leases jobs at the moment they are enqueued, if they are due then: as many as are `free` at that time, and
    /// `ask.limit` at most. Waits until there are some. It is for stores that save a commit by it; others have nothing to
    /// give here.
    ///
    /// What waits already comes first: to begin with, and when the bell has rung for work, new jobs wait too until the
    /// same worker was given less by [`lease`](Self::lease) than it asked for.
    fn lease_new(&self, ask: Ask, free: Free) -> Option<BoxFuture<'static, Result<Vec<Job>>>> {
        let _ = (ask, free);
        None
    }

    /// When this returns, [`lease_new`](Self::lease_new) of this worker has answered: with nothing, if nothing came.
    async fn take_back(&self, worker: WorkerId) {
        let _ = worker;
    }

    /// Says that `worker` lives: `beat` is the next number of a count of its own, which others [see](Self::workers) change.
    /// Gives the leases that the worker holds, those that were not renewed for long included, as long as no one took them.
    ///
    /// The first call makes the worker known, as does the first after [`leave`](Self::leave). A worker makes this call each
    /// second, from a thread of its own, and loses its jobs when it cannot: so it must wait for nothing that other calls
    /// are busy with. A store whose tables or keys have become those of a newer qtasks answers
    /// [`Error::NewerStore`], one that is not where it was [`Error::StoreChanged`], and the worker stops.
    ///
    /// Where a store could be wrong in [seeing](Presence::gone) that a worker of its own process is gone, it rings a
    /// [doubt](Bell::ring_doubt) for it.
    async fn renew(&self, worker: WorkerId, beat: u64) -> Result<Renewed>;

    /// Forgets `worker`, if it is known. Leases that it still holds can be taken at once: it is [gone](Presence::gone).
    async fn leave(&self, worker: WorkerId) -> Result<()>;

    /// All workers that hold leases or are known otherwise, in no order.
    async fn workers(&self) -> Result<Vec<Presence>>;

    /// Up to `limit` running jobs that `worker` holds, in no order.
    async fn held(&self, worker: WorkerId, limit: usize) -> Result<Vec<Job>>;

    /// Forgets a worker of which [`workers`](Self::workers) said that it is silent since `beat` and holds nothing, if that is
    /// still so. For stores that keep something of a worker until it leaves.
    async fn forget(&self, worker: WorkerId, beat: Option<u64>) -> Result<()> {
        let _ = (worker, beat);
        Ok(())
    }

    /// The time by the clock of the server, if there is a server: all processes count delays and schedules by it.
    async fn time(&self) -> Result<Option<Timestamp>> {
        Ok(None)
    }

    /// Appends steps and memos to running jobs, and enqueues the jobs that came of them; one answer for each record, in
    /// order. A new step sets the failures of its job to 0; a [suspect](Job::suspect) has had no losses from then on, and is
    /// [liable](crate::model::job::Suspect::liable) no more.
    ///
    /// Steps and memos whose number is recorded already are passed over, as are jobs that are there, so that a record can
    /// be written again. A step or memo whose number leaves a gap makes the call an error that no repetition can mend
    /// ([`Error::Misuse`]), and nothing of the call is written; but in a record that is fenced off, nothing is looked at.
    async fn record(&self, records: Vec<Record>) -> Result<Vec<Written>>;

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
        Err(Error::Misuse("this store has no transactions for handlers to run in"))
    }

    /// The kind of transactions that handlers can run in here, if there are any: that which they must be written for.
    fn transactions(&self) -> Option<&'static str> {
        None
    }

    /// Moves jobs to their next state; one answer for each settlement, in order, whatever becomes of the others. The attempt
    /// that ends with it goes into the job's history. A settlement to [`State::Running`] makes the call an error that no
    /// repetition can mend, and nothing of the call is written.
    async fn settle(&self, settlements: Vec<Settlement>) -> Result<Vec<Written>>;

    /// One job.
    async fn job(&self, id: JobId) -> Result<Option<Job>>;

    /// Up to `limit` jobs that `filter` lets pass, oldest first, from after `after`.
    async fn jobs(&self, filter: Filter, after: Option<JobId>, limit: usize) -> Result<Vec<Job>>;

    /// The lanes in which jobs are due that wait at `now`, each once and in no order. A worker asks this once a minute, to say
    /// of which no worker takes any. As it stands here it knows of those of the first thousand jobs that wait; a store that
    /// finds lanes without reading jobs gives all.
    async fn due_lanes(&self, now: Timestamp) -> Result<Vec<Lane>> {
        const FIRST: usize = 1_000;
        let waiting = self.jobs(Filter::default().state("waiting"), None, FIRST).await?;
        let due = waiting.into_iter().filter(|job| matches!(job.state, State::Waiting { due } if due <= now));
        let lanes: HashSet<_> = due.map(|Job { queue, task, .. }| Lane { queue, task }).collect();
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
    /// [`FIRST_ATTEMPTS`] and the last [`LAST_ATTEMPTS`]. A settlement deletes what stands between these.
    async fn attempts(&self, id: JobId) -> Result<Vec<Attempt>>;

    /// Deletes up to `limit` ended jobs with all that belongs to them: dead ones that ended before `dead`, others that
    /// ended before `finished`, by the `now` of the [`Settlement`] that ended them. Gives how many it deleted.
    async fn prune(&self, finished: Timestamp, dead: Timestamp, limit: usize) -> Result<usize>;

    /// How long a caller waits for a store that is away: an application makes the same call again for so long, where it ends
    /// in an [`Error::Store`]. Workers wait without an end.
    fn patience(&self) -> Duration {
        Duration::from_secs(5)
    }

    /// Says that the application goes by tokio's clock, which its tests may pause. Tokio moves such a clock on whenever its
    /// runtime has nothing to do; a store that carries calls out on threads of its own holds the clock from now on while the
    /// caller waits for one, as `tokio::task::spawn_blocking` does.
    fn hold_clock(&self) {}

    /// Where the jobs are, for those who enqueue in transactions of their own.
    fn home(&self) -> Home {
        Home::Apart
    }

    /// What rings when there is something new in the store. A call that changed something has rung before it returns:
    /// whoever made it finds by the bell what it led to.
    fn bell(&self) -> &Bell;
}

/// How many steps or memos are read at a time.
pub(crate) const PAGE: usize = 1024;

/// Of the attempts of a job so many of the first are kept,
pub const FIRST_ATTEMPTS: usize = 10;
/// and so many of the last.
pub const LAST_ATTEMPTS: usize = 90;
/// A job with no more attempts has all of them kept.
#[cfg(any(feature = "postgres", feature = "sqlite"))]
const KEPT_ATTEMPTS: u32 = (FIRST_ATTEMPTS + LAST_ATTEMPTS) as u32;

/// Leaves of the attempts of a job, oldest first, those that are kept.
pub fn trim_attempts(attempts: &mut Vec<Attempt>) {
    let from_last = attempts.len().saturating_sub(LAST_ATTEMPTS);
    if from_last > FIRST_ATTEMPTS {
        attempts.drain(FIRST_ATTEMPTS..from_last);
    }
}

/// How many more jobs a worker can start at the moment.
pub type Free = Arc<dyn Fn() -> usize + Send + Sync>;

/// A form of URL that names a kind of store. Each kind that is built in submits one.
#[derive(Debug)]
pub struct Scheme {
    /// What the URL begins with, without the colon.
    pub name: &'static str,
    /// What the whole of it looks like.
    pub form: &'static str,
    /// Opens a store.
    pub open: Open,
}

/// Opens the store at a URL.
pub type Open = for<'a> fn(&'a str) -> BoxFuture<'a, Result<Arc<dyn Store>>>;

inventory::collect!(Scheme);

/// Schemes of stores that a build may be without, and the features that bring them.
const FEATURES: [(&str, &str); 5] = [
    ("sqlite", "sqlite"),
    ("redis", "redis"),
    ("rediss", "redis-tls"),
    ("postgres", "postgres"),
    ("postgresql", "postgres"),
];

/// Opens the store at `url`.
///
/// # Errors
///
/// [`Error::UnknownStore`], and those of the store.
pub async fn open(url: &str) -> Result<Arc<dyn Store>> {
    let name = url.split(':').next().unwrap_or_default();
    match inventory::iter::<Scheme>.into_iter().find(|scheme| scheme.name == name && url.contains(':')) {
        Some(scheme) => (scheme.open)(url).await,
        None => {
            let mut known: Vec<&str> = inventory::iter::<Scheme>.into_iter().map(|scheme| scheme.form).collect();
            known.sort_unstable();
            let missing = FEATURES.iter().find(|(scheme, _)| *scheme == name && url.contains(':'));
            let missing = missing.map(|(_, feature)| format!("; add the feature `{feature}` of qtasks for it"));
            let known = known.join(", ") + missing.as_deref().unwrap_or_default();
            Err(Error::UnknownStore { url: without_password(url), known })
        }
    }
}

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
        /// The schema there.
        name: String,
        /// What tells the tables there from those of other stores.
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

    /// Enqueues `job`, and makes something of its id. That is [`Error::OtherStore`] in a transaction that is not on the store
    /// at `home`, which is the application's.
    fn enqueue<T>(self, home: &Home, job: Result<NewJob>, then: impl FnOnce(JobId) -> T) -> Self::Answer<T>;
}

/// What a worker asks for when it leases jobs.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Who asks.
    pub worker: WorkerId,
    /// The queues it listens to.
    pub queues: Arc<[String]>,
    /// The tasks it knows; jobs of others are left alone.
    pub tasks: Arc<[&'static str]>,
    /// How many jobs it takes at most.
    pub limit: usize,
    /// Whether one [suspect](Job::suspect) may be among them, since it can be started at once.
    pub suspects: Suspects,
    /// Jobs due at this time or before are due.
    pub now: Timestamp,
}

/// Whether a [suspect](Job::suspect) may be leased.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Suspects {
    /// None: another one has the turn, or no slot is free.
    #[default]
    PassOver,
    /// One, to run beside others that have had their turn and run still.
    OneBesideOthers,
    /// One, which runs as the only suspect of its process.
    OneAlone,
}

impl Suspects {
    /// Whether one may be leased.
    pub const fn allow_one(self) -> bool {
        !matches!(self, Self::PassOver)
    }

    /// Whether the one that is leased is [liable](crate::model::job::Suspect::liable).
    pub const fn liable(self) -> bool {
        matches!(self, Self::OneAlone)
    }
}

/// What a worker hears when it renews its leases.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Renewed {
    /// Those that it holds, in no order.
    pub leases: Vec<Lease>,
    /// The time by the clock of the server, where there is one.
    pub now: Option<Timestamp>,
}

/// What can be seen of a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presence {
    /// The worker.
    pub worker: WorkerId,
    /// The number of its last renewal. None when it never renewed, has left, or the number was lost: that alone proves
    /// nothing. While it does not change, the worker is silent.
    pub beat: Option<u64>,
    /// Whether it holds leases.
    pub holds: bool,
    /// Whether the worker has left, or the store knows that its process has ended, such as by a lock that the operating
    /// system has freed. False where the store cannot tell.
    pub gone: bool,
}

/// What a worker gets.
#[derive(Clone, Debug, Default)]
pub struct Leased {
    /// The jobs, all of them running.
    pub jobs: Vec<Job>,
    /// When the next job that is not due yet will be, among those that the worker could take.
    pub next_due: Option<Timestamp>,
    /// Whether a [suspect](Job::suspect) that is due, and that the worker could take, still waits.
    pub suspects: bool,
}

/// What to append to a job; all of it is written, or nothing.
#[derive(Clone, Debug)]
pub struct Record {
    /// What gives the right to write.
    pub lease: Lease,
    /// The steps, their numbers going on without a gap.
    pub steps: Vec<Step>,
    /// The memos, their numbers going on without a gap.
    pub memos: Vec<Memo>,
    /// Jobs that the task has enqueued.
    pub jobs: Vec<NewJob>,
    /// What the task says of its progress, where that is new.
    pub progress: Option<Progress>,
    /// Whether the job, a [suspect](Job::suspect), has had its turn: it is [liable](crate::model::job::Suspect::liable) no more.
    pub passed: bool,
}

/// What [`Store::record`] says of a record that no store can write.
pub(crate) const GAP: &str = "the steps or memos to record leave a gap in their numbers";

/// A job's next state.
#[derive(Clone, Debug)]
pub struct Settlement {
    /// The job.
    pub job: JobId,
    /// What must still be so for the change to be made,
    pub hold: Hold,
    /// and how many steps the job must have, if that matters: a server that has lost its last seconds, in a power cut or to
    /// a replica that came too late, may know of the lease and no longer of all steps.
    pub steps: Option<u64>,
    /// The state from then on; never running.
    pub next: State,
    /// The failures in a row from then on.
    pub failures: u32,
    /// Whether the job is a [suspect](Job::suspect) from then on. It does not run any more, so that it is neither leased nor
    /// liable.
    pub suspect: Option<Suspect>,
    /// The attempt that ends with this, for the history.
    pub attempt: Option<Attempt>,
    /// When the change is made.
    pub now: Timestamp,
}

/// What must still be so for a settlement to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// The job runs under this lease, run out or not.
    Lease(Lease),
    /// The job runs under this lease, and its worker has not renewed since: this is still its [beat](Presence::beat).
    Silent {
        /// The lease.
        lease: Lease,
        /// The last beat that was seen of its worker.
        beat: Option<u64>,
    },
    /// The job is in the state of this [name](State::name), at this attempt.
    Seen {
        /// The name of the state.
        state: &'static str,
        /// The attempt.
        attempt: u32,
    },
}

/// Whether something was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a write that was fenced off did not happen"]
pub enum Written {
    /// It was.
    Yes,
    /// It was not: what the write relied on is no longer so.
    Fenced,
}

/// How far handlers came that ran in a transaction. What is told of is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "handlers may have failed, or not have run"]
pub enum Transacted {
    /// The steps before this number are recorded, and none has failed; the others are for another call.
    Upto(u64),
    /// The steps before this number are recorded. The handler of this one failed and left nothing behind; none ran after
    /// it.
    Failed(u64),
    /// The steps before this number are recorded. The handler of this one ran in a transaction that was not committed, and
    /// cannot be run again.
    Spent(u64),
    /// The lease does not hold. Of handlers that may have run nothing is there.
    Fenced,
}

/// A task in a queue: jobs of one lane wait in one order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Lane {
    /// The queue.
    pub queue: String,
    /// The task.
    pub task: String,
}

/// Which jobs to list; the default lets all pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Filter {
    /// Only those of this task.
    pub task: Option<String>,
    /// Only those of this queue.
    pub queue: Option<String>,
    /// Only those in the state of this [name](State::name).
    pub state: Option<&'static str>,
}

impl Filter {
    /// Only jobs of this task.
    pub fn task(self, task: impl Into<String>) -> Self {
        Self { task: Some(task.into()), ..self }
    }

    /// Only jobs of this queue.
    pub fn queue(self, queue: impl Into<String>) -> Self {
        Self { queue: Some(queue.into()), ..self }
    }

    /// Only jobs in the state of this [name](State::name).
    pub fn state(self, state: &'static str) -> Self {
        Self { state: Some(state), ..self }
    }

    /// Whether `job` passes.
    pub fn passes(&self, job: &Job) -> bool {
        self.task.as_ref().is_none_or(|task| *task == job.task)
            && self.queue.as_ref().is_none_or(|queue| *queue == job.queue)
            && self.state.is_none_or(|state| state == job.state.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_unknown_url_is_answered_with_the_known_ones_and_without_its_password() {
        for (url, shown) in [
            ("mysql://me:secret@db/x", "mysql://me:***@db/x"),
            ("mysql://db/x?a=b&password=secret", "mysql://db/x?a=b&password=***"),
            ("qtasks.db", "qtasks.db"),
        ] {
            let error = open(url).await.unwrap_err().to_string();
            assert!(error.starts_with(&format!("no store for `{shown}`; this build knows memory:")), "{error}");
            assert!(!error.contains("feature"), "{error}");
        }
    }

    #[cfg(not(feature = "redis-tls"))]
    #[tokio::test]
    async fn a_store_that_was_not_built_in_is_answered_with_the_feature_that_brings_it() {
        let error = open("rediss://:secret@db").await.unwrap_err().to_string();
        assert!(error.starts_with("no store for `rediss://:***@db`; this build knows memory:"), "{error}");
        assert!(error.ends_with("; add the feature `redis-tls` of qtasks for it"), "{error}");
    }

    #[tokio::test]
    #[cfg(not(feature = "postgres"))]
    async fn a_url_whose_feature_is_off_is_answered_with_it() {
        let error = open("postgres://me:secret@db/x").await.unwrap_err().to_string();
        assert!(error.starts_with("no store for `postgres://me:***@db/x`; this build knows memory:"), "{error}");
        assert!(error.ends_with("; add the feature `postgres` of qtasks for it"), "{error}");
    }
}
