//! The time. Only the parts of an application read it; everything below them gets it as an argument.
//!
//! There are two times. The time of day says when jobs are due. It may be set, and where the store has a server, all processes
//! go by the server's. The [`Uptime`] says whether leases hold. It is never set.

use std::{
    ops::Add,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use tokio::time::{Instant, sleep};

use crate::runtime::clock_hold::BodyHold;

/// The clock that an application goes by.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub enum Clock {
    /// The system's clock; on a store with a server, the server's.
    #[default]
    System,
    /// Tokio's clock, counted from a given time on: a test that pauses tokio's clock need not wait for delays to pass.
    ///
    /// A paused clock does not run ahead while a `fn` body runs on its thread, unless the body waits for qtasks there, nor while
    /// a SQLite file is written or read.
    Tokio {
        /// The time of day at which counting began.
        start: Timestamp,
        /// Tokio's time at that moment.
        origin: Instant,
    },
}

impl Clock {
    /// Tokio's clock, set to the system's time now.
    #[expect(clippy::disallowed_methods, reason = "the clock that others ask")]
    pub fn tokio() -> Self {
        Self::Tokio { start: Timestamp::now(), origin: Instant::now() }
    }

    /// The time of day.
    pub fn now(&self) -> Timestamp {
        match self {
            #[expect(clippy::disallowed_methods, reason = "the clock that others ask")]
            Self::System => Timestamp::now(),
            Self::Tokio { start, origin } => crate::model::lifecycle::later(*start, origin.elapsed()),
        }
    }
}

/// How long the machine has been up, including the time in which it was suspended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Uptime(Duration);

impl Uptime {
    /// From a number of nanoseconds.
    pub(crate) const fn from_nanoseconds(nanoseconds: u64) -> Self {
        Self(Duration::from_nanos(nanoseconds))
    }

    /// In nanoseconds.
    pub(crate) fn nanoseconds(self) -> u64 {
        self.0.as_nanos().try_into().unwrap_or(u64::MAX)
    }

    /// How long it is from `earlier` to this; zero when `earlier` is later.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Uptime {
    type Output = Self;

    fn add(self, time: Duration) -> Self {
        Self(self.0.saturating_add(time))
    }
}

/// The clock that the parts of an application share.
#[derive(Debug)]
pub(crate) struct AppClock {
    own: Clock,
    /// How far the server's time of day is ahead of the uptime, in nanoseconds; [`UNKNOWN`] before a server has answered.
    server_ahead: AtomicI64,
    /// The uptime at which the server was last asked for its time beside renewals, in nanoseconds.
    asked: AtomicU64,
    /// The uptime of the last answer that was taken or agreed with what is known, in nanoseconds.
    learned: AtomicU64,
    /// How long the answer took from which [`server_ahead`](Self::server_ahead) is known, in nanoseconds.
    round_trip: AtomicI64,
    /// The latest time of day that this clock has given by the server, in nanoseconds since 1970.
    latest: AtomicI64,
}

const UNKNOWN: i64 = i64::MIN;

/// A round trip of this length gives the server's time exactly enough; in nanoseconds.
const SHORT: i64 = 20_000_000;
/// A correction by no more than this does not turn the clock back; in nanoseconds.
const LITTLE: i64 = 100_000_000;
/// How long the server's time is good before it is asked again. Clocks drift by less than a millisecond in that time.
const FRESH: Duration = Duration::from_secs(10);
/// How often a wait for a time of day looks at the clock, which may have been set, or the machine asleep.
const LOOK: Duration = Duration::from_secs(1);

impl AppClock {
    pub(crate) fn new(own: Clock) -> Self {
        let [server_ahead, latest] = [UNKNOWN; 2].map(AtomicI64::new);
        Self {
            own,
            server_ahead,
            asked: AtomicU64::new(0),
            learned: AtomicU64::new(0),
            round_trip: AtomicI64::new(0),
            latest,
        }
    }

    /// Whether this is tokio's clock, which stands still where a test has paused it.
    pub(crate) fn is_tokios(&self) -> bool {
        matches!(self.own, Clock::Tokio { .. })
    }

    /// What holds tokio's clock where it is while a body runs on a thread, if the application goes by that clock.
    pub(crate) fn hold(&self) -> Option<Arc<BodyHold>> {
        self.is_tokios().then(BodyHold::new)
    }

