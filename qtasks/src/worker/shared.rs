//! What the parts of a running worker share.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{lease_table::Held, recorder::Settlements, retrying::RetryingStore};
use crate::{
    environment::App,
    error::{Error, Result},
    execution::journal::FlushRequest,
    model::job::WorkerId,
    store::{Settlement, Written},
};

/// What the parts of a worker share.
pub(crate) struct Floor {
    pub(crate) app: Arc<App>,
    /// That of the application, for what is tried again.
    pub(crate) store: Arc<RetryingStore>,
    pub(crate) id: WorkerId,
    pub(crate) held: Held,
    pub(crate) flush_requests: mpsc::UnboundedSender<FlushRequest>,
    /// Told when the worker is to stop gracefully,
    pub(crate) stopping: CancellationToken,
    /// and when at once.
    pub(crate) given_up: CancellationToken,
    pub(crate) settlements: Settlements,
    pub(crate) attempts: TaskTracker,
    /// Why the worker has stopped by itself, if it has.
    pub(crate) trouble: Mutex<Option<Error>>,
    pub(crate) grace: Duration,
}

/// The right to run one job.
pub(crate) type Slot = OwnedSemaphorePermit;

impl Floor {
    pub(crate) fn trouble(&self) -> MutexGuard<'_, Option<Error>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a settlement to the recorder, and waits until it is written; nothing when the worker is given up first. An error
    /// is one that no repetition mends.
    pub(crate) async fn settle(&self, settlement: Settlement) -> Option<Result<Written>> {
        let (answer, written) = oneshot::channel();
        self.settlements.send((settlement, answer)).ok()?;
        written.await.ok()
    }

    /// Waits until bodies may not go on: the grace after the worker was told to stop is over, or it is to stop at once.
    pub(crate) async fn grace_is_over(&self) {
        let grace = async {
            self.stopping.cancelled().await;
            if self.trouble().is_none() {
                tokio::time::sleep(self.grace).await;
            }
        };
        tokio::select! {
            () = grace => {}
            () = self.given_up.cancelled() => {}
        }
    }
}
