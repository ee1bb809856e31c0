//! The leases that a worker believes it holds.

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

/// The leases of one worker, from the moment the store gives them to it until they are settled.
#[derive(Debug, Default)]
pub(crate) struct LeaseTable {
    entries: Mutex<Entries>,
    emptied: Notify,
    /// The uptime from which the leases have held without a break, in nanoseconds.
    since: AtomicU64,
    /// The uptime until which the leases hold for sure, in nanoseconds. They hold longer where no other worker takes them.
    /// All threads read it before each call of a handler, so there is no lock.
    until: AtomicU64,
}

#[derive(Debug, Default)]
struct Entries {
    by_job: HashMap<JobId, Entry>,
    /// How many renewals have begun.
    round: u64,
    /// The last renewal that began before a doubt: that one and those before it prove nothing.
    doubted: u64,
    /// Leases that the store lists as this worker's, and that are not in this table.
    unknown: HashSet<Lease>,
    /// The unknown leases that were given back: an answer of the store that brings one of them comes too late.
    given_back: HashSet<Lease>,
}

/// One lease, and what to stop when it is lost.
#[derive(Debug)]
struct Entry {
    lease: Lease,
    /// How many renewals had begun when the store gave the lease: those do not list it.
    since: u64,
    journal: Option<Arc<Journal>>,
    /// The context of the body, once that is about to start.
    context: Option<TaskContext>,
    /// The worker no longer has the lease; the entry stays until its attempt has stopped.
    lost: bool,
}

impl Entry {
    /// Marks the lease as lost. Gives the journal, to be fenced after the lock is released: values that it drops run code of
    /// the task's own.
    fn lose(&mut self) -> Option<Arc<Journal>> {
        self.lost = true;
        self.journal.clone()
    }
}

impl LeaseTable {
    /// Records that renewal number `round` succeeded, and that the leases hold `until` then. A doubt that came after the
    /// renewal began makes it void. Gives whether the leases hold.
    pub(crate) fn renewed(&self, round: u64, now: Uptime, until: Uptime) -> bool {
        let entries = self.entries();
        if entries.doubted >= round {
            return false;
        }
        let now = now.nanoseconds();
        if now >= self.until.load(Relaxed) {
            self.since.store(now, Relaxed);
        }
        self.until.store(until.nanoseconds(), Relaxed);
        entries.by_job.values().filter_map(|entry| entry.journal.as_ref()).for_each(|journal| journal.renewed());
        true
    }

    /// Records that other workers may have taken the leases: none holds for sure until a renewal that begins from now on.
    pub(crate) fn doubt(&self) {
        let mut entries = self.entries();
        entries.doubted = entries.round;
        self.until.store(0, Relaxed);
    }

    /// Whether the leases hold for sure at this time.
    pub(crate) fn holds(&self, now: Uptime) -> bool {
        now.nanoseconds() < self.until.load(Relaxed)
    }

    /// Enters a lease that the worker asked for at `asked` and got at `now`. Gives whether the worker may use it: not when it
    /// was given back, or may have been lost before its answer came.
    ///
    /// An earlier lease on the same job is lost by that: its body stops now, not at its next write. A store that has
    /// forgotten the earlier lease, as after a power cut, may give the same one again. What the two attempts write could not
    /// be told apart, so the worker does not use that one either.
    pub(crate) fn insert(&self, lease: Lease, asked: Uptime, now: Uptime) -> bool {
        let mut entries = self.entries();
        let held_since_asked = self.since.load(Relaxed) <= asked.nanoseconds() && self.holds(now);
        if entries.given_back.remove(&lease) || !held_since_asked {
            return false;
        }
        let since = entries.round;
        let earlier = entries.by_job.get_mut(&lease.job).map(|earlier| (earlier.lease, earlier.lose()));
        let is_new = earlier.as_ref().is_none_or(|(earlier, _)| *earlier != lease);
        if is_new {
            entries.by_job.insert(lease.job, Entry { lease, since, journal: None, context: None, lost: false });
        }
        drop(entries);
        if let Some((_, Some(journal))) = earlier {
            journal.fence();
        }
        is_new
    }

    /// Records that the body starts; gives whether it may, since its lease was not lost before.
    pub(crate) fn start(&self, lease: Lease, journal: Arc<Journal>, context: Option<TaskContext>) -> bool {
        match self.entries().by_job.get_mut(&lease.job) {
            Some(entry) if entry.lease == lease && !entry.lost => {
                entry.journal = Some(journal);
                entry.context = context;
                true
            }
            _ => false,
        }
    }

