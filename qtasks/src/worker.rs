//! Leases jobs and runs them, until it is told to stop.

use std::{
    collections::VecDeque,
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    app::App,
    attempt,
    error::{Error, Result},
    held::Held,
    job::{Job, Lease, WorkerId},
    leases::{self, given_back},
    limits::check_name,
    pruner,
    recorder::{Recorder, Settlements},
    store::{Ask, Leased, Settlement, Written},
    tape::Note,
};

/// A worker to be started: which queues it listens to, how many jobs it runs at once.
#[derive(Clone)]
#[must_use = "a worker is started by `.start().await`"]
pub struct WorkerBuilder {
    app: Arc<App>,
    queues: Option<Vec<String>>,
    concurrency: usize,
    grace: Duration,
}

impl WorkerBuilder {
    pub(crate) fn new(app: Arc<App>) -> Self {
        let concurrency = std::thread::available_parallelism().map_or(8, |cores| cores.get() * 4);
        Self { app, queues: None, concurrency, grace: Duration::from_secs(25) }
    }

    /// The queues to listen to. Without this: every queue that a task of this program names, and `default`.
    pub fn queues<Q: Into<String>>(mut self, queues: impl IntoIterator<Item = Q>) -> Self {
        self.queues = Some(queues.into_iter().map(Into::into).collect());
        self
    }

    /// How many jobs run at once; four for each processor by default. As many again may be leased ahead.
    pub fn concurrency(mut self, concurrency: usize) -> Self {
        self.concurrency = concurrency;
        self
    }

    /// How long running bodies may go on after the worker was told to stop; 25 s by default.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Starts the worker on the current runtime.
    ///
    /// # Errors
    ///
    /// [`Error::EmptyRegistry`], [`Error::MissingState`], [`Error::OverLimit`] for a wrong queue name, and
    /// [`Error::Store`] when the store does not answer.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with time enabled.
    pub async fn start(self) -> Result<Worker> {
        if self.app.registry.is_empty() {
            return Err(Error::EmptyRegistry);
        }
        if self.concurrency == 0 {
            return Err(Error::Misuse("a worker with a concurrency of 0 would run nothing"));
        }
        self.app.check_states(self.app.registry.schemas())?;
        let queues = self.queue_names();
        queues.iter().try_for_each(|queue| check_name("queue", queue))?;

        let (id, asked) = (WorkerId::new(), Instant::now());
        self.app.store.renew(id, crate::lifecycle::later(self.app.clock.now(), leases::LEASE)).await?;
        let worker = Worker::start(id, self, queues.into())?;
        worker.floor.held.renewed(asked + leases::LEASE);
        Ok(worker)
    }

    /// Runs every job that is due, and those that come due meanwhile, and stops when none is left; for tests.
    ///
    /// # Errors
    ///
    /// Those of [`start`](Self::start).
    pub async fn run_until_idle(self) -> Result<()> {
        let worker = self.start().await?;
        let mut idle = worker.idle.clone();
        // The dispatcher, which holds the other end, ends only with the worker.
        let _ = idle.wait_for(|idle| *idle).await;
        worker.shutdown().await
    }

    fn queue_names(&self) -> Vec<String> {
        self.queues.clone().unwrap_or_else(|| {
            let mut names: Vec<String> = self.app.registry.schemas().map(|task| task.queue.to_owned()).collect();
            names.push("default".to_owned());
            names.sort();
            names.dedup();
            names
        })
    }
}

impl fmt::Debug for WorkerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a worker for {} jobs at once", self.concurrency)
    }
}

/// A worker that runs. Dropping it stops it as [`shutdown`](Self::shutdown) does, without waiting.
#[must_use = "a worker stops when it is dropped"]
pub struct Worker {
    floor: Arc<Floor>,
    idle: watch::Receiver<bool>,
    /// The parts to stop once all attempts have ended, and to wait for.
    finished: CancellationToken,
    parts: TaskTracker,
    leases_ended: Option<oneshot::Receiver<()>>,
}

/// What the parts of a worker share.
pub(crate) struct Floor {
    pub(crate) app: Arc<App>,
    pub(crate) id: WorkerId,
    pub(crate) held: Held,
    pub(crate) notes: mpsc::UnboundedSender<Note>,
    /// Told when the worker is to stop gracefully,
    pub(crate) stopping: CancellationToken,
    /// and when at once.
    given_up: CancellationToken,
    settlements: Settlements,
    attempts: TaskTracker,
    grace: Duration,
}

/// The right to run one job.
pub(crate) type Slot = OwnedSemaphorePermit;

