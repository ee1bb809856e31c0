//! Times and limits as stores keep them: in whole milliseconds.

use std::time::Duration;

use jiff::Timestamp;

/// Milliseconds since 1970.
pub(crate) fn millis(time: Timestamp) -> i64 {
    time.as_millisecond()
}

/// The time that [`millis`] gave this number for.
pub(crate) fn time(millis: i64) -> Timestamp {
    // The last millisecond that there is counts as out of range.
    let end = if millis < 0 { Timestamp::MIN } else { Timestamp::MAX };
    Timestamp::from_millisecond(millis).unwrap_or(end)
}

/// Milliseconds, rounded up: a limit must not become none.
pub(crate) fn limit_millis(limit: Duration) -> i64 {
    limit.as_nanos().div_ceil(1_000_000).try_into().unwrap_or(i64::MAX)
}

/// The limit that [`limit_millis`] gave this number for.
pub(crate) fn limit(millis: i64) -> Duration {
    if millis == i64::MAX { Duration::MAX } else { Duration::from_millis(millis.max(0).cast_unsigned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_kept_to_the_millisecond_up_to_the_ends_of_time() {
        for (given, kept) in [
            (Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH),
            (Timestamp::constant(1, 1_999_999), Timestamp::constant(1, 1_000_000)),
            (Timestamp::MAX, Timestamp::MAX),
            (Timestamp::MIN, Timestamp::MIN),
        ] {
            assert_eq!(time(millis(given)), kept);
        }
        assert_eq!((time(i64::MAX), time(i64::MIN)), (Timestamp::MAX, Timestamp::MIN));
    }

    #[test]
    fn a_limit_of_time_never_becomes_none() {
        for (given, kept) in [
            (Duration::from_micros(1), Duration::from_millis(1)),
            (Duration::from_secs(90), Duration::from_secs(90)),
            (Duration::MAX, Duration::MAX),
        ] {
            assert_eq!(limit(limit_millis(given)), kept);
        }
    }
}
