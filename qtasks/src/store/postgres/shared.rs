//! The parts of a store that all its calls share.

use std::sync::{Arc, Mutex, OnceLock};

use uuid::Uuid;

use super::{
    encoding,
    error::Fault,
    folding::Folding,
    leases::Leases,
    notify::Broadcast,
    pool::Database,
    presence,
    session::Sessions,
    waiters::SharedWaiters,
    watermark::{self, Watermark},
};
use crate::{
    model::job::{NewJob, WorkerId},
    store::{Changes, Joined, Renewed},
};

/// The parts of a store that all its calls share.
pub(super) struct Shared {
    pub(super) database: Arc<Database>,
    /// The name of the database on its server, and the id of the store there. Both are read when the store is opened.
    pub(super) identity: OnceLock<(String, Uuid)>,
    pub(super) broadcast: Arc<Broadcast>,
    pub(super) sessions: Arc<Sessions>,
    pub(super) watermark: Watermark,
    pub(super) leases: Leases,
    pub(super) folding: Folding,
    /// The transaction and the id of the job behind which the pruner goes on.
    pub(super) pruned_upto: Mutex<(u64, Uuid)>,
    pub(super) waiters: SharedWaiters,
}

impl Shared {
    /// Notifies that these jobs have been enqueued.
    pub(super) fn of_new<'j>(&self, jobs: impl Iterator<Item = &'j NewJob>) {
        let mut jobs = jobs.peekable();
        if jobs.peek().is_none() {
            return;
        }
        let first = jobs.filter(|job| watermark::is_fresh(job)).map(|job| encoding::job_id(job.call.id)).min();
        first.into_iter().for_each(|first| self.watermark.came(first));
        self.broadcast.of_work(first);
    }

    /// Jobs were added, and others joined or replaced.
    pub(super) fn of_claimed(&self, new: &[&NewJob], joined: &[Joined]) {
        self.of_new(new.iter().copied());
        joined.iter().for_each(|joined| self.broadcast.of(&Changes::placed(joined.holder)));
    }

    pub(super) async fn renew(&self, worker: WorkerId, beat: u64) -> Result<Renewed, Fault> {
        if self.database.place.pooled {
            return Err(Fault::Unsupported(NO_SESSION));
        }
        self.sessions.renew(&self.database.place, worker, beat).await
    }

    pub(super) async fn leave(&self, worker: WorkerId) -> Result<(), Fault> {
        self.waiters.fell_behind(worker);
        self.leases.forget(worker);
        if presence::leave(&self.database, worker).await? {
            self.broadcast.of_loss();
        }
        Ok(())
    }
}

const NO_SESSION: &str = "a worker needs connections of its own to Postgres, and these go through a pooler \
                          (`pooler=transaction`); give workers a URL that leads past it";
