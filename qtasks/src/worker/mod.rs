//! A worker leases jobs and runs them until it stops.

pub(crate) mod around;
pub(crate) mod body;
pub(crate) mod card;
pub(crate) mod delayed;
pub(crate) mod dispatcher;
mod gauges;
pub(crate) mod heartbeat;
pub(crate) mod lease_table;
pub(crate) mod maintenance;
mod pace;
pub(crate) mod pauses;
pub(crate) mod rates;
pub(crate) mod recorder;
pub(crate) mod replay;
pub(crate) mod rescue;
pub(crate) mod retrying;
pub(crate) mod runner;
pub(crate) mod settling;
pub(crate) mod shared;
pub(crate) mod signals;
pub(crate) mod stopping;
pub(crate) mod thread_body;
mod unstarted;
pub(crate) mod writes;

use std::{
    fmt,
    panic::catch_unwind,
    pin::pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot, watch},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    dispatcher::Dispatcher,
    heartbeat::{FIRST_BEAT, Heartbeat},
    lease_table::LeaseTable,
    maintenance::{pruner, scheduler, unserved},
    pauses::Pauses,
    rates::Rates,
    recorder::Recorder,
    rescue::Rescue,
    retrying::RetryingStore,
    shared::WorkerShared,
    signals::Signals,
};
use crate::{
    clock::Uptime,
    environment::{App, patience::patiently},
    error::{Error, Result},
    model::{job::WorkerId, limits::check_name},
    runtime::alarm,
    schema::TaskExecSchema,
    telemetry::numbers::{Event, note},
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

    /// How many jobs run at once; four for each processor by default. Beside these as many are leased ahead
    /// as end in 20 ms, eight for each that runs at most.
    pub fn concurrency(mut self, concurrency: usize) -> Self {
        self.concurrency = concurrency;
        self
    }

    /// How long running bodies may go on after the worker begins to stop; 25 s by default.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Starts the worker on the current runtime.
    ///
    /// The application must have the states of every task whose queue the worker listens to. Of tasks of other queues it
    /// takes only jobs that a call has put into its queues, and only where it has the states: others are left to other
    /// workers.
    ///
    /// # Errors
    ///
    /// [`Error::EmptyRegistry`], [`Error::MissingState`], [`Error::NoTransactions`], [`Error::OverLimit`] for a wrong queue
    /// name, [`Error::Schedule`] for a wrong schedule or time zone in the code, [`Error::Store`] when the store does not answer
    /// for as long as its [patience](crate::store::Store::patience) lasts, and [`Error::Misuse`] outside of a tokio runtime, in one without timers, or in one whose clock is paused where the application does not go by it ([`Clock::tokio`](crate::Clock::tokio)).
    pub async fn start(self) -> Result<Worker> {
        let runtime = runtime_with_timers()?;
        if !self.app.clock.is_tokios() && alarm::is_clock_paused() {
            return Err(Error::Misuse(
                "tokio's clock is paused, and this application goes by the system's, so that delays and time limits would \
                 never pass or all at once: give it `.clock(qtasks::Clock::tokio())` when it is built",
            ));
        }
        if self.app.registry.is_empty() {
            return Err(Error::EmptyRegistry);
        }
        if self.concurrency == 0 {
            return Err(Error::Misuse("a worker with a concurrency of 0 would run nothing"));
        }
        let queues = self.queue_names();
        queues.iter().try_for_each(|queue| check_name("queue", queue))?;
        let is_listened_to = |task: &&TaskExecSchema| queues.iter().any(|queue| queue == task.queue);
        self.app.check_needs(self.app.registry.schemas().filter(is_listened_to))?;

        self.app.check_schedules()?;

        let (id, clock) = (WorkerId::new(), &self.app.clock);
        let (store, mut asked) = (&*self.app.store, clock.uptime());
        let renewed = patiently(store, || {
            asked = clock.uptime();
            store.renew(id, FIRST_BEAT)
        });
        let renewed = renewed.await?;
        if let Some(time) = renewed.now {
            clock.learn(time, asked, clock.uptime());
        }
        card::write_cards(&self.app, id, &queues, self.concurrency).await?;
        Worker::start(id, self, queues.into(), asked + heartbeat::LEASE, runtime)
    }

    /// Runs every job that is due, and every job that comes due meanwhile, and stops when none is left; for tests.
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

/// The current runtime, checked to have timers.
fn runtime_with_timers() -> Result<Handle> {
    let runtime = Handle::try_current().map_err(|_| {
        Error::Misuse("a worker needs a tokio runtime: start it within one, as `#[tokio::main]` makes it")
    })?;
    // Only a panic shows that a runtime of tokio has no timers.
    catch_unwind(|| drop(tokio::time::sleep(Duration::ZERO))).map_err(|_| {
        Error::Misuse(
            "a worker needs timers, and this tokio runtime has none: build it with `enable_time` or `enable_all`",
        )
    })?;
    Ok(runtime)
}

impl fmt::Debug for WorkerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a worker for {} jobs at once", self.concurrency)
    }
}

