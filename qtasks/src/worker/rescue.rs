//! Takes over the jobs of workers that are gone.

use std::{collections::HashMap, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt as _;
use tokio::{sync::mpsc, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{around::tell_ended, heartbeat::LEASE, shared::WorkerShared};
use crate::{
    clock::Uptime,
    environment::outage::FailingCaller,
    error::{Error, Result},
    execution::stopped::Stopped,
    model::{
        job::{Attempt, Ending, Job, Lease, WorkerId},
        lifecycle::{self, Outcome},
    },
    store::{Hold, Presence, Settlement, Store, Written},
    telemetry,
};

/// How often a worker looks at the others, while there are any.
const EVERY: Duration = Duration::from_millis(500);
/// How often a worker looks for others, while there are none.
const ALONE: Duration = Duration::from_secs(1);
/// How many jobs of a worker that is gone are taken over in one call.
const LOST_AT_ONCE: usize = 256;

/// Watches the other workers of the store, and takes over the jobs of those that are gone.
pub(crate) struct Rescue {
    shared: Arc<WorkerShared>,
    watch: SilenceWatch,
    /// Leases of this worker that only the store knows, from the heartbeat.
    orphans: mpsc::UnboundedReceiver<Lease>,
    /// There while lost jobs cannot be taken over.
    failing: Option<FailingCaller>,
}

impl Rescue {
    pub(crate) fn new(shared: Arc<WorkerShared>, orphans: mpsc::UnboundedReceiver<Lease>) -> Self {
        Self { shared, watch: SilenceWatch::default(), orphans, failing: None }
    }

    /// Watches until `finished`.
    pub(crate) async fn run(mut self, finished: CancellationToken) {
        let mut lost = self.shared.app.store.notifier().lost();
        self.look().await;
        loop {
            let pause = if self.watch.is_alone() { ALONE } else { EVERY };
            tokio::select! {
                biased;
                () = finished.cancelled() => return,
                () = sleep(pause) => self.look().await,
                () = lost.wait() => self.look().await,
                Some(orphan) = self.orphans.recv() => self.return_orphan(orphan).await,
            }
        }
    }

    async fn look(&mut self) {
        let looked = AssertUnwindSafe(self.take_over_from_lost()).catch_unwind().await;
        let looked = looked.unwrap_or_else(|payload| Err(Error::store("look for workers", Stopped::panic(payload))));
        match looked {
            Err(error) => self.shared.app.outage.failed(&mut self.failing, "take over lost jobs", &error),
            Ok(()) => {
                if let Some(failing) = self.failing.take() {
                    failing.answered();
                }
            }
        }
    }

    async fn take_over_from_lost(&mut self) -> Result<()> {
        let WorkerShared { app, id, .. } = &*self.shared;
        let asked = app.clock.uptime();
        let mut workers = app.store.workers().await?;
        workers.retain(|other| other.worker != *id);
        let mut all = Ok(());
        for lost in self.watch.look(asked, app.clock.uptime(), &workers) {
            let Presence { worker, beat, .. } = lost.presence;
            let done =
                if lost.presence.holds { self.take_over(&lost).await } else { app.store.forget(worker, beat).await };
            // A worker whose jobs cannot be taken over now does not hold up the others that are gone.
            all = all.and(done);
        }
        all
    }

    /// Settles all jobs of a worker that is gone, unless that worker renews meanwhile.
    async fn take_over(&self, lost: &LostWorker) -> Result<()> {
        let store = &self.shared.app.store;
        loop {
            let jobs = store.held(lost.presence.worker, LOST_AT_ONCE).await?;
            let (outcomes, settlements): (Vec<_>, Vec<_>) =
                jobs.iter().filter_map(|job| self.of_lost(job, lost.presence.beat)).unzip();
            if settlements.is_empty() {
                return Ok(());
            }
            let written = settle_lost(&**store, settlements.into()).await?;
            for ((job, outcome), _) in outcomes.iter().zip(&written).filter(|(_, written)| **written == Written::Yes) {
                let is_known = self.shared.app.registry.get(&job.call.task).is_some();
                telemetry::taken_over(job, is_known, lost.presence.worker, lost.silent, outcome);
                tell_ended(&self.shared, job, outcome);
            }
            if jobs.len() < LOST_AT_ONCE || !written.contains(&Written::Yes) {
                return Ok(());
            }
        }
    }

    /// What becomes of a lost job, and the settlement that writes it; nothing for a job that no longer runs.
    fn of_lost<'j>(&self, job: &'j Job, beat: Option<u64>) -> Option<((&'j Job, Outcome), Settlement)> {
        let (lease, now) = (job.lease()?, self.shared.app.now());
        let retry = self.shared.app.registry.get(&job.call.task).map(|task| task.schema().retry);
        let outcome = lifecycle::lost(&job.standing, retry.as_ref(), now);
        let (number, worker, ending) = (lease.attempt, lease.worker, Ending::Lost);
        let attempt = Some(Attempt { number, worker, started: None, ended: now, ending, steps: None });
        let hold = Hold::Silent { lease, beat };
        let settlement = Settlement { hold, outcome: outcome.clone(), steps: None, attempt, now };
        Some(((job, outcome), settlement))
    }

    /// Gives back a lease of this worker that only the store knows.
    async fn return_orphan(&self, orphan: Lease) {
        let store = &self.shared.app.store;
        let returned = async {
            match store.job(orphan.job).await? {
                Some(job) => {
                    let given_back = Settlement::given_back(&job, orphan, self.shared.app.now());
                    store.settle(Arc::new([given_back])).await.map(drop)
                }
                None => Ok(()),
            }
        };
        if let Err(error) = returned.await {
            // The next renewals list it again.
            telemetry::try_fails("give back a lease", &error);
        }
    }
}

/// Settles jobs of a worker that is gone. Where the store refuses one of them, the others are settled one by one.
async fn settle_lost(store: &dyn Store, settlements: Arc<[Settlement]>) -> Result<Vec<Written>> {
    match store.settle(settlements.clone()).await {
        Err(error) if error.is_refusal() && settlements.len() > 1 => {}
        answer => return answer,
    }
    let mut written = Vec::new();
    for settlement in &*settlements {
        let job = settlement.job();
        match store.settle(Arc::new([settlement.clone()])).await {
            Err(error) if error.is_refusal() => {
                tracing::warn!(error = crate::error::chain(&error), %job, "a lost job was not taken over");
                written.push(Written::Fenced);
            }
            answer => written.extend(answer?),
        }
    }
    Ok(written)
}

/// A longer pause between two looks breaks the chain of looks: this process was frozen or the machine asleep, and the other
/// workers may have been so too.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// The time in which a look waits for its answer counts up to this only, since the machine may be asleep in it.
const LONGEST_ANSWER: Duration = Duration::from_millis(250);

/// What a worker has seen of the others. It takes another worker for gone when the store knows that it is, or when its beat
/// has not changed for one lease, in a chain of looks without a break.
#[derive(Debug, Default)]
struct SilenceWatch {
    seen: HashMap<WorkerId, LastBeat>,
    /// How long the chain of looks is.
    watched: Duration,
    /// When the last look was answered.
    answered: Option<Uptime>,
}

/// A worker that is gone.
#[derive(Debug, PartialEq)]
struct LostWorker {
    presence: Presence,
    /// How long its beat has not changed; nothing where the store itself knows that it is gone.
    silent: Option<Duration>,
}

/// The beat of a worker, and how long the chain was when this beat was first seen.
#[derive(Debug)]
struct LastBeat {
    beat: Option<u64>,
    since: Duration,
}

impl SilenceWatch {
    /// Adds a look and its answer to the chain; gives the workers that are gone.
    fn look(&mut self, asked: Uptime, answered: Uptime, workers: &[Presence]) -> Vec<LostWorker> {
        match self.answered.replace(answered).map(|before| asked.since(before)) {
            Some(pause) if pause <= LONGEST_PAUSE => self.watched += pause,
            _ => self.seen.clear(),
        }
        let watched = self.watched;
        self.watched += answered.since(asked).min(LONGEST_ANSWER);
        self.seen.retain(|worker, _| workers.iter().any(|other| other.worker == *worker));
        let lost = |worker: &Presence| {
            let first_seen = || LastBeat { beat: worker.beat, since: self.watched };
            let last_beat = self.seen.entry(worker.worker).or_insert_with(first_seen);
            if last_beat.beat != worker.beat {
                *last_beat = first_seen();
            }
            let silent = watched.saturating_sub(last_beat.since);
            let silent = (!worker.gone).then_some(silent);
            silent.is_none_or(|silent| silent >= LEASE).then(|| LostWorker { presence: worker.clone(), silent })
        };
        workers.iter().filter_map(lost).collect()
    }

    fn is_alone(&self) -> bool {
        self.seen.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Uptime {
        Uptime::from_nanoseconds(0) + Duration::from_millis(milliseconds)
    }

    fn worker(beat: impl Into<Option<u64>>) -> Presence {
        Presence { worker: WorkerId::from_bytes([7; 16]), beat: beat.into(), holds: true, gone: false }
    }

    impl SilenceWatch {
        /// Whether a look at this time, which is answered at once, finds that the worker is gone.
        fn finds(&mut self, milliseconds: u64, worker: Presence) -> bool {
            !self.look(at(milliseconds), at(milliseconds), &[worker]).is_empty()
        }
    }

    #[test]
    fn a_worker_whose_beat_does_not_change_for_one_lease_is_gone() {
        let mut watch = SilenceWatch::default();
        let found = [0, 1_000, 2_000, 2_999, 3_000].map(|time| watch.finds(time, worker(5)));
        assert_eq!(found, [false, false, false, false, true]);
    }

    #[test]
    fn a_worker_whose_beat_changes_is_never_gone_whatever_the_numbers_are() {
        let mut watch = SilenceWatch::default();
        for (second, beat) in [9, 1, 8, 2, u64::MAX, 0, 5, 4].into_iter().enumerate() {
            assert!(!watch.finds(2_000 * second as u64, worker(beat)));
        }
    }

    #[test]
    fn a_worker_that_the_store_knows_to_be_gone_is_so_at_once() {
        assert!(SilenceWatch::default().finds(0, Presence { gone: true, ..worker(5) }));
    }

    #[test]
    fn a_number_that_is_missing_proves_nothing_by_itself() {
        let mut watch = SilenceWatch::default();
        assert!(!watch.finds(0, worker(5)) && !watch.finds(2_000, worker(5)));
        assert!(!watch.finds(3_500, worker(None)), "it has changed");
        assert!(!watch.finds(5_000, worker(None)) && !watch.finds(6_499, worker(None)));
        assert!(watch.finds(6_500, worker(None)));
    }

    #[test]
    fn a_break_between_looks_begins_the_evidence_anew() {
        let mut watch = SilenceWatch::default();
        assert!(!watch.finds(0, worker(5)) && !watch.finds(2_000, worker(5)));
        assert!(!watch.finds(4_001, worker(5)), "this process may have been frozen, and the others too");
        assert!(!watch.finds(6_001, worker(5)) && !watch.finds(7_000, worker(5)));
        assert!(watch.finds(7_001, worker(5)));
    }

    #[test]
    fn an_answer_that_took_an_hour_counts_as_a_moment() {
        let mut watch = SilenceWatch::default();
        assert!(!watch.finds(0, worker(5)));
        const HOUR: u64 = 3_600_000;
        assert_eq!(watch.look(at(1_000), at(1_000 + HOUR), &[worker(5)]), [], "the machine was asleep");
        assert!(!watch.finds(2_000 + HOUR, worker(5)), "the worker has had a second to renew");
        assert!(watch.finds(3_000 + HOUR, worker(5)));
    }

    #[test]
    fn a_slow_store_delays_what_is_found_and_does_not_prevent_it() {
        let mut watch = SilenceWatch::default();
        let looks = (0..20).map(|look| watch.look(at(6_000 * look), at(6_000 * look + 5_000), &[worker(5)]).len());
        assert_eq!(looks.take_while(|found| *found == 0).count(), 3);
    }

    #[test]
    fn a_worker_that_is_no_longer_there_is_forgotten() {
        let mut watch = SilenceWatch::default();
        assert!(!watch.finds(0, worker(5)) && !watch.is_alone());
        assert_eq!(watch.look(at(1_000), at(1_000), &[]), []);
        assert!(watch.is_alone());
        assert!(!watch.finds(2_000, worker(5)) && !watch.finds(4_000, worker(5)));
    }
}