    /// Forgets a lease that is settled or lost, when its attempt has stopped.
    pub(crate) fn remove(&self, lease: Lease) {
        let mut entries = self.entries();
        if entries.by_job.get(&lease.job).is_some_and(|entry| entry.lease == lease) {
            entries.by_job.remove(&lease.job);
        }
        if entries.by_job.is_empty() {
            self.emptied.notify_one();
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries().by_job.is_empty()
    }

    /// All leases that are not settled, with the contexts of bodies that were about to start.
    pub(crate) fn all(&self) -> Vec<(Lease, Option<TaskContext>)> {
        self.entries().by_job.values().map(|entry| (entry.lease, entry.context.clone())).collect()
    }

    /// Waits until the last lease is gone.
    pub(crate) async fn emptied(&self) {
        self.emptied.notified().await;
    }

    /// Records that a renewal begins; gives its number.
    pub(crate) fn renewing(&self) -> u64 {
        let mut entries = self.entries();
        entries.round += 1;
        entries.round
    }

    /// Compares the table with the leases that the store lists after renewal number `round`. Leases that the store no longer
    /// lists are fenced. Gives those that only the store knew twice in a row, for the caller to give back: the answer that
    /// brought such a lease was lost on its way here, or its attempt could not go on with what the store has.
    pub(crate) fn compare(&self, round: u64, stored: &[Lease]) -> Vec<Lease> {
        let mut entries = self.entries();
        let stored: HashSet<Lease> = stored.iter().copied().collect();
        let is_lost = |entry: &&mut Entry| entry.since < round && !stored.contains(&entry.lease);
        let lost: Vec<_> = entries.by_job.values_mut().filter(is_lost).filter_map(Entry::lose).collect();
        let is_known = |lease: &Lease| entries.by_job.get(&lease.job).is_some_and(|entry| !entry.lost);
        let unknown: HashSet<Lease> = stored.into_iter().filter(|lease| !is_known(lease)).collect();
        let orphans: Vec<Lease> = unknown.intersection(&entries.unknown).copied().collect();
        entries.unknown = unknown;
        entries.given_back.extend(&orphans);
        drop(entries);
        lost.iter().for_each(|journal| journal.fence());
        orphans
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::atomic::AtomicBool, time::Duration};

    use tokio::sync::mpsc;

    use super::*;
    use crate::{execution::journal::EntryCount, model::job::WorkerId};

    const LASTING: Duration = Duration::from_secs(3);
    const NOW: Uptime = Uptime::from_nanoseconds(7);

    fn lease() -> Lease {
        Lease { job: JobId::new(), attempt: 1, worker: WorkerId::new() }
    }

    /// A journal whose lease holds as far as it can tell.
    fn journal(lease: Lease) -> Arc<Journal> {
        let (requests, _) = mpsc::unbounded_channel();
        Journal::new(lease, Arc::new(|| true), EntryCount::default(), Duration::ZERO, requests)
    }

    #[test]
    fn a_lease_that_the_store_no_longer_knows_is_fenced() {
        let (table, kept, lost) = (LeaseTable::default(), lease(), lease());
        let journal = journal(lost);
        let now = NOW;
        table.renewed(table.renewing(), now, now + LASTING);
        assert!(table.insert(kept, now, now) && table.insert(lost, now, now));
        assert!(table.start(lost, journal.clone(), None));
        let round = table.renewing();
        assert_eq!(table.compare(round, &[kept]), []);
        assert!(journal.is_fenced());
        assert!(!table.start(lost, journal, None), "a job whose lease is lost is not started");
    }

    #[test]
    fn a_lease_given_during_a_renewal_is_not_missed() {
        let (table, new) = (LeaseTable::default(), lease());
        let round = table.renewing();
        let now = NOW;
        table.renewed(round, now, now + LASTING);
        assert!(table.insert(new, now, now));
        assert_eq!(table.compare(round, &[]), []);
        assert!(table.start(new, journal(new), None));
    }

    #[test]
    fn a_body_whose_job_was_leased_anew_by_the_same_worker_is_fenced() {
        let (table, first) = (LeaseTable::default(), lease());
        let journal = journal(first);
        let now = NOW;
        table.renewed(table.renewing(), now, now + LASTING);
        assert!(table.insert(first, now, now));
        assert!(table.start(first, journal.clone(), None));
        assert!(table.insert(Lease { attempt: 2, ..first }, now, now));
        assert!(journal.is_fenced());
    }

    #[test]
    fn a_lease_that_a_store_gives_twice_is_not_taken_again_and_its_body_is_fenced() {
        let (table, first) = (LeaseTable::default(), lease());
        let journal = journal(first);
        let now = NOW;
        table.renewed(table.renewing(), now, now + LASTING);
        assert!(table.insert(first, now, now));
        assert!(table.start(first, journal.clone(), None));
        assert!(!table.insert(first, now, now) && journal.is_fenced());
        table.compare(table.renewing(), &[]);
        assert!(!table.insert(first, now, now), "its body has not stopped");
        table.remove(first);
        assert!(table.insert(first, now, now));
    }

    #[test]
    fn a_job_that_waits_for_its_start_is_not_started_when_its_lease_is_given_again() {
        let (table, first, now) = (LeaseTable::default(), lease(), NOW);
        let journal = journal(first);
        table.renewed(table.renewing(), now, now + LASTING);
        assert!(table.insert(first, now, now) && !table.insert(first, now, now));
        assert!(!table.start(first, journal, None));
    }

    #[test]
    fn leases_hold_for_sure_until_the_time_of_their_renewal() {
        let (table, now) = (LeaseTable::default(), NOW);
        assert!(!table.holds(now));
        table.renewed(table.renewing(), now, now + Duration::from_secs(3));
        assert!(table.holds(now + Duration::from_secs(2)));
        assert!(!table.holds(now + Duration::from_secs(3)));
    }

    #[test]
    fn leases_in_doubt_hold_for_sure_only_after_a_renewal_that_began_later() {
        let (table, now) = (LeaseTable::default(), NOW);
        assert!(table.renewed(table.renewing(), now, now + LASTING) && table.holds(now));
        let under_way = table.renewing();
        table.doubt();
        assert!(!table.holds(now));
        assert!(!table.renewed(under_way, now, now + LASTING) && !table.holds(now));
        assert!(table.renewed(table.renewing(), now, now + LASTING) && table.holds(now));
    }

    #[test]
    fn a_lease_that_only_the_store_knows_is_given_back_at_the_second_look() {
        let (table, orphan) = (LeaseTable::default(), lease());
        assert_eq!(table.compare(table.renewing(), &[orphan]), []);
        assert_eq!(table.compare(table.renewing(), &[orphan]), [orphan]);
    }

    #[test]
    fn a_lease_that_was_given_back_is_not_held_when_its_answer_comes_at_last() {
        let (table, late) = (LeaseTable::default(), lease());
        table.compare(table.renewing(), &[late]);
        table.compare(table.renewing(), &[late]);
        let now = NOW;
        table.renewed(table.renewing(), now, now + LASTING);
        assert!(!table.insert(late, now, now) && table.is_empty());
        assert!(table.insert(Lease { attempt: 2, ..late }, now, now));
    }

    /// Records, when it is dropped, whether the table's lock is free.
    struct Looks(Arc<LeaseTable>, Arc<AtomicBool>);

    impl Drop for Looks {
        fn drop(&mut self) {
            self.1.store(self.0.entries.try_lock().is_ok(), Relaxed);
        }
    }

    #[test]
    fn the_values_of_a_lost_attempt_hold_up_no_renewal_while_they_are_dropped() {
        for lose in [
            (|table: &LeaseTable, _| _ = table.compare(table.renewing(), &[])) as fn(&LeaseTable, Lease),
            |table, lease| _ = table.insert(lease, NOW, NOW),
        ] {
            let (table, lease, now, looked) = (Arc::new(LeaseTable::default()), lease(), NOW, Arc::default());
            let (requests, _kept) = mpsc::unbounded_channel();
            let journal = Journal::new(lease, Arc::new(|| true), EntryCount::default(), Duration::ZERO, requests);
            journal.push_pending(0, 0, Box::new(Looks(table.clone(), Arc::clone(&looked))));
            table.renewed(table.renewing(), now, now + LASTING);
            assert!(table.insert(lease, now, now) && table.start(lease, journal.clone(), None));
            lose(&table, lease);
            assert!(journal.is_fenced() && looked.load(Relaxed));
        }
    }

    #[test]
    fn a_lease_whose_answer_came_after_a_time_without_renewal_is_not_held() {
        let (table, start) = (LeaseTable::default(), NOW);
        let at = |seconds| start + Duration::from_secs(seconds);
        table.renewed(table.renewing(), at(0), at(3));
        assert!(
            !table.insert(lease(), at(0), at(3)),
            "another worker may take it, and a renewal that is under way may not show that"
        );
        table.renewed(table.renewing(), at(3), at(6));
        assert!(!table.insert(lease(), at(0), at(4)), "another worker may have taken it meanwhile");
        table.renewed(table.renewing(), at(5), at(8));
        assert!(table.insert(lease(), at(4), at(7)), "it was renewed all the time");
    }
}
