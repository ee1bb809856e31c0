//! When a schedule fires: its expression in its time zone, with the changes of the clocks there.

use jiff::{
    SignedDuration, Timestamp, civil,
    tz::{AmbiguousOffset, Offset, TimeZone},
};

use super::{
    calendar::Day,
    expression::{Cron, Expression, has},
    grammar,
    wrong::ScheduleError,
    zones,
};

/// A gap in the time of day that is longer leaves out what falls into it, as a day that an island passes over.
const LONGEST_GAP: i32 = 3 * 3_600;

/// When a schedule fires.
///
/// At changes of the clock, a schedule of times, as `30 2 * * *`, fires at each once: right after the gap for a time that does not
/// exist, and at the first of two times that are the same. One of intervals, whose minutes or hours hold `*` or a step, goes by
/// the time that passes.
#[derive(Clone, Debug)]
pub(crate) struct Timetable {
    text: String,
    expression: Expression,
    timezone: TimeZone,
}

impl Timetable {
    /// Of an expression, in the zone of this name.
    pub(crate) fn new(expression: &str, timezone: &str) -> Result<Self, ScheduleError> {
        let text = expression.trim().to_owned();
        let expression = grammar::parse(&text)
            .map_err(|wrong| ScheduleError::Expression { expression: text.clone(), problem: wrong.message() })?;
        Ok(Self { text, expression, timezone: zones::find(timezone)? })
    }

    /// The schedule in English.
    pub(crate) fn describe(&self) -> String {
        super::describe::describe(&self.expression, &self.text)
    }

    /// The first tick after a time; none when there is none before the year 10000.
    pub(crate) fn next_after(&self, time: Timestamp) -> Option<Timestamp> {
        match &self.expression {
            Expression::Every(seconds) => {
                let seconds = i64::try_from(*seconds).ok()?;
                let passed = floor(time).div_euclid(seconds);
                Timestamp::from_second(passed.checked_add(1)?.checked_mul(seconds)?).ok()
            }
            Expression::Cron(cron) if cron.is_interval => self.next_of_intervals(cron, time),
            Expression::Cron(cron) => self.next_of_times(cron, time),
        }
    }

    /// The next tick of a schedule of times: each time of the day that fits, mapped to the moment at which it first is.
    fn next_of_times(&self, cron: &Cron, time: Timestamp) -> Option<Timestamp> {
        let mut civil = self.timezone.to_datetime(time);
        loop {
            civil = next_civil(cron, civil)?;
            if let Some(tick) = self.moment_of(civil).filter(|tick| *tick > time) {
                return Some(tick);
            }
        }
    }

    /// When the clocks first show this time, or the end of the gap that it falls into.
    fn moment_of(&self, civil: civil::DateTime) -> Option<Timestamp> {
        let ambiguous = self.timezone.to_ambiguous_timestamp(civil);
        match ambiguous.offset() {
            AmbiguousOffset::Unambiguous { offset } | AmbiguousOffset::Fold { before: offset, .. } => {
                offset.to_timestamp(civil).ok()
            }
            AmbiguousOffset::Gap { before, after } => {
                let is_short = after.seconds() - before.seconds() <= LONGEST_GAP;
                // By the later offset, the time lies before the change.
                let before_change = after.to_timestamp(civil).ok().filter(|_| is_short)?;
                Some(self.timezone.following(before_change).next()?.timestamp())
            }
        }
    }

    /// The next tick of a schedule of intervals: between two changes of the clocks, each moment at which they show a time that
    /// fits.
    fn next_of_intervals(&self, cron: &Cron, time: Timestamp) -> Option<Timestamp> {
        let mut civil = self.timezone.to_datetime(time);
        let mut offset = self.timezone.to_offset(time);
        let mut changes = self.timezone.following(time);
        loop {
            let change = changes.next();
            let end = change.as_ref().map_or(Timestamp::MAX, |change| change.timestamp());
            if let Some(tick) = tick_before(cron, civil, offset, end) {
                return Some(tick);
            }
            // The change itself is a moment at which a schedule may fire.
            offset = change?.offset();
            civil = offset.to_datetime(end).checked_sub(SignedDuration::from_nanos(1)).ok()?;
        }
    }
}

/// The first tick after a time of the day and before a moment, while the clocks are ahead of UTC by `offset`.
fn tick_before(cron: &Cron, civil: civil::DateTime, offset: Offset, end: Timestamp) -> Option<Timestamp> {
    let tick = offset.to_timestamp(next_civil(cron, civil)?).ok()?;
    (tick < end).then_some(tick)
}

/// The seconds since 1970 that have passed as a whole.
fn floor(time: Timestamp) -> i64 {
    time.as_second() - i64::from(time.subsec_nanosecond() < 0)
}

/// The first time of the day after another, on the same day or a later one, that fits the fields.
fn next_civil(cron: &Cron, after: civil::DateTime) -> Option<civil::DateTime> {
    let mut date = after.date();
    if fits(cron, date)
        && let Some(time) = next_time(cron, after.time())
    {
        return Some(date.to_datetime(time));
    }
    let first = first_time(cron)?;
    // All kinds of years come again within forty, except where a century has no leap day.
    for _ in 0..FAR {
        date = if has(cron.months, date.month().cast_unsigned()) {
            date.tomorrow().ok()?
        } else {
            date.last_of_month().tomorrow().ok()?
        };
        if fits(cron, date) {
            return Some(date.to_datetime(first));
        }
    }
    None
}

/// How many days a search goes ahead: more than 48 years.
const FAR: usize = 48 * 366;

fn fits(cron: &Cron, date: civil::Date) -> bool {
    cron.fits(Day {
        month: date.month().cast_unsigned(),
        day: date.day().cast_unsigned(),
        weekday: date.weekday().to_sunday_zero_offset().cast_unsigned(),
        is_leap: date.in_leap_year(),
    })
}

fn first_time(cron: &Cron) -> Option<civil::Time> {
    let first = |set: u64| i8::try_from(set.trailing_zeros()).ok();
    civil::Time::new(first(cron.hours)?, first(cron.minutes)?, first(cron.seconds)?, 0).ok()
}

/// The first time after another on the same day.
fn next_time(cron: &Cron, after: civil::Time) -> Option<civil::Time> {
    let [hour, minute, second] = [after.hour(), after.minute(), after.second()].map(i8::cast_unsigned);
    let make = |hour, minute, second: u8| civil::Time::new(hour as i8, minute as i8, second.cast_signed(), 0).ok();
    let first = |set: u64| set.trailing_zeros() as u8;
    if has(cron.hours, hour) {
        if has(cron.minutes, minute)
            && let Some(second) = following(cron.seconds, second)
        {
            return make(hour, minute, second);
        }
        if let Some(minute) = following(cron.minutes, minute) {
            return make(hour, minute, first(cron.seconds));
        }
    }
    make(following(cron.hours, hour)?, first(cron.minutes), first(cron.seconds))
}

/// The first number of a set after another.
fn following(set: u64, number: u8) -> Option<u8> {
    let rest = set & u64::MAX.checked_shl(u32::from(number) + 1).unwrap_or(0);
    (rest != 0).then(|| rest.trailing_zeros() as u8)
}

#[cfg(test)]
mod tests;
