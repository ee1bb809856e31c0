//! The ids of jobs that a schedule enqueues: made of its name and the tick, so that a tick has one job however often it is fired.
//!
//! Such an id is a UUID of version 8 in the layout of version 7 ([RFC 9562](https://www.rfc-editor.org/rfc/rfc9562)): 48 bits are the
//! time of the tick in milliseconds, so that the jobs sort by it among all others; 62 bits are the hash of the name; and 12 bits
//! are 0, or tell jobs apart that were enqueued by hand.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::model::job::{JobCall, JobId, WorkerId};

/// The bits of a hash that an id has room for.
const HASH: u64 = (1 << 62) - 1;

/// The id of the job that a schedule enqueues for a tick.
pub(crate) fn id(name: &str, tick: Timestamp) -> JobId {
    make(name, tick, 0)
}

/// The id of a job that is enqueued by hand, and told apart from others of this millisecond by chance.
pub(crate) fn by_hand(name: &str, now: Timestamp, chance: u16) -> JobId {
    make(name, now, 1 + chance % 0xFFF)
}

fn make(name: &str, tick: Timestamp, mark: u16) -> JobId {
    let time = u64::try_from(tick.as_millisecond()).unwrap_or(0) << 16;
    let high = time | 0x8000 | u64::from(mark);
    let low = 1 << 63 | hash(name);
    JobId::from_bytes((u128::from(high) << 64 | u128::from(low)).to_be_bytes())
}

/// The tick of a job, if a schedule has enqueued it.
pub(crate) fn of(id: JobId) -> Option<Timestamp> {
    let (high, _) = halves(id);
    let is_made_here = high >> 12 & 0xF == 8;
    let time = i64::try_from(high >> 16).ok().filter(|_| is_made_here)?;
    Timestamp::from_millisecond(time).ok()
}

impl JobCall {
    /// The tick at which a schedule has enqueued the job. `None` for a job that no schedule has enqueued.
    pub fn tick(&self) -> Option<Timestamp> {
        of(self.id)
    }
}

/// What ids have of the name of their schedule.
pub(crate) fn hash(name: &str) -> u64 {
    xxh3_64(name.as_bytes()) & HASH
}

/// The [hash] of the schedule that has enqueued a job, if one has.
pub(crate) fn schedule_of(id: JobId) -> Option<u64> {
    of(id).map(|_| halves(id).1 & HASH)
}

/// Whether a job was enqueued by the schedule of this name.
pub(crate) fn is_of(id: JobId, name: &str) -> bool {
    schedule_of(id) == Some(hash(name))
}

fn halves(id: JobId) -> (u64, u64) {
    let number = u128::from_be_bytes(id.to_bytes());
    ((number >> 64) as u64, number as u64)
}

/// When the job of a tick is due.
pub(crate) fn due(name: &str, tick: Timestamp, jitter: Duration) -> Timestamp {
    let jitter = u64::try_from(jitter.as_millis()).unwrap_or(u64::MAX);
    if jitter == 0 {
        return tick;
    }
    let later = xxh3_64_with_seed(name.as_bytes(), tick.as_millisecond().cast_unsigned()) % jitter;
    let later = SignedDuration::from_millis(later.try_into().unwrap_or(i64::MAX));
    tick.checked_add(later).unwrap_or(Timestamp::MAX)
}

/// The place of a worker, among so many, in which workers turn to a schedule.
pub(crate) fn place(name: &str, worker: WorkerId, places: u32) -> u32 {
    let worker = u128::from_be_bytes(worker.to_bytes());
    let hash = xxh3_64_with_seed(name.as_bytes(), (worker >> 64) as u64 ^ worker as u64);
    (hash % u64::from(places)) as u32
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn second(second: i64) -> Timestamp {
        Timestamp::from_second(1_790_000_000 + second).unwrap()
    }

    #[test]
    fn an_id_says_its_tick_and_its_schedule() {
        let id_ = id("digest", second(5));
        assert_eq!((of(id_), id_), (Some(second(5)), id("digest", second(5))));
        assert!(is_of(id_, "digest") && !is_of(id_, "other"));
        assert_ne!(id_, id("other", second(5)));
        let by_hand = by_hand("digest", second(5), 7);
        assert_eq!(of(by_hand), Some(second(5)));
        assert!(is_of(by_hand, "digest") && by_hand != id_);
        let usual = JobId::new();
        assert!(of(usual).is_none() && !is_of(usual, "digest"));
    }

    #[test]
    fn an_id_is_a_uuid_and_sorts_by_its_tick() {
        let id_ = id("digest", second(0)).to_string();
        assert_eq!((&id_[14..15], "89ab".contains(&id_[19..20])), ("8", true), "{id_}");
        assert!(id("b", second(1)) < id("a", second(2)));
        let usual = JobId::new();
        assert!(id("a", second(0)) < usual && usual < id("a", second(1_000_000_000)), "among those of all jobs");
    }

    #[test]
    fn by_hand_there_are_as_many_jobs_as_calls() {
        let ids: HashSet<_> = (0..0xFFF).map(|chance| by_hand("a", second(0), chance)).collect();
        assert_eq!((ids.len(), ids.contains(&id("a", second(0)))), (0xFFF, false));
    }

    #[test]
    fn jitter_spreads_and_is_the_same_everywhere() {
        let jitter = Duration::from_secs(30);
        let due = |name: &str, tick| due(name, tick, jitter).duration_since(tick).as_millis();
        let dues: Vec<_> = (0..1_000).map(|tick| due("a", second(tick))).collect();
        assert!(dues.iter().all(|due| (0..30_000).contains(due)));
        let late = dues.iter().filter(|due| **due >= 15_000).count();
        assert!((400..600).contains(&late), "{late} of 1,000 in the later half");
        assert_eq!(due("a", second(7)), dues[7]);
        assert_ne!(due("b", second(7)), dues[7]);
        assert_eq!(super::due("a", second(1), Duration::ZERO), second(1));
    }

    #[test]
    fn workers_have_different_places() {
        let places: HashSet<_> = (0..200).map(|_| place("a", WorkerId::new(), 25)).collect();
        assert!(places.len() > 15 && places.iter().all(|place| *place < 25), "{places:?}");
    }
}
