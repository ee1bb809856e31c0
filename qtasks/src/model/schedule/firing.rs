//! Which ticks of a schedule fire now.

use std::iter::successors;

use jiff::{SignedDuration, Timestamp};

use super::{options::Missed, timetable::Timetable};

/// A tick that is found this late still fires, whatever becomes of missed ones.
const MERCY: SignedDuration = SignedDuration::from_mins(5);
/// How many ticks fire at a time, where all do.
const ROUND: usize = 1_000;
/// How many missed ticks are counted at a time. A schedule of seconds misses millions in a month, and nobody needs their number.
const COUNTED: usize = 10_000;

/// What fires now.
#[derive(Debug, PartialEq)]
pub(crate) struct Firing {
    /// The ticks that fire, the oldest first.
    pub(crate) ticks: Vec<Timestamp>,
    /// The tick after them. It has passed too where more than a thousand are to fire.
    pub(crate) next: Option<Timestamp>,
    /// How many ticks are passed over: ten thousand at most.
    pub(crate) missed: u64,
    /// The last one of them.
    pub(crate) last_missed: Option<Timestamp>,
}

/// What fires `now`, where `next` is the first tick that has not fired yet, and has passed.
pub(crate) fn fire(timetable: &Timetable, missed: Missed, next: Timestamp, now: Timestamp) -> Firing {
    let passed = || successors(Some(next), |tick| timetable.next_after(*tick)).take_while(|tick| *tick <= now);
    if missed == Missed::All {
        let ticks: Vec<_> = passed().take(ROUND).collect();
        let next = timetable.next_after(ticks.last().copied().unwrap_or(now));
        return Firing { ticks, next, missed: 0, last_missed: None };
    }
    let latest = latest(timetable, next, now);
    let fires = missed == Missed::Once || now.duration_since(latest) <= MERCY;
    let lost = || passed().take_while(|tick| !fires || *tick < latest);
    let missed = lost().take(COUNTED).count() as u64;
    let last_missed = if fires { (missed > 0).then(|| before(timetable, next, latest)) } else { Some(latest) };
    Firing {
        ticks: fires.then_some(latest).into_iter().collect(),
        next: timetable.next_after(now),
        missed,
        last_missed,
    }
}

/// The last tick until `now`. `first` is one of them. It halves the time in between, whatever ticks there are.
fn latest(timetable: &Timetable, first: Timestamp, now: Timestamp) -> Timestamp {
    let tick_by_now = |from: i64| {
        let tick = timetable.next_after(Timestamp::from_second(from).ok()?)?;
        (tick <= now).then_some(tick)
    };
    // From before `first` on there is one, and from `now` on there is none.
    let (mut before, mut after, mut latest) = (first.as_second(), now.as_second(), first);
    while before + 1 < after {
        let middle = before.midpoint(after);
        match tick_by_now(middle) {
            Some(tick) => (before, latest) = (tick.as_second().max(middle), tick),
            None => after = middle,
        }
    }
    tick_by_now(before).unwrap_or(latest)
}

