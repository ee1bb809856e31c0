//! What a store says of workers.

use jiff::Timestamp;

use crate::model::job::{Lease, WorkerId};

/// What a worker learns when it renews its leases.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Renewed {
    /// The leases that the worker holds, in no order.
    pub leases: Vec<Lease>,
    /// The time by the clock of the server, where there is one.
    pub now: Option<Timestamp>,
}

/// What a store shows of a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presence {
    /// The worker that is described.
    pub worker: WorkerId,
    /// The number of the worker's last renewal. `None` when the worker never renewed, has left, or the number was lost: that alone
    /// proves nothing. While the number does not change, the worker is silent.
    pub beat: Option<u64>,
    /// Whether the worker holds leases.
    pub holds: bool,
    /// Whether the worker has left, or the store knows that its process has ended, such as by a lock that the operating
    /// system has freed. False where the store cannot know.
    pub gone: bool,
}
