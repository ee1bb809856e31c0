//! The leases that a worker believes to hold.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use tokio::sync::Notify;

use crate::{
    clock::Uptime,
    execution::{context::TaskContext, journal::Journal},
    model::job::{JobId, Lease},
};

/// The leases of one worker, from the moment they are given to it until they are settled.
#[derive(Debug, Default)]
pub(crate) struct Held {
    leases: Mutex<Leases>,
    emptied: Notify,
    /// The uptime through which leases hold for sure, in nanoseconds. They may hold longer, as long as no one takes them.
    /// Looked at before each call of a handler, by all threads, so there is no lock.
    since: AtomicU64,
    until: AtomicU64,
}

#[derive(Debug, Default)]
struct Leases {
    by_job: HashMap<JobId, One>,
    /// How many renewals have begun,
    round: u64,
    /// and up to which of them what they say is in doubt.
    doubted: u64,
    /// Leases that the store says are ours, and that we know nothing of.
    unknown: HashSet<Lease>,
    /// Those of them that were given back: should the answer that tells of one come yet, it is no lease any more.
    given_back: HashSet<Lease>,
}

#[derive(Debug)]
struct One {
    lease: Lease,
    since: u64,
    journal: Option<Arc<Journal>>,
    /// That of the body, once it is about to start.
    context: Option<TaskContext>,
    /// It is no lease any more, and stands here until whoever had it has stopped.
    lost: bool,
}

impl One {
    /// Gives the journal, to be fenced when the lock is released: values that it drops run code of the task's own.
    fn lose(&mut self) -> Option<Arc<Journal>> {
        self.lost = true;
        self.journal.clone()
    }
}

impl Held {
    /// Takes note that renewal number `round` came to pass, and that the leases hold until then, unless they were doubted
    /// meanwhile; gives whether they hold.
    pub(crate) fn renewed(&self, round: u64, now: Uptime, until: Uptime) -> bool {
        let leases = self.leases();
        if leases.doubted >= round {
            return false;
        }
        let now = now.nanoseconds();
        if now >= self.until.load(Relaxed) {
            self.since.store(now, Relaxed);
        }
        self.until.store(until.nanoseconds(), Relaxed);
        leases.by_job.values().filter_map(|one| one.journal.as_ref()).for_each(|journal| journal.renewed());
        true
    }

    /// Takes note that others may have taken the leases: none holds for sure until it is renewed again.
    pub(crate) fn doubt(&self) {
        let mut leases = self.leases();
        leases.doubted = leases.round;
        self.until.store(0, Relaxed);
    }

    /// Whether the leases hold for sure.
    pub(crate) fn holds(&self, now: Uptime) -> bool {
        now.nanoseconds() < self.until.load(Relaxed)
    }

    /// Takes note of a lease that was `asked` for then and got `now`, unless it was given back or may have been lost before
    /// its answer came. An earlier one on the same job is lost by that: its body stops now, not at its next write. A store
    /// that has forgotten the earlier one, as after a power cut, may give the same again: nobody could tell apart what the
    /// two of them write, so this is not taken either.
    pub(crate) fn insert(&self, lease: Lease, asked: Uptime, now: Uptime) -> bool {
        let mut leases = self.leases();
        let held_since_asked = self.since.load(Relaxed) <= asked.nanoseconds() && self.holds(now);
        if leases.given_back.remove(&lease) || !held_since_asked {
            return false;
        }
        let since = leases.round;
        let earlier = leases.by_job.get_mut(&lease.job).map(|earlier| (earlier.lease, earlier.lose()));
        let is_new = earlier.as_ref().is_none_or(|(earlier, _)| *earlier != lease);
        if is_new {
            leases.by_job.insert(lease.job, One { lease, since, journal: None, context: None, lost: false });
        }
        drop(leases);
        if let Some((_, Some(journal))) = earlier {
            journal.fence();
        }
        is_new
    }

    /// Takes note that the body starts, unless its lease was lost before.
    pub(crate) fn start(&self, lease: Lease, journal: Arc<Journal>, context: Option<TaskContext>) -> bool {
        match self.leases().by_job.get_mut(&lease.job) {
            Some(one) if one.lease == lease && !one.lost => {
                one.journal = Some(journal);
                one.context = context;
                true
            }
            _ => false,
        }
    }