    /// The time of day, by the server's clock where that is known. A small correction does not turn it back.
    pub(crate) fn now(&self) -> Timestamp {
        let ahead = self.server_ahead.load(Relaxed);
        if ahead == UNKNOWN {
            return self.own.now();
        }
        let now = i64::try_from(self.uptime().nanoseconds()).unwrap_or(i64::MAX).saturating_add(ahead);
        let latest = self.latest.fetch_max(now, Relaxed);
        if latest.saturating_sub(now) > LITTLE {
            // The clock of the server was set back.
            self.latest.store(now, Relaxed);
            return Timestamp::from_nanosecond(now.into()).unwrap_or_else(|_| self.own.now());
        }
        Timestamp::from_nanosecond(latest.max(now).into()).unwrap_or_else(|_| self.own.now())
    }

    /// Takes the answer of a server that was `asked` for its time, and answered `now`. The server's time is that of some moment in
    /// the round trip: an answer that agrees with what is known within that length brings nothing new.
    pub(crate) fn learn(&self, server: Timestamp, asked: Uptime, now: Uptime) {
        if self.is_tokios() {
            return;
        }
        let round_trip = i64::try_from(now.since(asked).as_nanos()).unwrap_or(i64::MAX);
        let between = i128::from(asked.nanoseconds()) + i128::from(round_trip) / 2;
        let Ok(ahead) = i64::try_from(server.as_nanosecond() - between) else { return };
        let (known, kept) = (self.server_ahead.load(Relaxed), self.round_trip.load(Relaxed));
        let is_stale = known == UNKNOWN || self.is_old(now);
        let agrees = known.saturating_sub(ahead).saturating_abs() <= round_trip.saturating_add(kept) / 2;
        if agrees && round_trip >= kept {
            self.learned.store(now.nanoseconds(), Relaxed);
        } else if is_stale || round_trip <= kept.max(SHORT) {
            self.server_ahead.store(ahead, Relaxed);
            self.learned.store(now.nanoseconds(), Relaxed);
            self.round_trip.store(round_trip, Relaxed);
        }
    }

    /// How far the own time of day is ahead of the server's, where that is known.
    pub(crate) fn ahead_of_server(&self) -> Option<SignedDuration> {
        let ahead = self.server_ahead.load(Relaxed);
        let servers = i128::from(self.uptime().nanoseconds()) + i128::from(ahead);
        (ahead != UNKNOWN).then(|| SignedDuration::from_nanos_i128(self.own.now().as_nanosecond() - servers))
    }

    /// Whether the server's time is known exactly enough, or there is no server.
    pub(crate) fn is_exact(&self) -> bool {
        self.server_ahead.load(Relaxed) == UNKNOWN || self.round_trip.load(Relaxed) <= SHORT
    }

    /// Whether there is a server that is to be asked again for its time. Gives true to one caller, and that has to ask.
    pub(crate) fn is_to_ask(&self) -> bool {
        if self.server_ahead.load(Relaxed) == UNKNOWN {
            return false;
        }
        let (asked, now) = (self.asked.load(Relaxed), self.uptime());
        let is_asked = now.since(Uptime::from_nanoseconds(asked)) <= FRESH;
        !is_asked && self.is_old(now) && self.asked.compare_exchange(asked, now.nanoseconds(), Relaxed, Relaxed).is_ok()
    }

    /// Whether the last answer of the server is too old.
    fn is_old(&self, now: Uptime) -> bool {
        now.since(Uptime::from_nanoseconds(self.learned.load(Relaxed))) > FRESH
    }

    /// The uptime, which is never set.
    pub(crate) fn uptime(&self) -> Uptime {
        match self.own {
            Clock::System => Uptime(boot::now()),
            Clock::Tokio { origin, .. } => Uptime(origin.elapsed()),
        }
    }

    /// The same, never behind and up to thirty milliseconds ahead, in a fraction of the time: for a question before each value.
    pub(crate) fn soon(&self) -> Uptime {
        match self.own {
            Clock::System => Uptime(ticks::now() + ticks::LAG),
            Clock::Tokio { .. } => self.uptime(),
        }
    }

