//! Keeps a worker's leases alive, and takes over those of workers that are gone.

use std::{pin::pin, sync::Arc, thread, time::Duration};

use jiff::Timestamp;
use tokio::sync::Notify;
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
        let (keeper, again) = (Keeper { floor: floor.clone(), patience: Patience::default() }, Notify::new());
        tokio::select! {
            () = keeper.run(finished, &again) => {}
            () = heed_doubts(&floor, &again) => {}
        }
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
    patience: Patience,
}

impl Keeper {
    async fn run(mut self, finished: CancellationToken, again: &Notify) {
        let mut lost = self.floor.app.store.bell().lost();
        loop {
            match renew(&self.floor).await {
                // They were doubted meanwhile, and are renewed again.
                Ok(None) => {}
                Ok(Some(now)) => {
                    self.patience.renewed(now);
                    self.take_over().await;
                }
                Err(error) => {
                    self.patience.missed(self.floor.app.clock.now());
                    tracing::warn!(error = crate::error::chain(&error), "leases were not renewed");
                }
            }
            let mut pause = pin!(tokio::time::sleep(EVERY));
            loop {
                tokio::select! {
                    () = &mut pause => break,
                    () = again.notified() => break,
                    () = lost.heard() => self.take_over().await,
                    () = finished.cancelled() => return,
                }
            }
        }
    }

    async fn take_over(&mut self) {
        let now = self.floor.app.clock.now();
        if !self.patience.is_over(now) {
            return;
        }
        if let Err(error) = take_over(&self.floor, now).await {
            tracing::warn!(error = crate::error::chain(&error), "lost jobs were not looked for");
        }
    }
}

/// Hears of each doubt about the leases at once, whatever the keeper waits for, and has them renewed.
async fn heed_doubts(floor: &Floor, again: &Notify) {
    let mut doubts = floor.app.store.bell().doubt();
    loop {
        doubts.heard().await;
        floor.held.doubt();
        again.notify_one();
    }
}

/// Gives the time that the leases are renewed from; nothing when they were doubted meanwhile.
async fn renew(Floor { app, held, id, .. }: &Floor) -> Result<Option<Timestamp>> {
    let round = held.renewing();
    // Before the time that the store counts from: then our own is never the later one.
    let asked = app.clock.instant();
    let now = app.clock.now();
    let stored = app.store.renew(*id, later(now, LEASE)).await?;
    let orphans = held.compare(round, &stored);
    let certain = held.renewed(round, app.clock.instant(), asked + LEASE);
    for orphan in orphans {
        if let Some(job) = app.store.job(orphan.job).await? {
            let _: Vec<Written> = app.store.settle(vec![given_back(&job, orphan, now)]).await?;
        }
    }
    Ok(certain.then_some(now))
}

/// Whether all who live have had the time to say so. After a while in which nobody could, they get that of one lease:
/// the store was away, or the machine was asleep, or its clock was set forward.
#[derive(Debug, Default)]
struct Patience {
    /// When the leases of this worker were last renewed, by the time of day.
    renewed: Option<Timestamp>,
    until: Option<Timestamp>,
}

impl Patience {
    /// The leases were renewed, from `now` on.
    fn renewed(&mut self, now: Timestamp) {
        if self.has_slept(now) {
            self.missed(now);
        }
        self.renewed = Some(now);
    }

    /// They were not.
    fn missed(&mut self, now: Timestamp) {
        self.until = Some(later(now, LEASE));
    }

    fn is_over(&mut self, now: Timestamp) -> bool {
        // Not longer than that, should the clock be set back.
        self.until = self.until.filter(|until| *until > now).map(|until| until.min(later(now, LEASE)));
        self.until.is_none() && !self.has_slept(now)
    }

    /// Whether our own leases have run out since: then so may those of others who are well.
    fn has_slept(&self, now: Timestamp) -> bool {
        self.renewed.is_some_and(|renewed| later(renewed, LEASE) < now)
    }
}