impl Worker {
    fn start(id: WorkerId, builder: WorkerBuilder, queues: Arc<[String]>) -> Result<Self> {
        let WorkerBuilder { app, concurrency, grace, .. } = builder;
        let (notes, noted) = mpsc::unbounded_channel();
        let (settlements, settled) = mpsc::unbounded_channel();
        let floor = Arc::new(Floor {
            app: app.clone(),
            id,
            held: Held::default(),
            notes,
            stopping: CancellationToken::new(),
            given_up: CancellationToken::new(),
            settlements,
            attempts: TaskTracker::new(),
            grace,
        });
        let (finished, parts) = (CancellationToken::new(), TaskTracker::new());
        let leases_ended = leases::keep(floor.clone(), finished.clone())?;
        let recorder = Recorder {
            store: app.store.clone(),
            notes: noted,
            settlements: settled,
            later: Default::default(),
            noted: 0,
        };
        parts.spawn(recorder.run(finished.clone(), floor.given_up.clone()));
        parts.spawn(pruner::run(app.clone(), floor.stopping.clone()));
        let (idling, idle) = watch::channel(false);
        let dispatcher = Dispatcher {
            ask: Ask {
                worker: id,
                queues,
                tasks: app.registry.schemas().map(|task| task.name).collect(),
                limit: 0,
                now: Timestamp::UNIX_EPOCH,
            },
            slots: Arc::new(Semaphore::new(concurrency)),
            concurrency,
            ready: VecDeque::new(),
            next_due: None,
            idle: idling,
            floor: floor.clone(),
        };
        floor.attempts.spawn(dispatcher.run());
        Ok(Self { floor, idle, finished, parts, leases_ended: Some(leases_ended) })
    }

    /// The worker's id, as the history of attempts names it.
    pub fn id(&self) -> WorkerId {
        self.floor.id
    }

    /// Stops gracefully: leases no more; generators stop at their next yield, other bodies have the grace to end; what
    /// was not ended is given back, without a failure.
    ///
    /// # Errors
    ///
    /// [`Error::Misuse`] when the store is away for longer than the grace, so that jobs could not be given back: they go on
    /// elsewhere when their leases have run out.
    pub async fn shutdown(mut self) -> Result<()> {
        self.stop().await
    }

    /// Waits for SIGINT or SIGTERM, and stops gracefully; at a second one, at once.
    ///
    /// # Errors
    ///
    /// Those of [`shutdown`](Self::shutdown), and when signals cannot be listened to.
    pub async fn until_signal(mut self) -> Result<()> {
        let mut signals = Signals::listen()?;
        signals.next().await;
        tracing::info!("stopping; a second signal stops at once");
        tokio::select! {
            stopped = self.stop() => return stopped,
            () = signals.next() => {}
        }
        self.floor.given_up.cancel();
        self.stop().await
    }

    async fn stop(&mut self) -> Result<()> {
        let floor = &self.floor;
        floor.stopping.cancel();
        floor.attempts.close();
        // Bodies get the grace; settling what they came to gets as long again when the store is away.
        let patience = floor.grace.saturating_mul(2).saturating_add(Duration::from_secs(5));
        let in_time = tokio::select! {
            () = floor.attempts.wait() => true,
            () = tokio::time::sleep(patience) => false,
            () = floor.given_up.cancelled() => true,
        };
        if !in_time {
            floor.given_up.cancel();
        }
        self.finished.cancel();
        self.parts.close();
        self.parts.wait().await;
        if let Some(ended) = self.leases_ended.take() {
            // The thread may wait for a store that is away; then the leases run out by themselves.
            let _ = tokio::time::timeout(Duration::from_secs(5), ended).await;
        }
        if in_time {
            return Ok(());
        }
        Err(Error::Misuse("the store was away while the worker stopped; its jobs go on when their leases have run out"))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.floor.stopping.cancel();
        self.floor.attempts.close();
        // Also when the runtime ends before the attempts do: then their leases must run out.
        let (attempts, finish) = (self.floor.attempts.clone(), self.finished.clone().drop_guard());
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                attempts.wait().await;
                drop(finish);
            });
        }
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "worker {}", self.floor.id)
    }
}

impl Floor {
    /// Hands a settlement to the recorder, and waits until it is written; nothing when the worker is given up first.
    pub(crate) async fn settle(&self, settlement: Settlement) -> Option<Written> {
        let (answer, written) = oneshot::channel();
        self.settlements.send((settlement, answer)).ok()?;
        written.await.ok()
    }

    /// Waits until bodies may not go on: the grace after the worker was told to stop is over, or it is to stop at once.
    pub(crate) async fn grace_is_over(&self) {
        let grace = async {
            self.stopping.cancelled().await;
            tokio::time::sleep(self.grace).await;
        };
        tokio::select! {
            () = grace => {}
            () = self.given_up.cancelled() => {}
        }
    }
}

