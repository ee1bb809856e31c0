//! What may wait before it is written, until when, and no longer than its attempt lasts.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Weak},
};

use tokio::time::Instant;

use crate::model::job::Lease;

/// The journals that may wait before the recorder writes them. Each stands here once, since the recorder takes all that a
/// journal holds. They are held weakly: the journal of an attempt that has ended is freed at once.
pub(crate) struct Later<T> {
    by_time: BTreeMap<Place, (Lease, Weak<T>)>,
    places: HashMap<Lease, Place>,
    count: u64,
}

/// Until when something may wait, and its number.
type Place = (Instant, u64);

impl<T> Default for Later<T> {
    fn default() -> Self {
        Self { by_time: BTreeMap::new(), places: HashMap::new(), count: 0 }
    }
}

impl<T> Later<T> {
    /// Lets what this attempt has wait until `time`, or until the time that it was given before, if that is earlier.
    pub(crate) fn put(&mut self, lease: Lease, time: Instant, gathers: &Arc<T>) {
        let before = self.forget(lease);
        self.count += 1;
        let place = (before.map_or(time, |before| before.min(time)), self.count);
        self.places.insert(lease, place);
        self.by_time.insert(place, (lease, Arc::downgrade(gathers)));
    }

    /// Lets nothing of this attempt wait any more; gives until when it could.
    pub(crate) fn forget(&mut self, lease: Lease) -> Option<Instant> {
        let place = self.places.remove(&lease)?;
        self.by_time.remove(&place);
        Some(place.0)
    }

    /// When the next of them has waited long enough.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.by_time.first_key_value().map(|((time, _), _)| *time)
    }

    /// Takes those that have waited long enough `now`, and have not ended.
    pub(crate) fn take_ripe(&mut self, now: Instant, ripe: &mut Vec<Arc<T>>) {
        while let Some(first) = self.by_time.first_entry()
            && first.key().0 <= now
        {
            let (lease, gathers) = first.remove();
            self.places.remove(&lease);
            ripe.extend(gathers.upgrade());
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

    fn ripe(later: &mut Later<u8>, now: Instant) -> Vec<u8> {
        let mut ripe = Vec::new();
        later.take_ripe(now, &mut ripe);
        ripe.iter().map(|one| **one).collect()
    }

    #[test]
    fn each_waits_until_the_earliest_of_its_times() {
        let (mut later, now) = (Later::default(), Instant::now());
        let at = |seconds| now + Duration::from_secs(seconds);
        let (one, other, third) = (Arc::new(1), Arc::new(2), Arc::new(3));
        let first = lease();
        later.put(first, at(60), &one);
        later.put(lease(), at(5), &other);
        later.put(first, at(2), &one);
        later.put(first, at(70), &one);
        later.put(lease(), at(9), &third);
        assert_eq!(later.next(), Some(at(2)));
        assert_eq!(ripe(&mut later, at(1)), [0; 0]);
        assert_eq!(ripe(&mut later, at(5)), [1, 2]);
        assert_eq!(ripe(&mut later, at(99)), [3]);
        assert!(later.next().is_none() && later.places.is_empty());
    }

    #[test]
    fn what_has_ended_is_not_kept() {
        let (mut later, now) = (Later::default(), Instant::now());
        let (settled, dropped) = (Arc::new(1), Arc::new(2));
        let lease = [lease(), lease()];
        later.put(lease[0], now, &settled);
        later.put(lease[1], now, &dropped);
        later.forget(lease[0]);
        assert_eq!((later.by_time.len(), later.places.len(), Arc::strong_count(&settled)), (1, 1, 1));
        drop(dropped);
        assert_eq!(ripe(&mut later, now), [0; 0]);
        assert!(later.by_time.is_empty() && later.places.is_empty());
    }
}
