//! What the calls of a store come to.

pub(super) mod enqueue;
pub(super) mod lease;
pub(super) mod prune;
pub(super) mod read;
pub(super) mod record;
pub(super) mod settle;
pub(super) mod transact;

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use futures::future::BoxFuture;
use uuid::Uuid;

use self::lease::Handed;
use super::{
    batcher::Call,
    error::Fault,
    notify::News,
    pool::Database,
    presence,
    session::Sessions,
    waiters::{Coming, Deal},
    watermark::{self, Front},
};
use crate::{
    model::job::{JobId, NewJob, State, WorkerId},
    store::{Ask, Leased, Record, Renewed, Settlement, Written},
};

/// What all parts of a store share.
pub(super) struct Inner {
    pub(super) database: Arc<Database>,
    /// The name of the database on its server, and the id of the store there; read when it is opened.
    pub(super) identity: OnceLock<(String, Uuid)>,
    pub(super) news: Arc<News>,
    pub(super) sessions: Arc<Sessions>,
    pub(super) front: Front,
    pub(super) coming: Coming,
}

pub(super) struct Enqueue(pub(super) Vec<NewJob>);

impl Call for Enqueue {
    type Answer = ();
    const DOING: &'static str = "enqueue jobs";

    fn weight(&self) -> usize {
        self.0.len()
    }

    fn carry_out<'a>(calls: &'a [Self], inner: &'a Inner) -> BoxFuture<'a, Result<Vec<()>, Fault>> {
        Box::pin(async move {
            let jobs = enqueue::in_order(calls.iter().flat_map(|call| &call.0));
            let deal = inner.coming.deal(&jobs).await;
            let workers = deal.as_ref().map(Deal::workers).unwrap_or_default();
            let came = enqueue::enqueue(&inner.database, &jobs, &workers).await;
            // Where no answer came, it may be done all the same.
            inner.of_new(jobs.into_iter().filter(|job| !workers.contains_key(&job.id)));
            let leased = came?;
            inner.news.bell.ring_jobs(leased.iter().copied());
            if let Some(deal) = deal {
                deal.answer(&leased);
            }
            Ok(calls.iter().map(drop).collect())
        })
    }
}

pub(super) struct Records(pub(super) Vec<Record>);

impl Call for Records {
    type Answer = Vec<Written>;
    const DOING: &'static str = "record steps";

    fn weight(&self) -> usize {
        self.0.iter().map(|record| 1 + record.steps.len() + record.memos.len() + record.jobs.len()).sum()
    }

    fn carry_out<'a>(calls: &'a [Self], inner: &'a Inner) -> BoxFuture<'a, Result<Vec<Self::Answer>, Fault>> {
        Box::pin(async move {
            let records: Vec<_> = calls.iter().flat_map(|call| &call.0).collect();
            let came = record::record(&inner.database, &records).await;
            inner.news.of_jobs(records.iter().map(|record| record.lease.job));
            inner.of_new(records.iter().flat_map(|record| &record.jobs));
            Ok(dealt_out(came?, calls.iter().map(|call| call.0.len())))
        })
    }
}

pub(super) struct Settle(pub(super) Vec<Settlement>);

impl Call for Settle {
    type Answer = Vec<Written>;
    const DOING: &'static str = "settle jobs";

    fn weight(&self) -> usize {
        self.0.len()
    }

    fn carry_out<'a>(calls: &'a [Self], inner: &'a Inner) -> BoxFuture<'a, Result<Vec<Self::Answer>, Fault>> {
        Box::pin(async move {
            let settlements: Vec<_> = calls.iter().flat_map(|call| &call.0).collect();
            let came = settle::settle(&inner.database, &settlements).await;
            inner.news.of_jobs(settlements.iter().map(|settlement| settlement.job));
            let ended: Vec<JobId> =
                settlements.iter().filter(|one| one.next.is_ended()).map(|settlement| settlement.job).collect();
            inner.news.of_ends(ended);
            if settlements.iter().any(|settlement| matches!(settlement.next, State::Waiting { .. })) {
                inner.front.forget();
                inner.news.of_work(None);
            }
            Ok(dealt_out(came?, calls.iter().map(|call| call.0.len())))
        })
    }
}

/// To each call as many answers as are its own.
fn dealt_out(written: Vec<Written>, counts: impl Iterator<Item = usize>) -> Vec<Vec<Written>> {
    let mut written = written.into_iter();
    counts.map(|count| written.by_ref().take(count).collect()).collect()
}

impl Inner {
    /// These jobs have come to wait.
    fn of_new<'j>(&self, jobs: impl Iterator<Item = &'j NewJob>) {
        if let Some(first) = jobs.map(watermark::urgency).min() {
            self.front.came(first);
            self.news.of_work(Some(first));
        }
    }

    pub(super) async fn lease(self: Arc<Self>, ask: Ask) -> Result<Leased, Fault> {
        let since = self.news.bell.work();
        let search = self.front.search(&ask);
        let handed = lease::lease(&self.database, &ask, search.from).await;
        match &handed {
            Ok(Handed { leased, missed: false, left: false }) => self.front.took(&search, &ask, &leased.jobs),
            Ok(_) | Err(_) => self.front.left(&search),
        }
        let handed = handed?;
        if handed.leased.jobs.len() < ask.limit && !handed.missed {
            self.coming.caught_up(ask.worker, since);
        } else {
            self.coming.fell_behind(ask.worker);
        }
        self.news.bell.ring_jobs(handed.leased.jobs.iter().map(|job| job.id));
        if handed.missed {
            // What others looked at when we did, they may have left.
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(10)).await;
                self.news.bell.ring_work();
            });
        }
        Ok(handed.leased)
    }

    pub(super) async fn renew(&self, worker: WorkerId, beat: u64) -> Result<Renewed, Fault> {
        if self.database.place.pooled {
            return Err(Fault::Misuse(NO_SESSION));
        }
        self.sessions.renew(&self.database.place, worker, beat).await
    }

    pub(super) async fn leave(&self, worker: WorkerId) -> Result<(), Fault> {
        self.sessions.hide(worker);
        self.coming.fell_behind(worker);
        if presence::leave(&self.database, worker).await? {
            self.news.of_loss();
        }
        Ok(())
    }
}

const NO_SESSION: &str = "a worker needs connections of its own to Postgres, and these go through a pooler \
                          (`pooler=transaction`); give workers a URL that leads past it";