    /// Waits until this time of day, also where the clock is set meanwhile.
    ///
    /// # Cancel safety
    ///
    /// Dropping it changes nothing.
    pub(crate) async fn sleep_until(&self, time: Timestamp) {
        loop {
            let remaining = time.duration_since(self.now());
            if remaining <= SignedDuration::ZERO {
                return;
            }
            // A millisecond more, since stores keep whole ones.
            let remaining = remaining.unsigned_abs().saturating_add(Duration::from_millis(1));
            // Tokio's clock is never set while it counts, and a paused one must not be moved in small steps.
            sleep(if self.is_tokios() { remaining } else { remaining.min(LOOK) }).await;
        }
    }
}

/// The time since the machine was started: `CLOCK_BOOTTIME` of
/// <https://man7.org/linux/man-pages/man2/clock_gettime.2.html>, which goes on while the machine is suspended.
#[cfg(target_os = "linux")]
mod boot {
    use std::time::Duration;

    use rustix::time::{ClockId, clock_gettime};

    pub(super) fn now() -> Duration {
        clock_gettime(ClockId::Boottime).try_into().unwrap_or_default()
    }
}

/// The time since the first look, where the time of a suspend cannot be counted.
#[cfg(not(target_os = "linux"))]
mod boot {
    use std::{
        sync::LazyLock,
        time::{Duration, Instant},
    };

    static FIRST: LazyLock<Instant> = LazyLock::new(Instant::now);

    pub(super) fn now() -> Duration {
        FIRST.elapsed()
    }
}

/// The uptime as of the last tick of the kernel. A process can read the coarse clock `CLOCK_MONOTONIC_COARSE` without a call of
/// the kernel, but that does not count a suspend. So the uptime is read anew when the coarse clock has ticked.
#[cfg(target_os = "linux")]
mod ticks {
    use std::{
        sync::atomic::{
            AtomicU64,
            Ordering::{Acquire, Relaxed, Release},
        },
        time::Duration,
    };

    use rustix::time::{ClockId, clock_gettime};

    use super::boot;

    /// Between two ticks there are ten milliseconds at most.
    pub(super) const LAG: Duration = Duration::from_millis(20);

    static TICK: AtomicU64 = AtomicU64::new(u64::MAX);
    static UPTIME: AtomicU64 = AtomicU64::new(0);

    pub(super) fn now() -> Duration {
        let tick: Duration = clock_gettime(ClockId::MonotonicCoarse).try_into().unwrap_or_default();
        let tick = nanoseconds(tick);
        if TICK.load(Acquire) != tick {
            // Never back: a thread may be held up between reading the tick and storing it.
            UPTIME.fetch_max(nanoseconds(boot::now()), Relaxed);
            TICK.store(tick, Release);
        }
        Duration::from_nanos(UPTIME.load(Relaxed))
    }

    fn nanoseconds(time: Duration) -> u64 {
        time.as_nanos().try_into().unwrap_or(u64::MAX)
    }
}

#[cfg(not(target_os = "linux"))]
mod ticks {
    use std::time::Duration;

    pub(super) const LAG: Duration = Duration::ZERO;

