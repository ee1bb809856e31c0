//! What happened in a lane in a while: how many jobs were started and ended, and how long they took.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::lane::Lane;

/// What happened in a lane in one minute or hour, as far as workers have reported it. It is statistics: what the jobs themselves came
/// to stands in the jobs. A worker that is killed takes its last ten seconds with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// How long it took.
    pub span: RateSpan,
    /// When it began.
    pub from: Timestamp,
    /// The lane.
    pub lane: Lane,
    /// What happened.
    pub numbers: RateNumbers,
}

/// The time that a [`Rate`] is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RateSpan {
    /// A minute, from its first second on.
    Minute,
    /// An hour, from its first minute on.
    Hour,
}

impl RateSpan {
    /// How long it is.
    pub const fn duration(self) -> Duration {
        match self {
            Self::Minute => Duration::from_secs(60),
            Self::Hour => Duration::from_secs(3_600),
        }
    }

    /// The beginning of the span that `time` is in.
    pub fn start(self, time: Timestamp) -> Timestamp {
        let (second, length) = (time.as_second(), self.duration().as_secs() as i64);
        Timestamp::from_second(second - second.rem_euclid(length)).unwrap_or(time)
    }
}

/// What happened in a lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RateNumbers {
    /// Attempts that ended.
    pub attempts: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// Jobs that ended well.
    pub done: u64,
    /// Jobs that ended in an error.
    pub dead: u64,
    /// Jobs that their tasks called off.
    pub cancelled: u64,
    /// Values that were recorded.
    pub values: u64,
    /// How long the attempts ran: in each place how many took less than so many milliseconds, which is a power of two, and not less
    /// than half of that. In the last place are all that took longer.
    pub run: [u64; Self::BUCKETS],
}

impl RateNumbers {
    /// How many places the times of attempts are sorted into. The last one begins at 70 minutes.
    pub const BUCKETS: usize = 24;
    /// How many numbers there are, as stores keep them.
    pub const LENGTH: usize = 6 + Self::BUCKETS;

    /// Counts how long an attempt ran.
    pub fn ran(&mut self, time: Duration) {
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let place = (u64::BITS - millis.leading_zeros()) as usize;
        self.run[place.min(Self::BUCKETS - 1)] += 1;
    }

    /// All numbers in a row, for stores.
    pub fn to_row(&self) -> [u64; Self::LENGTH] {
        let mut row = [0; Self::LENGTH];
        let (first, run) = row.split_at_mut(Self::LENGTH - Self::BUCKETS);
        first.copy_from_slice(&[self.attempts, self.failed, self.done, self.dead, self.cancelled, self.values]);
        run.copy_from_slice(&self.run);
        row
    }

    /// The numbers of a row. What is missing at its end is 0.
    pub fn from_row(row: impl IntoIterator<Item = u64>) -> Self {
        let mut row = row.into_iter();
        let mut next = || row.next().unwrap_or(0);
        let [attempts, failed, done, dead, cancelled, values] = std::array::from_fn(|_| next());
        Self { attempts, failed, done, dead, cancelled, values, run: std::array::from_fn(|_| next()) }
    }
}

impl std::ops::AddAssign for RateNumbers {
    fn add_assign(&mut self, more: Self) {
        let sum = self.to_row().into_iter().zip(more.to_row()).map(|(one, other)| one.saturating_add(other));
        *self = Self::from_row(sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_in_the_place_of_its_power_of_two() {
        let place = |millis| {
            let mut numbers = RateNumbers::default();
            numbers.ran(Duration::from_millis(millis));
            numbers.run.iter().position(|count| *count == 1).unwrap()
        };
        assert_eq!([0, 1, 2, 3, 4, 1_000, 1_024].map(place), [0, 1, 2, 2, 3, 10, 11]);
        assert_eq!(place((1 << 22) - 1), 22);
        assert_eq!([1 << 22, u64::MAX].map(place), [23, 23]);
    }

    #[test]
    fn numbers_survive_as_a_row_and_add_up() {
        let mut numbers = RateNumbers::from_row(1..);
        assert_eq!((numbers.attempts, numbers.values, numbers.run[23]), (1, 6, 30));
        assert_eq!(RateNumbers::from_row(numbers.to_row()), numbers);
        assert_eq!(RateNumbers::from_row([7]), RateNumbers { attempts: 7, ..RateNumbers::default() });
        numbers += numbers;
        assert_eq!(numbers, RateNumbers::from_row((1..).map(|number| number * 2)));
    }

    #[test]
    fn a_span_begins_with_its_first_second() {
        let start = |span: RateSpan, text: &str| span.start(text.parse().unwrap()).to_string();
        assert_eq!(start(RateSpan::Minute, "2026-11-27T12:34:56.789Z"), "2026-11-27T12:34:00Z");
        assert_eq!(start(RateSpan::Hour, "2026-11-27T12:34:56.789Z"), "2026-11-27T12:00:00Z");
        assert_eq!(start(RateSpan::Minute, "1969-12-31T23:59:59Z"), "1969-12-31T23:59:00Z");
    }
}
