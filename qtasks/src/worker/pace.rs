//! How fast jobs end: by that a worker knows how many to lease ahead of its free slots.

use std::time::Duration;

use crate::clock::Uptime;

/// Jobs are leased ahead for about this time. For so long they wait although another worker may have a free slot; a call of
/// a store takes a few milliseconds.
const REACH: Duration = Duration::from_millis(20);
/// At most so many are leased ahead for each that runs, since they are in memory with their arguments.
const MOST: usize = 8;

/// How fast jobs end.
#[derive(Debug)]
pub(super) struct Pace {
    most: u64,
    /// How many jobs ended in [`REACH`], before the time that is measured now.
    known: u64,
    /// How many had ended in all when that time began.
    ended: u64,
    began: Uptime,
}

impl Pace {
    /// The pace of a worker that runs so many jobs at once, before the first.
    pub(super) fn new(concurrency: usize) -> Self {
        Self { most: concurrency.saturating_mul(MOST) as u64, known: 0, ended: 0, began: Uptime::default() }
    }

    /// How many jobs are to be leased ahead, now that so many have ended in all.
    pub(super) fn ahead(&mut self, ended: u64, now: Uptime) -> usize {
        let passed = now.since(self.began);
        if passed >= REACH {
            let in_reach = u128::from(ended.saturating_sub(self.ended)) * REACH.as_nanos() / passed.as_nanos();
            *self = Self { known: in_reach.try_into().unwrap_or(self.most), ended, began: now, ..*self };
        }
        self.known.max(ended.saturating_sub(self.ended)).min(self.most) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Uptime {
        Uptime::default() + Duration::from_secs(100) + Duration::from_millis(milliseconds)
    }

    /// How many are leased ahead after each of these: so many have ended, at this time.
    fn ahead(seen: &[(u64, u64)]) -> Vec<usize> {
        let mut pace = Pace::new(100);
        seen.iter().map(|(ended, milliseconds)| pace.ahead(*ended, at(*milliseconds))).collect()
    }

    #[test]
    fn as_many_are_leased_ahead_as_end_in_20_ms() {
        assert_eq!(ahead(&[(0, 0), (5, 1), (50, 10), (100, 20), (120, 25), (200, 40)]), [0, 5, 50, 100, 100, 100]);
    }

    #[test]
    fn nothing_is_leased_ahead_of_jobs_that_take_long() {
        assert_eq!(ahead(&[(0, 0), (1, 1_000), (2, 2_000), (66, 8_000), (66, 8_010)]), [0; 5]);
    }

    #[test]
    fn a_pause_ends_the_pace() {
        assert_eq!(ahead(&[(0, 0), (100, 20), (100, 41)]), [0, 100, 0]);
    }

    #[test]
    fn only_so_many_are_leased_ahead_for_each_that_runs() {
        assert_eq!(ahead(&[(0, 0), (5_000, 1), (1 << 63, 30)]), [0, 800, 800]);
    }
}
