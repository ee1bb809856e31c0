//! How stores keep what is the same in several of them: times and limits in whole milliseconds, states, shapes and endings by
//! numbers and names. What stands here is part of their formats.

use std::time::Duration;

use jiff::Timestamp;

#[cfg(any(feature = "redis", feature = "sqlite"))]
use crate::model::job::Ending;
use crate::model::job::Shape;

/// A time in whole milliseconds since 1970, as all stores keep it.
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

/// The `state` columns of SQLite and Postgres: a job that waits is one that is due later, or one that is known to be due.
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub(crate) mod columns {
    use crate::model::job::StateKind;

    /// Waits for other jobs.
    pub(crate) const AFTER: i16 = -1;
    pub(crate) const LATER: i16 = 0;
    pub(crate) const READY: i16 = 1;
    pub(crate) const RUNNING: i16 = 2;
    pub(crate) const DONE: i16 = 3;
    pub(crate) const DEAD: i16 = 4;
    pub(crate) const CANCELLED: i16 = 5;

    /// The state that a `state` column says.
    pub(crate) const fn kind(state: i16) -> Option<StateKind> {
        Some(match state {
            AFTER | LATER | READY => StateKind::Waiting,
            RUNNING => StateKind::Running,
            DONE => StateKind::Done,
            DEAD => StateKind::Dead,
            CANCELLED => StateKind::Cancelled,
            _ => return None,
        })
    }

    /// The `state` columns, first and last, of jobs in this state.
    pub(crate) fn of_state(state: StateKind) -> (i16, i16) {
        match state {
            StateKind::Waiting => (AFTER, READY),
            StateKind::Running => (RUNNING, RUNNING),
            StateKind::Done => (DONE, DONE),
            StateKind::Dead => (DEAD, DEAD),
            StateKind::Cancelled => (CANCELLED, CANCELLED),
        }
    }
}

/// The shapes with their names, each at the index that is its number.
const SHAPES: [(Shape, &str); 6] = [
    (Shape::List, "list"),
    (Shape::Map, "map"),
    (Shape::Text, "text"),
    (Shape::Count, "count"),
    (Shape::Last, "last"),
    (Shape::Nothing, "nothing"),
];

/// The name of a shape, which stands for it in SQLite and Postgres.
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub(crate) fn shape_name(shape: Shape) -> &'static str {
    SHAPES[shape as usize].1
}

/// The shape of this name.
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub(crate) fn shape_of_name(name: &str) -> Option<Shape> {
    SHAPES.iter().find(|(_, other)| *other == name).map(|(shape, _)| *shape)
}

/// The shape of this number, which stands for it in Redis.
#[cfg(feature = "redis")]
pub(crate) fn shape_of_number(number: u8) -> Option<Shape> {
    SHAPES.get(usize::from(number)).map(|(shape, _)| *shape)
}

/// Why attempts end, each at the index that is its number: the names stand for it in SQLite, the numbers in Redis.
#[cfg(any(feature = "sqlite", all(test, feature = "redis")))]
pub(crate) const ENDINGS: [&str; 7] = ["done", "failed", "snoozed", "cancelled", "discarded", "released", "lost"];

/// The number of why an attempt ended, and the text that goes with that.
#[cfg(any(feature = "redis", feature = "sqlite"))]
pub(crate) fn ending(ending: &Ending) -> (u8, Option<&str>) {
    match ending {
        Ending::Done => (0, None),
        Ending::Failed { error } => (1, Some(error)),
        Ending::Snoozed => (2, None),
        Ending::Cancelled { reason } => (3, Some(reason)),
        Ending::Discarded { reason } => (4, Some(reason)),
        Ending::Released => (5, None),
        Ending::Lost => (6, None),
    }
}

/// Why an attempt ended, by its number; `text` reads the text where one goes with it. `None` where no ending has the number.
#[cfg(any(feature = "redis", feature = "sqlite"))]
pub(crate) fn read_ending<E>(number: u8, text: impl FnOnce() -> Result<String, E>) -> Result<Option<Ending>, E> {
    Ok(Some(match number {
        0 => Ending::Done,
        1 => Ending::Failed { error: text()? },
        2 => Ending::Snoozed,
        3 => Ending::Cancelled { reason: text()? },
        4 => Ending::Discarded { reason: text()? },
        5 => Ending::Released,
        6 => Ending::Lost,
        _ => return Ok(None),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_stands_at_its_number_and_has_the_name_that_json_has_for_it() {
        for (index, (shape, name)) in SHAPES.iter().enumerate() {
            assert_eq!(*shape as usize, index);
            assert_eq!(serde_json::to_value(shape).unwrap(), *name);
        }
    }

    #[test]
    #[cfg(any(feature = "redis", feature = "sqlite"))]
    fn every_ending_is_read_as_it_was_written_and_has_the_name_that_json_has_for_it() {
        for (number, name) in (0..).zip(ENDINGS) {
            let read = read_ending(number, || Ok::<_, ()>("why".to_owned())).unwrap().unwrap();
            assert_eq!(ending(&read).0, number);
            assert!(serde_json::to_string(&read).unwrap().contains(name), "{read:?}");
        }
        assert_eq!(read_ending(7, || Ok::<_, ()>(String::new())), Ok(None));
    }

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
