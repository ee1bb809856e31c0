use jiff::civil::{DateTime, Weekday};
use proptest::prelude::*;

use super::*;

fn timetable(expression: &str, timezone: &str) -> Timetable {
    Timetable::new(expression, timezone).unwrap_or_else(|error| panic!("{error}"))
}

/// The ticks after a time of the day in the zone, as the clocks show them.
fn ticks(expression: &str, timezone: &str, after: &str, count: usize) -> Vec<String> {
    let timetable = timetable(expression, timezone);
    let zone = &timetable.timezone;
    let after = zone.to_ambiguous_zoned(after.parse().unwrap()).compatible().unwrap().timestamp();
    let ticks = std::iter::successors(timetable.next_after(after), |tick| timetable.next_after(*tick));
    ticks.take(count).map(|tick| tick.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M%:z").to_string()).collect()
}

#[test]
fn at_changes_of_the_clock_a_schedule_does_what_the_table_says() {
    let new_york = "America/New_York";
    let spring = ticks("30 2 * * *", new_york, "2026-03-07T12:00", 2);
    assert_eq!(spring, ["2026-03-08 03:00-04:00", "2026-03-09 02:30-04:00"]);
    let autumn = ticks("30 1 * * *", new_york, "2026-10-31T12:00", 2);
    assert_eq!(autumn, ["2026-11-01 01:30-04:00", "2026-11-02 01:30-05:00"]);
    let halves = ticks("*/30 * * * *", new_york, "2026-11-01T00:45", 5);
    let expected = ["01:00-04:00", "01:30-04:00", "01:00-05:00", "01:30-05:00", "02:00-05:00"];
    assert_eq!(halves, expected.map(|time| format!("2026-11-01 {time}")));
    let list = ticks("30 1,2 * * *", new_york, "2026-10-31T12:00", 3);
    assert_eq!(list, ["2026-11-01 01:30-04:00", "2026-11-01 02:30-05:00", "2026-11-02 01:30-05:00"]);
    let santiago = ticks("0 0 * * *", "America/Santiago", "2026-09-05T12:00", 2);
    assert_eq!(santiago, ["2026-09-06 01:00-03:00", "2026-09-07 00:00-03:00"]);
    let beirut = ticks("0 0 * * *", "Asia/Beirut", "2026-03-28T12:00", 1);
    assert_eq!(beirut, ["2026-03-29 01:00+03:00"]);
    let half_an_hour = ticks("0 2 * * *", "Australia/Lord_Howe", "2026-10-03T12:00", 2);
    assert_eq!(half_an_hour, ["2026-10-04 02:30+11:00", "2026-10-05 02:00+11:00"]);
    let first_pass = ticks("45 1 * * *", "Australia/Lord_Howe", "2026-04-04T12:00", 2);
    assert_eq!(first_pass, ["2026-04-05 01:45+11:00", "2026-04-06 01:45+10:30"]);
    let skipped_day = ticks("0 12 * * *", "Pacific/Apia", "2011-12-29T00:00", 2);
    assert_eq!(skipped_day, ["2011-12-29 12:00-10:00", "2011-12-31 12:00+14:00"]);
    let moscow = ticks("0 9 * * MON-FRI", "Europe/Moscow", "2026-11-27T10:00", 2);
    assert_eq!(moscow, ["2026-11-30 09:00+03:00", "2026-12-01 09:00+03:00"]);
}

#[test]
fn two_times_in_one_gap_fire_once_and_intervals_do_not() {
    let berlin = "Europe/Berlin";
    let times = ticks("0,30 2,3 * * *", berlin, "2026-03-28T23:00", 3);
    assert_eq!(times, ["2026-03-29 03:00+02:00", "2026-03-29 03:30+02:00", "2026-03-30 02:00+02:00"]);
    let intervals = ticks("*/20 2 * * *", berlin, "2026-03-28T23:00", 1);
    assert_eq!(intervals, ["2026-03-30 02:00+02:00"]);
}

#[test]
fn rare_days_are_found() {
    let at = |expression: &str| ticks(expression, "UTC", "2026-11-27T00:00", 1).concat();
    assert_eq!(at("0 0 29 2 *"), "2028-02-29 00:00+00:00");
    assert_eq!(at("0 0 29 FEB */7"), "2032-02-29 00:00+00:00", "a Sunday");
    assert_eq!(at("0 0 L 2 *"), "2027-02-28 00:00+00:00");
    assert_eq!(at("59 23 31 12 *"), "2026-12-31 23:59+00:00");
    assert_eq!(at("0 0 L-2 * *"), "2026-11-28 00:00+00:00");
    assert_eq!(at("0 0 LW * *"), "2026-11-30 00:00+00:00");
    assert_eq!(at("0 0 1W 8 *"), "2027-08-02 00:00+00:00", "a Sunday, and the month begins with it");
    assert_eq!(at("0 0 * * 5#5"), "2027-01-29 00:00+00:00");
    assert_eq!(at("0 0 * * MONL"), "2026-11-30 00:00+00:00");
    assert_eq!(at("0 0 1 * THU"), "2026-12-01 00:00+00:00", "either of them");
    let after_a_century = ticks("0 0 29 2 *", "UTC", "2096-03-01T00:00", 1);
    assert_eq!(after_a_century, ["2104-02-29 00:00+00:00"]);
}

#[test]
fn sunday_is_zero_and_seven_and_ranges_may_end_with_it() {
    let of = |text| match grammar::parse(text).unwrap() {
        Expression::Cron(cron) => cron.weekdays.each,
        Expression::Every(_) => unreachable!("it is cron"),
    };
    assert_eq!(of("* * * * 0"), of("* * * * 7"));
    assert_eq!(of("* * * * SAT-SUN"), 0b100_0001);
    assert_eq!(of("* * * * fri-7"), 0b110_0001);
    assert_eq!(of("* * * * *"), 0b111_1111);
    assert_eq!(of("* * * * MON-FRI/2"), 0b010_1010);
}

#[test]
fn a_step_begins_at_a_number_and_ends_with_a_range() {
    let of = |text: &str| match grammar::parse(text).unwrap() {
        Expression::Cron(cron) => cron.minutes,
        Expression::Every(_) => unreachable!("it is cron"),
    };
    assert_eq!(of("50/5 * * * *"), 1 << 50 | 1 << 55);
    assert_eq!(of("50-54/2 * * * *"), 1 << 50 | 1 << 52 | 1 << 54);
    assert_eq!((of("5-5/3 * * * *"), of("0-0/1 * * * *"), of("59/7 * * * *")), (1 << 5, 1, 1 << 59));
}

#[test]
fn a_period_counts_from_1970() {
    let next =
        |expression, after: &str| timetable(expression, "UTC").next_after(after.parse().unwrap()).unwrap().to_string();
    assert_eq!(next("every 90s", "1970-01-01T00:01:30Z"), "1970-01-01T00:03:00Z");
    assert_eq!(next("every 90s", "1969-12-31T23:59:59.5Z"), "1970-01-01T00:00:00Z");
    assert_eq!(next("every 15m", "2026-11-27T10:14:59.999Z"), "2026-11-27T10:15:00Z");
    assert_eq!(next("EVERY 1D", "2026-11-27T10:14:59Z"), "2026-11-28T00:00:00Z");
}

#[test]
fn at_the_end_of_time_there_is_no_further_tick() {
    for expression in ["* * * * * *", "0 0 1 1 *", "every 1d", "30 2 29 2 *"] {
        assert_eq!(timetable(expression, "America/New_York").next_after(Timestamp::MAX), None, "{expression}");
    }
}

/// A schedule, and what it means said another way.
type Case = (&'static str, bool, fn(DateTime) -> bool);

const CASES: [Case; 9] = [
    ("*/30 * * * *", true, |time| time.minute() % 30 == 0),
    ("*/7 */5 * * *", true, |time| time.minute() % 7 == 0 && time.hour() % 5 == 0),
    ("15 * * * SUN", true, |time| time.minute() == 15 && time.weekday() == Weekday::Sunday),
    ("30 2 * * *", false, |time| (time.hour(), time.minute()) == (2, 30)),
    ("0,20,40 0,1,2,3 * * *", false, |time| time.minute() % 20 == 0 && time.hour() < 4),
    ("0 0 L * *", false, |time| (time.hour(), time.minute()) == (0, 0) && time.day() == time.date().days_in_month()),
    ("45 1 1-7 * SUN", false, |time| {
        (time.hour(), time.minute()) == (1, 45) && (time.day() <= 7 || time.weekday() == Weekday::Sunday)
    }),
    ("5 2 * MAR,OCT SUN#2,SUNL", false, |time| {
        let date = time.date();
        let is_nth = (8..=14).contains(&date.day()) || date.day() + 7 > date.days_in_month();
        (time.hour(), time.minute()) == (2, 5)
            && [3, 10].contains(&date.month())
            && date.weekday() == Weekday::Sunday
            && is_nth
    }),
    ("0 0 * * *", false, |time| (time.hour(), time.minute()) == (0, 0)),
];

/// So many minutes from `first` on, each with what the clocks of a zone show.
fn minutes(zone: &TimeZone, first: Timestamp, count: i64) -> Vec<(Timestamp, DateTime)> {
    let times = (0..=count).map(|number| first + SignedDuration::from_mins(number));
    times.map(|time| (time, zone.to_datetime(time))).collect()
}

/// A walk over minutes: at which of them, but for the first, the schedule fires.
fn walk(minutes: &[(Timestamp, DateTime)], (_, is_interval, fits): Case) -> Vec<Timestamp> {
    let (_, mut latest) = minutes[0];
    let mut fired = Vec::new();
    for &(time, civil) in &minutes[1..] {
        if is_interval {
            fired.extend(fits(civil).then_some(time));
            continue;
        }
        let passed = latest.duration_until(civil).as_mins();
        if passed <= 0 {
            continue;
        }
        let is_passed_over = |back: i64| fits(civil - SignedDuration::from_mins(back));
        let looks_back = if passed <= 180 + 1 { passed } else { 1 };
        fired.extend((0..looks_back).any(is_passed_over).then_some(time));
        latest = civil;
    }
    fired
}

/// Three years in ten zones: minute by minute around the changes of the clocks, or throughout, where `QTASKS_LONG` is set.
#[test]
fn a_walk_minute_by_minute_finds_the_same_ticks() {
    const DAY: i64 = 24 * 60;
    let zones = [
        ("America/New_York", 2025),
        ("America/Santiago", 2025),
        ("Europe/Berlin", 2025),
        ("Europe/Moscow", 2010),
        ("Asia/Beirut", 2025),
        ("Africa/Casablanca", 2025),
        ("Australia/Lord_Howe", 2025),
        ("Pacific/Apia", 2010),
        ("Asia/Tehran", 2020),
        ("America/St_Johns", 2009),
    ];
    let is_long = std::env::var_os("QTASKS_LONG").is_some();
    for (name, year) in zones {
        let zone = zones::find(name).unwrap();
        let begin = civil::date(year, 1, 1).to_zoned(zone.clone()).unwrap().timestamp();
        let end = begin + SignedDuration::from_hours(3 * 365 * 24);
        let changes = zone.following(begin).map(|change| change.timestamp()).take_while(|change| *change < end);
        let walks: Vec<_> = if is_long {
            vec![(begin, 3 * 365 * DAY)]
        } else {
            changes.map(|change| (change - SignedDuration::from_hours(50), 4 * DAY)).collect()
        };
        assert!(walks.len() >= if is_long { 1 } else { 2 }, "{name} has changes");
        for (first, count) in walks {
            let minutes = minutes(&zone, first, count);
            for case in CASES {
                let timetable = timetable(case.0, name);
                let last = first + SignedDuration::from_mins(count);
                let ticks = std::iter::successors(timetable.next_after(first), |tick| timetable.next_after(*tick));
                let ticks: Vec<_> = ticks.take_while(|tick| *tick <= last).collect();
                assert_eq!(ticks, walk(&minutes, case), "{} in {name} from {first} on", case.0);
            }
        }
    }
}

fn field(lowest: u32, highest: u32) -> impl Strategy<Value = String> {
    let number = move || lowest..=highest;
    prop_oneof![
        3 => Just("*".to_owned()),
        3 => number().prop_map(|number| number.to_string()),
        1 => (number(), number()).prop_map(|(one, other)| format!("{}-{}", one.min(other), one.max(other))),
        1 => (1..highest).prop_map(|step| format!("*/{step}")),
        1 => (number(), number()).prop_map(|(one, other)| format!("{one},{other}")),
    ]
}

proptest! {
    #[test]
    fn ticks_come_one_after_the_other_and_none_is_passed_over(
        fields in (field(0, 59), field(0, 59), field(0, 23), field(1, 28), field(1, 12), field(0, 7)),
        zone in prop::sample::select(vec!["UTC", "Europe/Berlin", "Australia/Lord_Howe", "Africa/Casablanca"]),
        seconds in 0_i64..4_000_000_000,
        share in 0.0..1.0_f64,
    ) {
        let (second, minute, hour, day, month, weekday) = fields;
        let timetable = timetable(&format!("{second} {minute} {hour} {day} {month} {weekday}"), zone);
        let after = Timestamp::from_second(seconds).unwrap();
        let tick = timetable.next_after(after).unwrap();
        prop_assert!(tick > after);
        prop_assert_eq!(tick.subsec_nanosecond(), 0);
        // From anywhere in between, that tick is the next one.
        let between = after + SignedDuration::from_secs((tick.duration_since(after).as_secs() as f64 * share) as i64);
        if between < tick {
            prop_assert_eq!(timetable.next_after(between), Some(tick));
        }
        prop_assert!(timetable.next_after(tick).unwrap() > tick);
    }

    #[test]
    fn no_text_breaks_the_reader(text in "[-*/,0-9A-Za-z@#? ]{0,30}") {
        _ = Timetable::new(&text, "UTC");
    }
}
