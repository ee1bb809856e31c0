//! A schedule in English, for people who do not read cron.

use super::expression::{Cron, Days, Expression, Weekdays};

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const COUNTS: [&str; 5] = ["first", "second", "third", "fourth", "fifth"];
/// So many times of the day are named one by one.
const NAMED: u32 = 4;

/// The schedule in English: `at 09:00, Monday to Friday`.
pub(super) fn describe(expression: &Expression, text: &str) -> String {
    match expression {
        Expression::Every(seconds) => every(*seconds, text),
        Expression::Cron(cron) => {
            let parts = [Some(times(cron)), dates(cron), months(cron)];
            parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
        }
    }
}

fn every(seconds: u64, text: &str) -> String {
    let (count, unit) = match text.bytes().last().map(|unit| unit.to_ascii_lowercase()) {
        Some(b'd') => (seconds / 86_400, "day"),
        Some(b'h') => (seconds / 3_600, "hour"),
        Some(b'm') => (seconds / 60, "minute"),
        _ => (seconds, "second"),
    };
    if count == 1 { format!("every {unit}") } else { format!("every {count} {unit}s") }
}

fn times(cron: &Cron) -> String {
    let (seconds, minutes, hours) = (cron.seconds, cron.minutes, cron.hours);
    let counts = seconds.count_ones() * minutes.count_ones() * hours.count_ones();
    if counts <= NAMED {
        let mut times = Vec::new();
        for (hour, minute, second) in members(hours).flat_map(|hour| {
            members(minutes).flat_map(move |minute| members(seconds).map(move |second| (hour, minute, second)))
        }) {
            times.push(if seconds == 1 {
                format!("{hour:02}:{minute:02}")
            } else {
                format!("{hour:02}:{minute:02}:{second:02}")
            });
        }
        return format!("at {}", list(&times));
    }
    let parts = [
        (seconds != 1).then(|| part(seconds, 60, "second")),
        (minutes != ALL_60 || seconds == 1).then(|| part(minutes, 60, "minute")),
        (hours != ALL_24).then(|| in_hours(hours)),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

const ALL_60: u64 = (1 << 60) - 1;
const ALL_24: u64 = (1 << 24) - 1;

/// `every minute`, `every 15 minutes`, `at minute 5 and 35`.
fn part(set: u64, count: u32, unit: &str) -> String {
    match step(set, count) {
        Some(1) => format!("every {unit}"),
        Some(step) => format!("every {step} {unit}s"),
        None => format!("at {unit} {}", list(&runs(set, |number| number.to_string()))),
    }
}

/// The step of a set that holds each nth number from 0 on, of those below `count`.
fn step(set: u64, count: u32) -> Option<u32> {
    let step = match (set & !1).trailing_zeros() {
        step if step < count => step,
        _ => return None,
    };
    let all = (0..count).step_by(step as usize).fold(0, |all, number| all | 1_u64 << number);
    (set == all && (count.is_multiple_of(step) || set.count_ones() > 2)).then_some(step)
}

fn in_hours(hours: u64) -> String {
    match step(hours, 24) {
        Some(step) => format!("of every {} hour", ordinal(step)),
        None => format!("of hour {}", list(&runs(hours, |hour| hour.to_string()))),
    }
}

fn dates(cron: &Cron) -> Option<String> {
    let (days, weekdays) = (of_days(&cron.days), of_weekdays(&cron.weekdays));
    match (days, weekdays) {
        (Some(days), Some(weekdays)) if cron.days.is_open || cron.weekdays.is_open => {
            Some(format!("{days} if that is {weekdays}"))
        }
        (Some(days), Some(weekdays)) => Some(format!("{days} or {weekdays}")),
        (days, weekdays) => days.or(weekdays),
    }
}

fn of_days(days: &Days) -> Option<String> {
    const ALL: u64 = u32::MAX as u64 & !1;
    if days.numbers == ALL {
        return None;
    }
    let mut parts = Vec::new();
    if days.numbers != 0 {
        parts.push(format!("on day {}", list(&runs(days.numbers, |day| day.to_string()))));
    }
    for before in members(days.from_last) {
        parts.push(match before {
            0 => "on the last day".to_owned(),
            1 => "on the last day but one".to_owned(),
            before => format!("{before} days before the last one"),
        });
    }
    for day in members(days.nearest) {
        parts.push(match day {
            0 => "on the last working day".to_owned(),
            day => format!("on the working day nearest to day {day}"),
        });
    }
    Some(format!("{} of the month", list(&parts)))
}

fn of_weekdays(weekdays: &Weekdays) -> Option<String> {
    let name = |weekday: u32| WEEKDAYS[weekday as usize].to_owned();
    if weekdays.each == 0b111_1111 {
        return None;
    }
    // The week of most people begins on Monday.
    let from_monday = weekdays.each >> 1 | (weekdays.each & 1) << 6;
    let mut parts = runs(from_monday, |weekday| name((weekday + 1) % 7));
    let nth = members(weekdays.nth).map(|nth| format!("the {} {}", COUNTS[nth as usize % 5], name(nth / 5)));
    parts.extend(nth);
    parts.extend(members(weekdays.last).map(|weekday| format!("the last {}", name(weekday))));
    let of_month = if weekdays.nth | weekdays.last == 0 { "" } else { " of the month" };
    Some(format!("{}{of_month}", list(&parts)))
}

fn months(cron: &Cron) -> Option<String> {
    const ALL: u64 = 0b1_1111_1111_1110;
    let name = |month: u32| MONTHS[month as usize - 1].to_owned();
    (cron.months != ALL).then(|| format!("in {}", list(&runs(cron.months, name))))
}

fn members(set: u64) -> impl Iterator<Item = u32> {
    (0..64).filter(move |number| set >> number & 1 == 1)
}

/// The numbers of a set, where three or more in a row are one range.
fn runs(set: u64, name: impl Fn(u32) -> String) -> Vec<String> {
    let (mut runs, mut rest) = (Vec::new(), set);
    while rest != 0 {
        let first = rest.trailing_zeros();
        let length = (rest >> first).trailing_ones();
        let last = first + length - 1;
        match length {
            1 => runs.push(name(first)),
            2 => runs.extend([name(first), name(last)]),
            _ => runs.push(format!("{} to {}", name(first), name(last))),
        }
        rest = if last >= 63 { 0 } else { rest >> (last + 1) << (last + 1) };
    }
    runs
}

/// `a`, `a and b`, `a, b and c`.
fn list(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

fn ordinal(number: u32) -> String {
    match number {
        1 => "single".to_owned(),
        2 => "second".to_owned(),
        3 => "third".to_owned(),
        number => format!("{number}th"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::schedule::grammar;

    #[test]
    fn schedules_are_said_in_english() {
        for (text, said) in [
            ("0 9 * * MON-FRI", "at 09:00, Monday to Friday"),
            ("30 6 * * *", "at 06:30"),
            ("0 9,17 * * *", "at 09:00 and 17:00"),
            ("*/15 * * * *", "every 15 minutes"),
            ("* * * * *", "every minute"),
            ("* * * * * *", "every second"),
            ("*/5 * * * * *", "every 5 seconds"),
            ("*/10 9-17 * * 1-5", "every 10 minutes of hour 9 to 17, Monday to Friday"),
            ("5,35 * * * *", "at minute 5 and 35"),
            ("0 */6 * * *", "at 00:00, 06:00, 12:00 and 18:00"),
            ("0 * * * *", "at minute 0"),
            ("0 */2 * * *", "at minute 0 of every second hour"),
            ("0 0 1,15 * *", "at 00:00, on day 1 and 15 of the month"),
            ("0 0 L * *", "at 00:00, on the last day of the month"),
            (
                "0 0 LW,15W * *",
                "at 00:00, on the last working day and on the working day nearest to day 15 of the month",
            ),
            ("0 0 13 * FRI", "at 00:00, on day 13 of the month or Friday"),
            (
                "0 0 */2 * FRI",
                "at 00:00, on day 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29 and 31 of the month if that is Friday",
            ),
            ("0 0 * * FRI#2", "at 00:00, the second Friday of the month"),
            ("0 0 * * FRIL", "at 00:00, the last Friday of the month"),
            ("0 0 * JAN,JUL *", "at 00:00, in January and July"),
            ("30 15 10 * * SAT-SUN", "at 10:15:30, Saturday and Sunday"),
            ("every 90s", "every 90 seconds"),
            ("every 1d", "every day"),
            ("@weekly", "at 00:00, Sunday"),
        ] {
            assert_eq!(describe(&grammar::parse(text).unwrap(), text), said, "{text}");
        }
    }
}