/// The last tick before another one. `first` is one of them.
fn before(timetable: &Timetable, first: Timestamp, tick: Timestamp) -> Timestamp {
    let just_before = tick.checked_sub(SignedDuration::from_nanos(1)).unwrap_or(Timestamp::MIN);
    latest(timetable, first, just_before)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(time: &str) -> Timestamp {
        format!("2026-11-02T{time}Z").parse().unwrap()
    }

    fn timetable(expression: &str) -> Timetable {
        Timetable::new(expression, "UTC").unwrap()
    }

    fn fired(expression: &str, missed: Missed, next: &str, now: &str) -> Firing {
        fire(&timetable(expression), missed, at(next), at(now))
    }

    #[test]
    fn a_tick_fires_at_its_time() {
        for missed in [Missed::Skip, Missed::Once, Missed::All] {
            let firing = fired("0 * * * *", missed, "09:00:00", "09:00:00.004");
            let expected =
                Firing { ticks: vec![at("09:00:00")], next: Some(at("10:00:00")), missed: 0, last_missed: None };
            assert_eq!(firing, expected, "{missed:?}");
        }
    }

    #[test]
    fn a_deploy_at_nine_does_not_lose_the_run_of_nine() {
        for missed in [Missed::Skip, Missed::Once, Missed::All] {
            assert_eq!(fired("0 9 * * *", missed, "09:00:00", "09:05:00").ticks, [at("09:00:00")], "{missed:?}");
        }
        let late = fired("0 9 * * *", Missed::Skip, "09:00:00", "09:05:01");
        assert_eq!((late.ticks.len(), late.missed, late.last_missed), (0, 1, Some(at("09:00:00"))));
        // The following tick has come: it is not the one of before that fires late.
        let firing = fired("*/2 * * * *", Missed::Skip, "09:00:00", "09:03:00");
        assert_eq!((&firing.ticks[..], firing.missed), (&[at("09:02:00")][..], 1));
    }

    #[test]
    fn after_two_hours_without_a_worker_each_policy_does_what_it_says() {
        let of = |missed| fired("*/10 * * * *", missed, "09:00:00", "11:07:00");
        let next = Some(at("11:10:00"));
        let skip = of(Missed::Skip);
        assert_eq!(skip, Firing { ticks: vec![], next, missed: 13, last_missed: Some(at("11:00:00")) });
        let once = of(Missed::Once);
        let expected = Firing { ticks: vec![at("11:00:00")], next, missed: 12, last_missed: Some(at("10:50:00")) };
        assert_eq!(once, expected);
        let all = of(Missed::All);
        assert_eq!((all.ticks.len(), all.ticks[0], all.ticks[12]), (13, at("09:00:00"), at("11:00:00")));
        assert_eq!((all.next, all.missed), (next, 0));
    }

    #[test]
    fn fifteen_hundred_missed_ticks_fire_in_two_rounds() {
        let timetable = timetable("*/2 * * * * *");
        let (mut next, now) = (Some(at("09:00:00")), at("09:49:58"));
        let mut rounds = Vec::new();
        while let Some(tick) = next.filter(|tick| *tick <= now) {
            let firing = fire(&timetable, Missed::All, tick, now);
            next = firing.next;
            rounds.push(firing.ticks);
        }
        assert_eq!(rounds.iter().map(Vec::len).collect::<Vec<_>>(), [1_000, 500]);
        assert!(rounds.concat().is_sorted_by(|one, other| one < other));
        assert_eq!(next, Some(at("09:50:00")));
    }

    #[test]
    fn the_latest_tick_is_found_at_once_however_many_there_were() {
        for (expression, next, latest) in [
            ("* * * * 1 *", "2026-01-01T00:00:00Z", "2026-01-31T23:59:59Z"),
            ("* * * 1 * *", "2020-01-01T00:00:00Z", "2026-11-01T23:59:59Z"),
            ("0 0 1 1 *", "2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"),
            ("30 2 * * *", "2026-10-01T02:30:00Z", "2026-11-02T02:30:00Z"),
            ("every 7d", "2026-10-01T00:00:00Z", "2026-10-29T00:00:00Z"),
        ] {
            let latest: Timestamp = latest.parse().unwrap();
            let next = next.parse().unwrap();
            assert_eq!(super::latest(&timetable(expression), next, at("09:00:00.5")), latest, "{expression}");
            assert_eq!(super::latest(&timetable(expression), latest, latest), latest, "{expression}");
        }
    }

    #[test]
    fn a_month_of_seconds_is_passed_over_at_once() {
        let next = "2026-10-01T00:00:00Z".parse().unwrap();
        let firing = fire(&timetable("* * * * * *"), Missed::Skip, next, at("09:00:00.5"));
        assert_eq!((firing.ticks, firing.next), (vec![at("09:00:00")], Some(at("09:00:01"))));
        assert_eq!((firing.missed, firing.last_missed), (COUNTED as u64, Some(at("08:59:59"))));
    }

    proptest! {
        #[test]
        fn each_tick_is_fired_or_missed_once(
            step in 1_i64..200,
            outage in 0_i64..20_000,
            missed in prop::sample::select(vec![Missed::Skip, Missed::Once, Missed::All]),
        ) {
            let timetable = timetable(&format!("every {step}s"));
            let next = timetable.next_after(at("09:00:00")).unwrap();
            let now = next + SignedDuration::from_secs(outage);
            let firing = fire(&timetable, missed, next, now);
            let passed = (outage / step + 1).min(ROUND as i64 + if missed == Missed::All { 0 } else { i64::MAX / 2 });
            prop_assert_eq!(firing.ticks.len() as i64 + firing.missed.cast_signed(), passed.min(COUNTED as i64 + 1));
            let last = firing.ticks.last().copied().max(firing.last_missed).unwrap();
            prop_assert_eq!(firing.next, timetable.next_after(last));
        }
    }
}