/// Gets jobs from the store and starts their attempts.
struct Dispatcher {
    floor: Arc<Floor>,
    ask: Ask,
    slots: Arc<Semaphore>,
    concurrency: usize,
    /// Leased and not started yet.
    ready: VecDeque<Job>,
    next_due: Option<Timestamp>,
    idle: watch::Sender<bool>,
}

impl Dispatcher {
    async fn run(mut self) {
        let mut news = self.floor.app.store.bell().work();
        let stopping = self.floor.stopping.clone();
        let mut look = true;
        while !stopping.is_cancelled() {
            self.start_ready();
            if look && self.is_short() {
                look = self.lease(self.room()).await;
                continue;
            }
            let idle = !look && self.is_idle();
            // The last attempt may have left a job due, and has rung for it before it was gone.
            if idle && news.rang() {
                look = true;
                continue;
            }
            self.idle.send_replace(idle);
            tokio::select! {
                // News first: an attempt that has settled may have left a job to look at.
                biased;
                () = news.heard() => look = true,
                () = self.due() => look = true,
                () = self.slot_or_settlement(look) => {}
                () = stopping.cancelled() => {}
            }
        }
        self.give_back().await;
    }

    /// Starts jobs that are leased, as far as there are slots.
    fn start_ready(&mut self) {
        while let Some(job) = self.ready.pop_front() {
            let Ok(slot) = self.slots.clone().try_acquire_owned() else {
                self.ready.push_front(job);
                return;
            };
            let lease = self.lease_of(&job);
            self.floor.attempts.spawn(attempt::run(self.floor.clone(), job, lease, slot));
        }
    }

    /// Whether it is time to lease more: not for each job that ends, but when half of what was leased ahead is gone.
    fn is_short(&self) -> bool {
        self.ready.len() <= self.concurrency / 2
    }

    /// How many more jobs to lease: as many as run at once may be ready beside those that run.
    fn room(&self) -> usize {
        (self.concurrency + self.slots.available_permits()).saturating_sub(self.ready.len())
    }

    /// Leases up to `limit` jobs; gives whether there may be more.
    async fn lease(&mut self, limit: usize) -> bool {
        let now = self.floor.app.clock.now();
        let ask = Ask { limit, now, ..self.ask.clone() };
        match self.floor.app.store.lease(ask).await {
            Ok(Leased { jobs, next_due }) => {
                let more = jobs.len() == limit;
                self.next_due = next_due;
                jobs.iter().for_each(|job| self.floor.held.insert(self.lease_of(job)));
                self.ready.extend(jobs);
                more
            }
            Err(error) => {
                tracing::warn!(error = crate::error::chain(&error), "no jobs were leased; trying again in a second");
                tokio::select! {
                    () = tokio::time::sleep(Duration::from_secs(1)) => {}
                    () = self.floor.stopping.cancelled() => {}
                }
                true
            }
        }
    }

    fn lease_of(&self, job: &Job) -> Lease {
        Lease { job: job.id, attempt: job.attempt, worker: self.floor.id }
    }

    /// Waits until the next job that is not due yet is.
    async fn due(&self) {
        let Some(due) = self.next_due else { return std::future::pending().await };
        let wait = due.duration_since(self.floor.app.clock.now());
        // A millisecond more, for stores keep whole ones.
        tokio::time::sleep(Duration::try_from(wait).unwrap_or_default() + Duration::from_millis(1)).await;
    }

    /// Waits until a job that is ready can be started, or more may be leased, or, when there is neither, until the last
    /// attempt has settled.
    async fn slot_or_settlement(&self, look: bool) {
        if !self.ready.is_empty() || look {
            drop(self.slots.acquire().await);
        } else {
            self.floor.held.emptied().await;
        }
    }

    fn is_idle(&self) -> bool {
        let due = self.next_due.is_some_and(|due| due <= self.floor.app.clock.now());
        !due && self.ready.is_empty() && self.floor.held.is_empty()
    }

    /// Gives back what was leased and not started.
    async fn give_back(mut self) {
        let now = self.floor.app.clock.now();
        let jobs: Vec<_> = self.ready.drain(..).collect();
        let settlements = jobs.iter().map(|job| {
            let lease = self.lease_of(job);
            let floor = &self.floor;
            async move {
                floor.settle(given_back(job, lease, now)).await;
                floor.held.remove(lease);
            }
        });
        futures::future::join_all(settlements).await;
    }
}

/// The signals that ask a program to end.
struct Signals {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn listen() -> Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let listen = |kind| signal(kind).map_err(|source| Error::store("listen to signals", source));
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

#[cfg(not(unix))]
impl Signals {
    fn listen() -> Result<Self> {
        Ok(Self {})
    }

    async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
