//! Keeps a worker's leases alive, and takes over those of workers that are gone.

use std::{sync::Arc, thread, time::Duration};

use jiff::Timestamp;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    clock::Clock,
    error::{Error, Result},
    floor::Floor,
    job::{Attempt, Ending, Job, Lease, State, WorkerId},
    lifecycle::{self, Verdict, later},
    retry::Retry,
    store::{Hold, Settlement, Written},
};

/// How long a lease lasts without being renewed.
pub(crate) const LEASE: Duration = Duration::from_secs(3);
const EVERY: Duration = Duration::from_secs(1);
const LOST_AT_ONCE: usize = 256;

/// Starts the thread that renews the leases until `finished`, and then has the store forget the worker.
///
/// It is a thread with a runtime of its own: tasks that keep the processors busy cannot starve it. On tokio's clock it is
/// a task of the worker's runtime, for that clock stands elsewhere on another one.
pub(crate) fn keep(floor: Arc<Floor>, finished: CancellationToken) -> Result<tokio::sync::oneshot::Receiver<()>> {
    let (ended, end) = tokio::sync::oneshot::channel();
    let is_tokios = matches!(floor.app.clock, Clock::Tokio { .. });
    let keeping = async move {
        Keeper { floor: floor.clone(), away_since: None }.run(finished).await;
        if let Err(error) = floor.app.store.leave(floor.id).await {
            tracing::warn!(%error, "the store was not told that the worker left; its leases will run out");
        }
        let _ = ended.send(());
    };
    if is_tokios {
        tokio::spawn(keeping);
        return Ok(end);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .map_err(|source| Error::store("keep leases: no runtime for their thread", source))?;
    thread::Builder::new()
        .name("qtasks-leases".into())
        .spawn(move || runtime.block_on(keeping))
        .map_err(|source| Error::store("keep leases: no thread for them", source))?;
    Ok(end)
}

struct Keeper {
    floor: Arc<Floor>,
    /// Since when the store has not answered, or how long it is back already.
    away_since: Option<Timestamp>,
}

impl Keeper {
    async fn run(&mut self, finished: CancellationToken) {
        loop {
            match self.renew().await {
                Ok(()) => self.take_over().await,
                Err(error) => {
                    self.away_since = Some(self.floor.app.clock.now());
                    tracing::warn!(error = crate::error::chain(&error), "leases were not renewed");
                }
            }
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = finished.cancelled() => return,
            }
        }
    }

    async fn renew(&self) -> Result<()> {
        let Floor { app, held, id, .. } = &*self.floor;
        let round = held.renewing();
        // Before the time that the store counts from: then our own is never the later one.
        let asked = Instant::now();
        let now = app.clock.now();
        let stored = app.store.renew(*id, later(now, LEASE)).await?;
        let orphans = held.compare(round, &stored);
        held.renewed(asked + LEASE);
        for orphan in orphans {
            if let Some(job) = app.store.job(orphan.job).await? {
                let _: Vec<Written> = app.store.settle(vec![given_back(&job, orphan, now)]).await?;
            }
        }
        Ok(())
    }

    async fn take_over(&mut self) {
        let now = self.floor.app.clock.now();
        // While the store was away nobody could renew: those who live get the time of one lease to do so.
        if self.away_since.is_some_and(|since| later(since, LEASE) > now) {
            return;
        }
        self.away_since = None;
        if let Err(error) = take_over(&self.floor, now).await {
            tracing::warn!(error = crate::error::chain(&error), "lost jobs were not looked for");
        }
    }
}

/// Makes jobs due again whose worker is gone.
async fn take_over(floor: &Floor, now: Timestamp) -> Result<()> {
    let lost = floor.app.store.expired(now, LOST_AT_ONCE).await?;
    let settlements = lost.iter().filter_map(|job| {
        let State::Running { worker } = job.state else { return None };
        let outcome = lifecycle::lost(job, now);
        tracing::warn!(job = %job.id, task = job.task, attempt = job.attempt, %worker, "a job was lost with its worker");
        Some(Settlement {
            job: job.id,
            hold: Hold::Expired { attempt: job.attempt, now },
            next: outcome.next,
            failures: outcome.failures,
            attempt: Some(history(job.attempt, worker, now, outcome.ending)),
            now,
        })
    });
    let settlements: Vec<_> = settlements.collect();
    if !settlements.is_empty() {
        let _: Vec<Written> = floor.app.store.settle(settlements).await?;
    }
    Ok(())
}

/// Gives back a job that was leased and not started.
pub(crate) fn given_back(job: &Job, lease: Lease, now: Timestamp) -> Settlement {
    let outcome = lifecycle::settle(job, Verdict::Released, false, &Retry::DEFAULT, 0.0, now);
    Settlement {
        job: lease.job,
        hold: Hold::Lease(lease),
        next: outcome.next,
        failures: outcome.failures,
        attempt: None,
        now,
    }
}

fn history(number: u32, worker: WorkerId, now: Timestamp, ending: Ending) -> Attempt {
    Attempt { number, worker, started: None, ended: now, ending }
}