/// A worker that runs. Dropping it stops it as [`shutdown`](Self::shutdown) does, without waiting.
#[must_use = "a worker stops when it is dropped"]
pub struct Worker {
    shared: Arc<WorkerShared>,
    idle: watch::Receiver<bool>,
    /// Cancelled when all attempts have ended, to end the heartbeat and the other parts.
    finished: CancellationToken,
    parts: TaskTracker,
    leases_ended: Option<oneshot::Receiver<()>>,
    /// The runtime of the worker: its drop needs it, and may happen outside of it.
    runtime: Handle,
}

impl Worker {
    fn start(
        id: WorkerId,
        builder: WorkerBuilder,
        queues: Arc<[String]>,
        renewed: Uptime,
        runtime: Handle,
    ) -> Result<Self> {
        let WorkerBuilder { app, concurrency, grace, .. } = builder;
        let (flush_requests, requests) = mpsc::unbounded_channel();
        let (settlements, settled) = mpsc::unbounded_channel();
        let stopping = CancellationToken::new();
        let shared = Arc::new(WorkerShared {
            app: app.clone(),
            store: RetryingStore::new(app.store.clone(), app.outage.clone()),
            id,
            leases: LeaseTable::default(),
            flush_requests,
            pauses: Pauses::new(stopping.clone()),
            rates: Rates::default(),
            stopping,
            given_up: CancellationToken::new(),
            settlements,
            attempts: TaskTracker::new(),
            stop_cause: Mutex::default(),
            grace,
        });
        shared.leases.renewed(shared.leases.renewing(), app.clock.uptime(), renewed);
        let (finished, parts) = (CancellationToken::new(), TaskTracker::new());
        let (orphaned, orphans) = mpsc::unbounded_channel();
        let leases_ended = Heartbeat::new(shared.clone(), orphaned).start(finished.clone())?;
        parts.spawn(end_with_runtime(finished.clone()));
        // A store that never answers holds up no stop for ever.
        let given_up = || shared.given_up.clone();
        parts.spawn(run_unless(given_up(), Rescue::new(shared.clone(), orphans).run(finished.clone())));
        let recorder = Recorder::new(shared.store.clone(), requests, settled);
        parts.spawn(recorder.run(finished.clone(), given_up()));
        let reading = shared.clone();
        parts.spawn(run_unless(finished.clone(), async move { reading.pauses.keep_reading(&reading.app).await }));
        parts.spawn(run_unless(given_up(), report(shared.clone(), finished.clone())));
        parts.spawn(run_unless(given_up(), gauges::keep_telling(shared.clone(), finished.clone())));
        parts.spawn(run_unless(given_up(), pruner::run(app.clone(), shared.stopping.clone())));
        parts.spawn(run_unless(given_up(), scheduler::run(shared.clone())));
        parts.spawn(run_unless(given_up(), unserved::run(shared.clone(), queues.clone())));
        let (idling, idle) = watch::channel(false);
        let dispatcher = Dispatcher::new(shared.clone(), queues, concurrency, idling);
        shared.attempts.spawn(async move {
            note(&Event::Slots(concurrency as f64));
            dispatcher.run().await;
            note(&Event::Slots(-(concurrency as f64)));
        });
        Ok(Self { shared, idle, finished, parts, leases_ended: Some(leases_ended), runtime })
    }

    /// The worker's id, as the history of attempts names it.
    pub fn id(&self) -> WorkerId {
        self.shared.id
    }

