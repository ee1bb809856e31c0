//! What all calls of a store share.

use std::sync::{Arc, OnceLock};

use uuid::Uuid;

use super::{
    error::Fault,
    notify::Broadcast,
    pool::Database,
    presence,
    session::Sessions,
    waiters::Waiters,
    watermark::{self, Watermark},
};
use crate::{
    model::job::{NewJob, WorkerId},
    store::Renewed,
};

/// What all parts of a store share.
pub(super) struct Shared {
    pub(super) database: Arc<Database>,
    /// The name of the database on its server, and the id of the store there; read when it is opened.
    pub(super) identity: OnceLock<(String, Uuid)>,
    pub(super) broadcast: Arc<Broadcast>,
    pub(super) sessions: Arc<Sessions>,
    pub(super) watermark: Watermark,
    pub(super) waiters: Waiters,
}

impl Shared {
    /// These jobs have come to wait.
    pub(super) fn of_new<'j>(&self, jobs: impl Iterator<Item = &'j NewJob>) {
        if let Some(first) = jobs.map(watermark::urgency).min() {
            self.watermark.came(first);
            self.broadcast.of_work(Some(first));
        }
    }

    pub(super) async fn renew(&self, worker: WorkerId, beat: u64) -> Result<Renewed, Fault> {
        if self.database.place.pooled {
            return Err(Fault::Misuse(NO_SESSION));
        }
        self.sessions.renew(&self.database.place, worker, beat).await
    }

    pub(super) async fn leave(&self, worker: WorkerId) -> Result<(), Fault> {
        self.sessions.hide(worker);
        self.waiters.fell_behind(worker);
        if presence::leave(&self.database, worker).await? {
            self.broadcast.of_loss();
        }
        Ok(())
    }
}

const NO_SESSION: &str = "a worker needs connections of its own to Postgres, and these go through a pooler \
                          (`pooler=transaction`); give workers a URL that leads past it";
