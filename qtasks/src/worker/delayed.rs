//! Journals whose steps may wait before they are written: until when each may, and no longer than its attempt lasts.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Weak},
};

use tokio::time::Instant;

use crate::model::job::Lease;

/// The journals that may wait before the recorder writes them. Each is here once, since the recorder takes all that a journal
/// holds. The references are weak: the journal of an attempt that has ended is freed at once.
pub(crate) struct Delayed<T> {
    by_due: BTreeMap<Due, (Lease, Weak<T>)>,
    due_by_lease: HashMap<Lease, Due>,
    count: u64,
}

/// Until when a journal may wait, and a number that no other has.
type Due = (Instant, u64);

impl<T> Default for Delayed<T> {
    fn default() -> Self {
        Self { by_due: BTreeMap::new(), due_by_lease: HashMap::new(), count: 0 }
    }
}

impl<T> Delayed<T> {
    /// Lets the journal of this lease wait until `time`, or until the time that it was given before, if that is earlier.
    pub(crate) fn insert(&mut self, lease: Lease, time: Instant, journal: &Arc<T>) {
        let before = self.forget(lease);
        self.count += 1;
        let when = (before.map_or(time, |before| before.min(time)), self.count);
        self.due_by_lease.insert(lease, when);
        self.by_due.insert(when, (lease, Arc::downgrade(journal)));
    }

    /// Removes the journal of this lease; gives until when it could wait.
    pub(crate) fn forget(&mut self, lease: Lease) -> Option<Instant> {
        let when = self.due_by_lease.remove(&lease)?;
        self.by_due.remove(&when);
        Some(when.0)
    }

    /// When the first of the journals is to be written.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.by_due.first_key_value().map(|((time, _), _)| *time)
    }

    /// Takes the journals that have waited long enough `now`, and whose attempts have not ended.
    pub(crate) fn take_due(&mut self, now: Instant, due: &mut Vec<Arc<T>>) {
        while let Some(first) = self.by_due.first_entry()
            && first.key().0 <= now
        {
            let (lease, journal) = first.remove();
            self.due_by_lease.remove(&lease);
            due.extend(journal.upgrade());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::job::{JobId, WorkerId};

    fn lease() -> Lease {
        Lease { job: JobId::new(), attempt: 1, worker: WorkerId::new() }
    }

    fn due(delayed: &mut Delayed<u8>, now: Instant) -> Vec<u8> {
        let mut due = Vec::new();
        delayed.take_due(now, &mut due);
        due.iter().map(|one| **one).collect()
    }

    #[test]
    fn each_waits_until_the_earliest_of_its_times() {
        let (mut delayed, now) = (Delayed::default(), Instant::now());
        let at = |seconds| now + Duration::from_secs(seconds);
        let (one, other, third) = (Arc::new(1), Arc::new(2), Arc::new(3));
        let first = lease();
        delayed.insert(first, at(60), &one);
        delayed.insert(lease(), at(5), &other);
        delayed.insert(first, at(2), &one);
        delayed.insert(first, at(70), &one);
        delayed.insert(lease(), at(9), &third);
        assert_eq!(delayed.next(), Some(at(2)));
        assert_eq!(due(&mut delayed, at(1)), [0; 0]);
        assert_eq!(due(&mut delayed, at(5)), [1, 2]);
        assert_eq!(due(&mut delayed, at(99)), [3]);
        assert!(delayed.next().is_none() && delayed.due_by_lease.is_empty());
    }

    #[test]
    fn what_has_ended_is_not_kept() {
        let (mut delayed, now) = (Delayed::default(), Instant::now());
        let (settled, dropped) = (Arc::new(1), Arc::new(2));
        let lease = [lease(), lease()];
        delayed.insert(lease[0], now, &settled);
        delayed.insert(lease[1], now, &dropped);
        delayed.forget(lease[0]);
        assert_eq!((delayed.by_due.len(), delayed.due_by_lease.len(), Arc::strong_count(&settled)), (1, 1, 1));
        drop(dropped);
        assert_eq!(due(&mut delayed, now), [0; 0]);
        assert!(delayed.by_due.is_empty() && delayed.due_by_lease.is_empty());
    }
}
