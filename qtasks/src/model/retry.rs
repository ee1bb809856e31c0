//! The one retry policy: exponential, capped, with full jitter.

use std::time::Duration;

/// How often a job is tried again after a failure, and after what time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// How many failures in a row are forgiven: 3 makes 4 tries.
    pub limit: u32,
    /// What the delays grow from.
    pub base: Duration,
    /// What no delay exceeds.
    pub cap: Duration,
}

impl Retry {
    /// 3 failures are forgiven; delays grow from a second to an hour.
    pub const DEFAULT: Self = Self { limit: 3, base: Duration::from_secs(1), cap: Duration::from_secs(3600) };

    /// The wait after the `failures`-th failure in a row: `chance`, in `0.0..1.0`, of the exponential ceiling.
    ///
    /// Full jitter, as in <https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>: jobs that failed
    /// together do not come back together.
    pub fn delay(&self, failures: u32, chance: f64) -> Duration {
        let doublings = failures.saturating_sub(1).min(63);
        let ceiling = self.base.as_secs_f64() * 2_f64.powi(doublings as i32);
        Duration::from_secs_f64(ceiling.min(self.cap.as_secs_f64()) * chance.clamp(0.0, 1.0))
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self::DEFAULT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_cap() {
        let retry = Retry { limit: 9, base: Duration::from_secs(1), cap: Duration::from_secs(10) };
        let delays: Vec<_> = (1..=6).map(|failures| retry.delay(failures, 1.0).as_secs()).collect();
        assert_eq!(delays, [1, 2, 4, 8, 10, 10]);
        assert_eq!(retry.delay(u32::MAX, 1.0), Duration::from_secs(10));
    }

    #[test]
    fn chance_spreads_a_delay_from_nothing_to_the_ceiling() {
        assert_eq!(Retry::DEFAULT.delay(3, 0.0), Duration::ZERO);
        assert_eq!(Retry::DEFAULT.delay(3, 0.5), Duration::from_secs(2));
    }
}
