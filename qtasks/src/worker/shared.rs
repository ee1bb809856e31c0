//! What the parts of a running worker share.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{lease_table::LeaseTable, pauses::Pauses, rates::Rates, recorder::Settlements, retrying::RetryingStore};
use crate::{
    environment::App,
    error::Error,
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
    pub(crate) pauses: Pauses,
    pub(crate) rates: Rates,
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

    /// Hands a settlement to the recorder, and waits until it is written.
    pub(crate) async fn settle(&self, settlement: Settlement) -> Settled {
        let (answer, written) = oneshot::channel();
        if self.settlements.send((settlement, answer)).is_err() {
            return Settled::GivenUp;
        }
        match written.await {
            Ok(Ok(Written::Yes)) => Settled::Written,
            Ok(Ok(Written::Fenced)) => Settled::LeaseLost,
            Ok(Err(error)) => Settled::Failed(error),
            Err(_) => Settled::GivenUp,
        }
    }

    /// Waits until bodies may not go on: the grace of a worker that stops is over, or it stops at once. A worker that has
    /// stopped by itself gives its bodies no grace.
    pub(crate) async fn grace_is_over(&self) {
        self.grace_is_over_since(&self.stopping).await;
    }

    /// Waits until the body of an attempt may not go on, which is to stop once `stop` is cancelled.
    pub(crate) async fn grace_is_over_since(&self, stop: &CancellationToken) {
        let grace = async {
            stop.cancelled().await;
            if self.stop_cause().is_none() {
                Box::pin(tokio::time::sleep(self.grace)).await;
            }
        };
        tokio::select! {
            () = grace => {}
            () = self.given_up.cancelled() => {}
        }
    }
}

/// What came of a settlement.
#[derive(Debug)]
pub(crate) enum Settled {
    Written,
    /// The lease was lost before, so that nothing is written.
    LeaseLost,
    /// The store has answered with an error that no repetition mends.
    Failed(Error),
    /// The worker stops at once, and no longer waits for the store.
    GivenUp,
}

impl Settled {
    /// The error of a store that will never take this settlement.
    pub(crate) fn refusal(&self) -> Option<&Error> {
        match self {
            Self::Failed(error) if error.is_refusal() => Some(error),
            _ => None,
        }
    }
}