/// Settles the jobs whose worker is gone.
async fn take_over(floor: &Floor, now: Timestamp) -> Result<()> {
    loop {
        let lost = floor.app.store.expired(now, LOST_AT_ONCE).await?;
        let settlements: Vec<_> = lost.iter().filter_map(|job| of_lost(floor, job, now)).collect();
        if settlements.is_empty() {
            return Ok(());
        }
        let written = floor.app.store.settle(settlements).await?;
        if lost.len() < LOST_AT_ONCE || !written.contains(&Written::Yes) {
            return Ok(());
        }
    }
}

fn of_lost(floor: &Floor, job: &Job, now: Timestamp) -> Option<Settlement> {
    let State::Running { worker } = job.state else { return None };
    let retry = floor.app.registry.get(&job.task).map_or(Retry::DEFAULT, |task| task.schema().retry);
    let outcome = lifecycle::lost(job, &retry, now);
    tracing::warn!(
        job = %job.id, task = job.task, attempt = job.attempt, %worker, failures = outcome.failures,
        "a job was lost with its worker and is {} now", outcome.next.name()
    );
    Some(Settlement {
        job: job.id,
        hold: Hold::Expired { attempt: job.attempt, now },
        steps: None,
        next: outcome.next,
        failures: outcome.failures,
        suspect: outcome.suspect,
        attempt: Some(history(job.attempt, worker, now, outcome.ending)),
        now,
    })
}

/// Gives back a job that was leased and not started.
pub(crate) fn given_back(job: &Job, lease: Lease, now: Timestamp) -> Settlement {
    let outcome = lifecycle::settle(job, Verdict::Released, false, &Retry::DEFAULT, 0.0, now);
    Settlement {
        job: lease.job,
        hold: Hold::Lease(lease),
        steps: None,
        next: outcome.next,
        failures: outcome.failures,
        suspect: outcome.suspect,
        attempt: None,
        now,
    }
}

fn history(number: u32, worker: WorkerId, now: Timestamp, ending: Ending) -> Attempt {
    Attempt { number, worker, started: None, ended: now, ending }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        later(Timestamp::UNIX_EPOCH, Duration::from_secs(seconds))
    }

    #[test]
    fn whoever_renews_in_time_takes_over_at_once() {
        let mut patience = Patience::default();
        for second in 0..10 {
            patience.renewed(at(second));
            assert!(patience.is_over(at(second)) && patience.is_over(at(second + 1)));
        }
    }

    #[test]
    fn after_the_store_was_away_one_lease_is_waited() {
        let mut patience = Patience::default();
        patience.renewed(at(0));
        patience.missed(at(2));
        assert!(!patience.is_over(at(2)));
        patience.renewed(at(3));
        assert!(!patience.is_over(at(3)) && !patience.is_over(at(4)));
        patience.renewed(at(5));
        assert!(patience.is_over(at(5)));
    }

    #[test]
    fn after_a_sleep_or_a_step_of_the_clock_one_lease_is_waited() {
        let mut patience = Patience::default();
        patience.renewed(at(0));
        assert!(patience.is_over(at(3)));
        assert!(!patience.is_over(at(4)), "our own leases have run out, and so may those of others who are well");
        patience.renewed(at(1_000));
        assert!(!patience.is_over(at(1_000)) && !patience.is_over(at(1_002)));
        patience.renewed(at(1_003));
        assert!(patience.is_over(at(1_003)));
    }

    #[test]
    fn a_clock_that_is_set_back_makes_nobody_wait_longer() {
        let mut patience = Patience::default();
        patience.renewed(at(1_000));
        patience.missed(at(1_000));
        patience.renewed(at(10));
        assert!(!patience.is_over(at(10)) && !patience.is_over(at(12)));
        assert!(patience.is_over(at(13)));
    }
}