    /// Stops gracefully. The worker leases no more jobs. Generators stop at their next yield; other bodies have the grace to
    /// end. Jobs that have not ended are given back, without a failure.
    ///
    /// A stop that takes longer logs by `tracing` what it waits for: the bodies that run, or the store with its last error. It
    /// logs at the level `INFO` while the grace lasts, and at `WARN` from 5 s after it on, each time after twice as long.
    ///
    /// # Errors
    ///
    /// [`Error::NotGivenBack`] when the store is away for longer than the grace, so that jobs could not be given back: they go
    /// on elsewhere when their leases have run out. [`Error::NewerStore`] when the worker has stopped by itself because a newer
    /// qtasks has changed the store, and [`Error::StoreChanged`] when it has because the files of the store were removed or
    /// replaced.
    pub async fn shutdown(mut self) -> Result<()> {
        self.stop().await
    }

    /// Waits for SIGINT or SIGTERM, and then stops gracefully; at a second signal it stops at once. Returns also when the worker
    /// has stopped by itself.
    ///
    /// It listens from this call on, before the future is polled. So a program that says that it is ready, or answers
    /// requests, calls this first and awaits it afterwards: no signal finds it unprepared.
    ///
    /// # Errors
    ///
    /// Those of [`shutdown`](Self::shutdown), and when signals cannot be listened to.
    ///
    /// # Panics
    ///
    /// When the runtime that started the worker has no I/O driver.
    pub fn until_signal(mut self) -> impl Future<Output = Result<()>> + Send + use<> {
        let signals = {
            let _entered = self.runtime.enter();
            Signals::listen()
        };
        async move {
            let mut signals = signals?;
            tokio::select! {
                () = signals.next() => tracing::info!("stopping; a second signal stops at once"),
                () = self.shared.stopping.cancelled() => {}
            }
            tokio::select! {
                stopped = self.stop() => return stopped,
                () = signals.next() => {}
            }
            self.shared.given_up.cancel();
            self.stop().await
        }
    }

    async fn stop(&mut self) -> Result<()> {
        let shared = self.shared.clone();
        tokio::select! {
            biased;
            stopped = self.end() => stopped,
            () = stopping::report(&shared) => unreachable!("the report goes on as long as the stop"),
        }
    }

    async fn end(&mut self) -> Result<()> {
        let shared = &self.shared;
        shared.stopping.cancel();
        shared.attempts.close();
        // Bodies have the grace. Where the store is away, settling their jobs may take as long again.
        let mut time_to_end =
            pin!(tokio::time::sleep(shared.grace.saturating_mul(2).saturating_add(Duration::from_secs(5))));
        let in_time = tokio::select! {
            () = shared.attempts.wait() => true,
            () = time_to_end.as_mut() => false,
            () = shared.given_up.cancelled() => true,
        };
        if !in_time {
            tracing::warn!("the worker stops at once, and no longer waits for {}", stopping::waits(shared));
            shared.given_up.cancel();
        }
        self.finished.cancel();
        self.parts.close();
        tokio::select! {
            biased;
            () = self.parts.wait() => {}
            () = time_to_end, if in_time => shared.given_up.cancel(),
        }
        self.parts.wait().await;
        if let Some(ended) = self.leases_ended.take() {
            // The heartbeat may wait for a store that is away; then the leases run out by themselves.
            let _ = tokio::time::timeout(Duration::from_secs(5), ended).await;
        }
        if let Some(stop_cause) = self.shared.stop_cause().take() {
            return Err(stop_cause);
        }
        if in_time {
            return Ok(());
        }
        Err(Error::NotGivenBack)
    }
}

/// Adds to the store what the worker has done, until it has ended; then its card is deleted.
async fn report(shared: Arc<WorkerShared>, finished: CancellationToken) {
    rates::keep_writing(&shared.rates, &shared.app, finished).await;
    card::remove(&shared).await;
}

/// Does `work` until it is done or the worker stops at once.
async fn run_unless(given_up: CancellationToken, work: impl Future<Output = ()>) {
    tokio::select! {
        biased;
        () = given_up.cancelled() => {}
        () = work => {}
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.shared.stopping.cancel();
        self.shared.attempts.close();
        // Also when the runtime ends before the attempts do: then their leases must run out.
        let (attempts, finish) = (self.shared.attempts.clone(), self.finished.clone().drop_guard());
        self.runtime.spawn(async move {
            attempts.wait().await;
            drop(finish);
        });
    }
}

/// Waits until the worker is `finished`, or its runtime ends and drops this; either ends the heartbeat, which has a runtime of
/// its own.
async fn end_with_runtime(finished: CancellationToken) {
    let _finish = finished.clone().drop_guard();
    finished.cancelled().await;
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "worker {}", self.shared.id)
    }
}
