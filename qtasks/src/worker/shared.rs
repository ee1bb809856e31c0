//! What the parts of a running worker share.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{lease_table::LeaseTable, recorder::Settlements, retrying::RetryingStore};
use crate::{
    environment::App,
    error::{Error, Result},
    execution::journal::FlushRequest,
    model::job::WorkerId,
    store::{Settlement, Written},
};

/// What the dispatcher, the attempts, the recorder, the heartbeat and the rescue of one worker share.
pub(crate) struct WorkerShared {
    pub(crate) app: Arc<App>,
    /// The store of the application, for calls that are made again until it carries them out.
    pub(crate) store: Arc<RetryingStore>,
    pub(crate) id: WorkerId,
    pub(crate) leases: LeaseTable,
    pub(crate) flush_requests: mpsc::UnboundedSender<FlushRequest>,
    /// Cancelled when the worker is to stop gracefully.
    pub(crate) stopping: CancellationToken,
    /// Cancelled when the worker is to stop at once.
    pub(crate) given_up: CancellationToken,
    pub(crate) settlements: Settlements,
    pub(crate) attempts: TaskTracker,
    /// Why the worker has stopped by itself, if it has.
    pub(crate) stop_cause: Mutex<Option<Error>>,
    pub(crate) grace: Duration,
}

/// The right to run one job: one of as many as the worker runs at once.
pub(crate) type JobPermit = OwnedSemaphorePermit;

impl WorkerShared {
    pub(crate) fn stop_cause(&self) -> MutexGuard<'_, Option<Error>> {
        self.stop_cause.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a settlement to the recorder, and waits until it is written; nothing when the worker stops at once before that.
    /// An error is one that no repetition mends.
    pub(crate) async fn settle(&self, settlement: Settlement) -> Option<Result<Written>> {
        let (answer, written) = oneshot::channel();
        self.settlements.send((settlement, answer)).ok()?;
        written.await.ok()
    }

    /// Waits until bodies may not go on: the grace of a worker that stops is over, or it stops at once. A worker that has
    /// stopped by itself gives its bodies no grace.
    pub(crate) async fn grace_is_over(&self) {
        let grace = async {
            self.stopping.cancelled().await;
            if self.stop_cause().is_none() {
                tokio::time::sleep(self.grace).await;
            }
        };
        tokio::select! {
            () = grace => {}
            () = self.given_up.cancelled() => {}
        }
    }
}
