//! Renews a worker's leases each second, so that no other worker takes its jobs.

use std::{any::Any, panic::AssertUnwindSafe, sync::Arc, thread, time::Duration};

use futures::FutureExt as _;
use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::shared::Floor;
use crate::{
    environment::outage::Trouble,
    error::{Error, Result},
    execution::stopped::Stopped,
    model::job::Lease,
};

/// How long a lease lasts without being renewed.
pub(crate) const LEASE: Duration = Duration::from_secs(3);
const EVERY: Duration = Duration::from_secs(1);
const RENEWING: &str = "renew leases";

/// The number of a worker's first renewal, which makes it known.
pub(crate) const FIRST_BEAT: u64 = 1;

/// Renews the leases of a worker.
pub(crate) struct Heartbeat {
    floor: Arc<Floor>,
    beat: u64,
    /// Where leases go that only the store knows, to be given back.
    orphans: mpsc::UnboundedSender<Lease>,
}

impl Heartbeat {
    pub(crate) fn new(floor: Arc<Floor>, orphans: mpsc::UnboundedSender<Lease>) -> Self {
        Self { floor, beat: FIRST_BEAT, orphans }
    }

    /// Starts the thread that renews the leases until `finished`, and then has the store forget the worker.
    ///
    /// It is a thread with a runtime of its own, on which nothing else is done: whatever keeps the processors or the
    /// program's own runtime busy cannot starve it. On tokio's clock it is a task of the worker's runtime, for that clock
    /// stands elsewhere on another one.
    pub(crate) fn start(self, finished: CancellationToken) -> Result<oneshot::Receiver<()>> {
        let (ended, end) = oneshot::channel();
        let is_tokios = self.floor.app.clock.is_tokios();
        let beating = async move {
            let floor = self.floor.clone();
            self.run(finished).await;
            // Bodies that cannot be stopped may go on, as when their runtime has ended.
            floor.held.doubt();
            if let Err(error) = floor.app.store.leave(floor.id).await {
                let error = crate::error::chain(&error);
                tracing::warn!(error, "the store was not told that the worker left; its leases will run out");
            }
            // Before the worker is told: when that has stopped, its store may be opened again.
            drop(floor);
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
        let (floor, again) = (self.floor.clone(), Notify::new());
        tokio::select! {
            biased;
            () = finished.cancelled() => {}
            () = heed_doubts(&floor, &again) => {}
            () = self.beat_on(&again) => {}
        }
    }

    /// Renews again and again, until the worker may not go on.
    async fn beat_on(&mut self, again: &Notify) {
        let mut trouble: Option<Trouble> = None;
        loop {
            // However long the answer takes: a lease has room for two renewals that fail.
            let (next, soonest) = (Instant::now() + EVERY, Duration::from_millis(100));
            // An answer that comes later is of no use. What has been asked may be carried out all the same.
            let renewed = timeout(LEASE, AssertUnwindSafe(self.renew()).catch_unwind()).await.map_or_else(
                |_| Err(Error::store(RENEWING, "it has not answered in time")),
                |caught| caught.unwrap_or_else(panicked),
            );
            match renewed {
                Ok(()) => {
                    if let Some(trouble) = trouble.take() {
                        trouble.over();
                    }
                }
                Err(error @ (Error::NewerStore { .. } | Error::StoreChanged { .. })) => {
                    self.stop_worker(error);
                    return std::future::pending().await;
                }
                Err(error) => self.floor.app.outage.failed(&mut trouble, RENEWING, &error),
            }
            tokio::select! {
                biased;
                () = again.notified() => {}
                () = sleep_until(next.max(Instant::now() + soonest)) => {}
            }
        }
    }

    async fn renew(&mut self) -> Result<()> {
        let Floor { app, held, id, .. } = &*self.floor;
        self.beat += 1;
        let round = held.renewing();
        // Before the time that others count from: then our own is never the later one.
        let asked = app.clock.uptime();
        let renewed = app.store.renew(*id, self.beat).await?;
        let now = app.clock.uptime();
        let orphans = held.compare(round, &renewed.leases);
        held.renewed(round, now, asked + LEASE);
        if let Some(time) = renewed.now {
            app.clock.learn(time, asked, now);
        }
        for orphan in orphans {
            // Without the rescue the worker is about to end, and the leases with it.
            let _ = self.orphans.send(orphan);
        }
        Ok(())
    }

    /// Has the worker stop by itself: what it would still write is not what the store has now.
    fn stop_worker(&self, error: Error) {
        tracing::error!(error = crate::error::chain(&error), "the worker stops, and gives its jobs back");
        *self.floor.trouble() = Some(error);
        self.floor.stopping.cancel();
    }
}

/// The store's own code has panicked: that is an error like any other, for the next renewal may do better.
fn panicked(payload: Box<dyn Any + Send>) -> Result<()> {
    Err(Error::store(RENEWING, Stopped::panic(payload)))
}

/// Hears of each doubt about the leases at once, whatever the heartbeat waits for, and has them renewed.
async fn heed_doubts(floor: &Floor, again: &Notify) {
    let mut doubts = floor.app.store.notifier().doubt();
    loop {
        // A doubt is nothing that could be looked for.
        doubts.notification().await;
        floor.held.doubt();
        again.notify_one();
    }
}