    pub(super) fn now() -> Duration {
        super::boot::now()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400;

    fn day(count: i64) -> Timestamp {
        Timestamp::from_second(count * DAY).unwrap()
    }

    #[test]
    fn what_is_read_faster_is_never_behind() {
        let clock = AppClock::new(Clock::System);
        let begun = clock.uptime();
        while clock.uptime().since(begun) < Duration::from_millis(50) {
            let (before, soon, after) = (clock.uptime(), clock.soon(), clock.uptime());
            assert!(soon >= before);
            assert!(soon <= after + Duration::from_millis(30), "{:?} ahead", soon.since(after));
        }
    }

    #[test]
    fn the_time_is_the_servers_once_it_has_told_it() {
        let clock = AppClock::new(Clock::System);
        assert!(clock.now() > day(10_000) && !clock.is_to_ask());
        let asked = clock.uptime();
        clock.learn(day(3), asked, asked);
        let passed = clock.now().duration_since(day(3));
        assert!(passed >= SignedDuration::ZERO && passed < SignedDuration::from_secs(60), "{passed}");
    }

    #[test]
    fn how_far_the_own_clock_is_ahead_of_the_servers_is_known_once_that_has_told_its_time() {
        let clock = AppClock::new(Clock::System);
        assert_eq!(clock.ahead_of_server(), None);
        let (asked, own) = (clock.uptime(), clock.now());
        for (server, expected) in [(own - SignedDuration::from_secs(7), 7), (own + SignedDuration::from_secs(7), -7)] {
            clock.learn(server, asked, asked);
            let ahead = clock.ahead_of_server().unwrap();
            assert!((ahead - SignedDuration::from_secs(expected)).abs() < SignedDuration::from_secs(1), "{ahead}");
        }
    }

    #[test]
    fn an_answer_that_took_longer_is_taken_only_where_nothing_better_is_known() {
        let clock = AppClock::new(Clock::System);
        let asked = clock.uptime();
        let at = |seconds| asked + Duration::from_secs(seconds);
        clock.learn(day(3), at(0), at(3));
        assert!(clock.now() < day(4) && !clock.is_exact(), "it is better than nothing");
        clock.learn(day(5), at(3), at(5));
        assert!(clock.now() > day(4) && clock.now() < day(6), "it took less");
        clock.learn(day(7), at(5), at(8));
        assert!(clock.now() < day(6));
        clock.learn(day(9), at(8), at(8) + Duration::from_millis(20));
        assert!(clock.now() > day(8) && clock.is_exact());
        clock.learn(day(11), at(9), at(11));
        assert!(clock.now() < day(10));
        clock.learn(day(13), at(28), at(30));
        assert!(clock.now() > day(12), "the better one is old");
    }

    #[test]
    fn a_server_whose_answers_all_take_long_is_believed_when_the_best_one_is_old() {
        let clock = AppClock::new(Clock::System);
        let long_ago = clock.uptime();
        clock.learn(day(3), long_ago, long_ago + Duration::from_millis(80));
        clock.learned.store(0, Relaxed);
        assert!(clock.is_to_ask() && !clock.is_to_ask(), "one caller asks");
        let asked = clock.uptime();
        clock.learn(day(5), asked, asked + Duration::from_millis(90));
        assert!(clock.now() > day(4), "it was set meanwhile");
    }

    #[test]
    fn an_answer_that_agrees_with_what_is_known_changes_nothing() {
        let clock = AppClock::new(Clock::System);
        let asked = clock.uptime();
        let learned = |milliseconds: i64| day(3) + SignedDuration::from_millis(milliseconds);
        clock.learn(learned(0), asked, asked + Duration::from_millis(4));
        let known = clock.server_ahead.load(Relaxed);
        for off in [-3, 3] {
            clock.learn(learned(off), asked, asked + Duration::from_millis(6));
            assert_eq!(clock.server_ahead.load(Relaxed), known, "{off} ms off");
        }
        clock.learn(learned(50), asked, asked + Duration::from_millis(6));
        assert!(clock.server_ahead.load(Relaxed) > known, "it was set");
    }

    #[test]
    fn a_correction_by_little_does_not_turn_the_time_back() {
        let clock = AppClock::new(Clock::System);
        let asked = clock.uptime();
        clock.learn(day(3), asked, asked);
        let before = clock.now();
        let again = clock.uptime();
        clock.learn(before - SignedDuration::from_millis(60), again, again);
        assert!(clock.now() >= before);
        let again = clock.uptime();
        clock.learn(before - SignedDuration::from_secs(60), again, again);
        assert!(clock.now() < before, "the server's clock was set back");
    }

    #[tokio::test(start_paused = true)]
    async fn tokios_clock_is_not_corrected() {
        let clock = AppClock::new(Clock::tokio());
        let (before, asked) = (clock.now(), clock.uptime());
        clock.learn(day(3), asked, asked);
        assert_eq!(clock.now(), before);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_for_a_time_of_day_ends_when_the_clock_is_set_past_it() {
        // The server's clock, which can be set here; waits pass at once.
        let clock = AppClock::new(Clock::System);
        let asked = clock.uptime();
        clock.learn(day(3), asked, asked);
        let waiting = clock.sleep_until(day(4));
        let set = async {
            sleep(Duration::from_secs(5)).await;
            let asked = clock.uptime();
            clock.learn(day(5), asked, asked);
        };
        let before = Instant::now();
        tokio::join!(waiting, set);
        assert!(before.elapsed() <= Duration::from_secs(7), "it took {:?}", before.elapsed());
    }
}