    /// Forgets a lease that is settled or lost, when whoever had it has stopped.
    pub(crate) fn remove(&self, lease: Lease) {
        let mut leases = self.leases();
        if leases.by_job.get(&lease.job).is_some_and(|one| one.lease == lease) {
            leases.by_job.remove(&lease.job);
        }
        if leases.by_job.is_empty() {
            self.emptied.notify_one();
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.leases().by_job.is_empty()
    }

    /// All leases that are not settled, with the contexts of bodies that were about to start.
    pub(crate) fn all(&self) -> Vec<(Lease, Option<TaskContext>)> {
        self.leases().by_job.values().map(|one| (one.lease, one.context.clone())).collect()
    }

    /// Waits until the last lease is gone.
    pub(crate) async fn emptied(&self) {
        self.emptied.notified().await;
    }

    /// A renewal begins; gives its number.
    pub(crate) fn renewing(&self) -> u64 {
        let mut leases = self.leases();
        leases.round += 1;
        leases.round
    }

    /// Compares with what the store says after renewal number `round`: leases that it no longer knows are fenced, and
    /// those that only the store knows, twice in a row, are given back to whoever calls this. Such a lease comes from
    /// an answer that was lost on its way here, or its attempt could not go on with what the store has.
    pub(crate) fn compare(&self, round: u64, stored: &[Lease]) -> Vec<Lease> {
        let mut leases = self.leases();
        let stored: HashSet<Lease> = stored.iter().copied().collect();
        let is_lost = |one: &&mut One| one.since < round && !stored.contains(&one.lease);
        let lost: Vec<_> = leases.by_job.values_mut().filter(is_lost).filter_map(One::lose).collect();
        let is_known = |lease: &Lease| leases.by_job.get(&lease.job).is_some_and(|one| !one.lost);
        let unknown: HashSet<Lease> = stored.into_iter().filter(|lease| !is_known(lease)).collect();
        let orphans: Vec<Lease> = unknown.intersection(&leases.unknown).copied().collect();
        leases.unknown = unknown;
        leases.given_back.extend(&orphans);
        drop(leases);
        lost.iter().for_each(|journal| journal.fence());
        orphans
    }

    fn leases(&self) -> MutexGuard<'_, Leases> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::atomic::AtomicBool, time::Duration};

    use tokio::sync::mpsc;

    use super::*;
    use crate::{execution::journal::Count, model::job::WorkerId};

    const LASTING: Duration = Duration::from_secs(3);
    const NOW: Uptime = Uptime::from_nanoseconds(7);

    fn lease() -> Lease {
        Lease { job: JobId::new(), attempt: 1, worker: WorkerId::new() }
    }

    /// A journal whose lease holds as far as it can tell.
    fn journal(lease: Lease) -> Arc<Journal> {
        let (requests, _) = mpsc::unbounded_channel();
        Journal::new(lease, Arc::new(|| true), Count::default(), Duration::ZERO, requests)
    }

    #[test]
    fn a_lease_that_the_store_no_longer_knows_is_fenced() {
        let (held, kept, lost) = (Held::default(), lease(), lease());
        let journal = journal(lost);
        let now = NOW;
        held.renewed(held.renewing(), now, now + LASTING);
        assert!(held.insert(kept, now, now) && held.insert(lost, now, now));
        assert!(held.start(lost, journal.clone(), None));
        let round = held.renewing();
        assert_eq!(held.compare(round, &[kept]), []);
        assert!(journal.is_fenced());
        assert!(!held.start(lost, journal, None), "a job whose lease is lost is not started");
    }

    #[test]
    fn a_lease_given_during_a_renewal_is_not_missed() {
        let (held, new) = (Held::default(), lease());
        let round = held.renewing();
        let now = NOW;
        held.renewed(round, now, now + LASTING);
        assert!(held.insert(new, now, now));
        assert_eq!(held.compare(round, &[]), []);
        assert!(held.start(new, journal(new), None));
    }

    #[test]
    fn a_body_whose_job_was_leased_anew_by_the_same_worker_is_fenced() {
        let (held, first) = (Held::default(), lease());
        let journal = journal(first);
        let now = NOW;
        held.renewed(held.renewing(), now, now + LASTING);
        assert!(held.insert(first, now, now));
        assert!(held.start(first, journal.clone(), None));
        assert!(held.insert(Lease { attempt: 2, ..first }, now, now));
        assert!(journal.is_fenced());
    }

    #[test]
    fn a_lease_that_a_store_gives_twice_is_not_taken_again_and_its_body_is_fenced() {
        let (held, first) = (Held::default(), lease());
        let journal = journal(first);
        let now = NOW;
        held.renewed(held.renewing(), now, now + LASTING);
        assert!(held.insert(first, now, now));
        assert!(held.start(first, journal.clone(), None));
        assert!(!held.insert(first, now, now) && journal.is_fenced());
        held.compare(held.renewing(), &[]);
        assert!(!held.insert(first, now, now), "its body has not stopped");
        held.remove(first);
        assert!(held.insert(first, now, now));
    }

    #[test]
    fn a_job_that_waits_for_its_start_is_not_started_when_its_lease_is_given_again() {
        let (held, first, now) = (Held::default(), lease(), NOW);
        let journal = journal(first);
        held.renewed(held.renewing(), now, now + LASTING);
        assert!(held.insert(first, now, now) && !held.insert(first, now, now));
        assert!(!held.start(first, journal, None));
    }

    #[test]
    fn leases_hold_for_sure_until_the_time_of_their_renewal() {
        let (held, now) = (Held::default(), NOW);
        assert!(!held.holds(now));
        held.renewed(held.renewing(), now, now + Duration::from_secs(3));
        assert!(held.holds(now + Duration::from_secs(2)));
        assert!(!held.holds(now + Duration::from_secs(3)));
    }

    #[test]
    fn leases_in_doubt_hold_for_sure_only_after_a_renewal_that_began_later() {
        let (held, now) = (Held::default(), NOW);
        assert!(held.renewed(held.renewing(), now, now + LASTING) && held.holds(now));
        let under_way = held.renewing();
        held.doubt();
        assert!(!held.holds(now));
        assert!(!held.renewed(under_way, now, now + LASTING) && !held.holds(now));
        assert!(held.renewed(held.renewing(), now, now + LASTING) && held.holds(now));
    }

    #[test]
    fn a_lease_that_only_the_store_knows_is_given_back_at_the_second_look() {
        let (held, orphan) = (Held::default(), lease());
        assert_eq!(held.compare(held.renewing(), &[orphan]), []);
        assert_eq!(held.compare(held.renewing(), &[orphan]), [orphan]);
    }

    #[test]
    fn a_lease_that_was_given_back_is_not_held_when_its_answer_comes_at_last() {
        let (held, late) = (Held::default(), lease());
        held.compare(held.renewing(), &[late]);
        held.compare(held.renewing(), &[late]);
        let now = NOW;
        held.renewed(held.renewing(), now, now + LASTING);
        assert!(!held.insert(late, now, now) && held.is_empty());
        assert!(held.insert(Lease { attempt: 2, ..late }, now, now));
    }

    /// Says, when it is dropped, whether the leases can be looked at.
    struct Looks(Arc<Held>, Arc<AtomicBool>);

    impl Drop for Looks {
        fn drop(&mut self) {
            self.1.store(self.0.leases.try_lock().is_ok(), Relaxed);
        }
    }

    #[test]
    fn the_values_of_a_lost_attempt_hold_up_no_renewal_while_they_are_dropped() {
        for lose in [(|held: &Held, _| _ = held.compare(held.renewing(), &[])) as fn(&Held, Lease), |held, lease| {
            _ = held.insert(lease, NOW, NOW)
        }] {
            let (held, lease, now, looked) = (Arc::new(Held::default()), lease(), NOW, Arc::default());
            let (requests, _kept) = mpsc::unbounded_channel();
            let journal = Journal::new(lease, Arc::new(|| true), Count::default(), Duration::ZERO, requests);
            journal.push_pending(0, 0, Box::new(Looks(held.clone(), Arc::clone(&looked))));
            held.renewed(held.renewing(), now, now + LASTING);
            assert!(held.insert(lease, now, now) && held.start(lease, journal.clone(), None));
            lose(&held, lease);
            assert!(journal.is_fenced() && looked.load(Relaxed));
        }
    }

    #[test]
    fn a_lease_whose_answer_came_after_a_time_without_renewal_is_not_held() {
        let (held, start) = (Held::default(), NOW);
        let at = |seconds| start + Duration::from_secs(seconds);
        held.renewed(held.renewing(), at(0), at(3));
        assert!(
            !held.insert(lease(), at(0), at(3)),
            "somebody may take it, and a renewal on its way may not tell of that"
        );
        held.renewed(held.renewing(), at(3), at(6));
        assert!(!held.insert(lease(), at(0), at(4)), "somebody may have taken it meanwhile");
        held.renewed(held.renewing(), at(5), at(8));
        assert!(held.insert(lease(), at(4), at(7)), "it was renewed all the time");
    }
}
