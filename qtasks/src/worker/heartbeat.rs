//! Renews a worker's leases each second, so that no other worker takes its jobs.

use std::{any::Any, panic::AssertUnwindSafe, sync::Arc, thread, time::Duration};

use futures::FutureExt as _;
use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::shared::WorkerShared;
use crate::{
    environment::outage::FailingCaller,
    error::{Error, Result},
    execution::stopped::Stopped,
    model::job::Lease,
    telemetry,
};

/// How long a lease lasts without being renewed.
pub(crate) const LEASE: Duration = Duration::from_secs(3);
/// How often leases are renewed.
const EVERY: Duration = Duration::from_secs(1);
const RENEWING: &str = "renew leases";

/// The number of a worker's first renewal, which makes it known.
pub(crate) const FIRST_BEAT: u64 = 1;

/// Renews the leases of a worker, and raises the number by which other workers see that it lives.
pub(crate) struct Heartbeat {
    shared: Arc<WorkerShared>,
    beat: u64,
    /// Whether the clock of this machine is far from that of the server.
    clock_is_far: bool,
    /// Takes leases that only the store knows to the rescue, which gives them back.
    orphans: mpsc::UnboundedSender<Lease>,
}

impl Heartbeat {
    pub(crate) fn new(shared: Arc<WorkerShared>, orphans: mpsc::UnboundedSender<Lease>) -> Self {
        Self { shared, beat: FIRST_BEAT, clock_is_far: false, orphans }
    }

    /// Starts the thread that renews the leases until `finished`, and then has the store forget the worker.
    ///
    /// The thread has a runtime of its own, on which nothing else runs: neither busy processors nor a busy runtime of the
    /// program can starve it. On tokio's clock the heartbeat is a task of the worker's runtime, since each runtime has a
    /// clock of its own.
    pub(crate) fn start(self, finished: CancellationToken) -> Result<oneshot::Receiver<()>> {
        let (ended, end) = oneshot::channel();
        let is_tokios = self.shared.app.clock.is_tokios();
        let beating = async move {
            let shared = self.shared.clone();
            self.run(finished).await;
            // Bodies that could not be stopped may go on, as when their runtime has ended.
            shared.leases.doubt();
            if let Err(error) = shared.app.store.leave(shared.id).await {
                let error = crate::error::chain(&error);
                tracing::warn!(error, "the store was not told that the worker left; its leases will run out");
            }
            // Before the stop of the worker goes on: when that is over, the store may be opened again.
            drop(shared);
            let _ = ended.send(());
        };
        if is_tokios {
            tokio::spawn(beating);
            return Ok(end);
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|source| Error::store("keep leases: no runtime for their thread", source))?;
        thread::Builder::new()
            .name("qtasks-leases".into())
            .spawn(move || runtime.block_on(beating))
            .map_err(|source| Error::store("keep leases: no thread for them", source))?;
        Ok(end)
    }

    async fn run(mut self, finished: CancellationToken) {
        let (shared, again) = (self.shared.clone(), Notify::new());
        tokio::select! {
            biased;
            () = finished.cancelled() => {}
            () = heed_doubts(&shared, &again) => {}
            () = self.beat_on(&again) => {}
        }
    }

    /// Renews once a second, until the worker may not go on.
    async fn beat_on(&mut self, again: &Notify) {
        let mut failing: Option<FailingCaller> = None;
        loop {
            // From the question on, however long the answer takes: a lease has room for two renewals that fail.
            let (next, soonest) = (Instant::now() + EVERY, Duration::from_millis(100));
            // A later answer is of no use. The store may carry out what was asked all the same.
            let renewed = timeout(LEASE, AssertUnwindSafe(self.renew()).catch_unwind()).await.map_or_else(
                |_| Err(Error::store(RENEWING, "it has not answered in time")),
                |caught| caught.unwrap_or_else(panicked),
            );
            match renewed {
                Ok(()) => {
                    if let Some(failing) = failing.take() {
                        failing.answered();
                    }
                }
                Err(error @ (Error::NewerStore { .. } | Error::StoreChanged { .. })) => {
                    self.stop_worker(error);
                    return std::future::pending().await;
                }
                Err(error) => self.shared.app.outage.failed(&mut failing, RENEWING, &error),
            }
            tokio::select! {
                biased;
                () = again.notified() => {}
                () = sleep_until(next.max(Instant::now() + soonest)) => {}
            }
        }
    }

    async fn renew(&mut self) -> Result<()> {
        let WorkerShared { app, leases, id, .. } = &*self.shared;
        self.beat += 1;
        let round = leases.renewing();
        // Before the store raises the beat, from which other workers count: so this worker's lease never ends later by its
        // own clock than by theirs.
        let asked = app.clock.uptime();
        let renewed = app.store.renew(*id, self.beat).await?;
        let now = app.clock.uptime();
        let orphans = leases.compare(round, &renewed.leases);
        leases.renewed(round, now, asked + LEASE);
        if let Some(time) = renewed.now {
            app.clock.learn(time, asked, now);
            if let Some(ahead) = app.clock.ahead_of_server() {
                self.clock_is_far = telemetry::clock_is(ahead, self.clock_is_far);
            }
        }
        for orphan in orphans {
            // Where the rescue is gone, the worker is about to end, and the leases with it.
            let _ = self.orphans.send(orphan);
        }
        Ok(())
    }

    /// Stops the worker: what it would write no longer fits what the store has now.
    fn stop_worker(&self, error: Error) {
        tracing::error!(error = crate::error::chain(&error), "the worker stops, and gives its jobs back");
        *self.shared.stop_cause() = Some(error);
        self.shared.stopping.cancel();
    }
}

/// The error of a panic in the store's own code. It is an error like any other, since the next renewal may succeed.
fn panicked(payload: Box<dyn Any + Send>) -> Result<()> {
    Err(Error::store(RENEWING, Stopped::panic(payload)))
}

/// Has the leases renewed as soon as the store raises a doubt about them, whatever the heartbeat waits for.
async fn heed_doubts(shared: &WorkerShared, again: &Notify) {
    let mut doubts = shared.app.store.notifier().doubt();
    loop {
        // Only the notification: a doubt leaves no trace in the store to look for.
        doubts.notification().await;
        shared.leases.doubt();
        again.notify_one();
    }
}
