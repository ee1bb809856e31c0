//! A cron expression as sets of numbers, and the dates that are in them.
//!
//! All functions are `const`, so that an expression in an attribute is checked when the program is compiled.

use super::calendar::{Day, SATURDAY, SUNDAY, YearKind, days_in_month};

/// When a schedule fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expression {
    /// After each so many seconds, counted from 1970.
    Every(u64),
    /// At these times of the day, on these days.
    Cron(Cron),
}

/// The numbers that each field of a cron expression allows, a bit for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cron {
    pub(crate) seconds: u64,
    pub(crate) minutes: u64,
    pub(crate) hours: u64,
    pub(crate) months: u64,
    pub(crate) days: Days,
    pub(crate) weekdays: Weekdays,
    /// Whether the minutes or the hours hold `*` or a step.
    pub(crate) is_interval: bool,
}

/// The days of the month.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Days {
    /// By their numbers.
    pub(crate) numbers: u64,
    /// So many days before the last one.
    pub(crate) from_last: u64,
    /// The working days nearest to these; 0 is the last working day of the month.
    pub(crate) nearest: u64,
    /// Whether the field begins with `*` or `?`.
    pub(crate) is_open: bool,
}

/// The weekdays, from Sunday on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Weekdays {
    /// Each of the month.
    pub(crate) each: u64,
    /// The nth of the month: bit `weekday * 5 + n - 1`.
    pub(crate) nth: u64,
    /// The last of the month.
    pub(crate) last: u64,
    /// Whether the field begins with `*` or `?`.
    pub(crate) is_open: bool,
}

pub(crate) const fn has(set: u64, number: u8) -> bool {
    set >> number & 1 == 1
}

impl Cron {
    /// Whether there is a day on which it fires.
    pub(crate) const fn fits_some_day(&self) -> bool {
        let mut kind = 0;
        while kind < YearKind::ALL {
            let mut day = YearKind::of(kind).first();
            while day.month <= 12 {
                if self.fits(day) {
                    return true;
                }
                day = day.next();
            }
            kind += 1;
        }
        false
    }

    /// Whether it fires on this day. Where both the day of the month and the weekday are given, one of them has to fit, as in
    /// cron; both, if one of the fields begins with `*` or `?`.
    pub(crate) const fn fits(&self, day: Day) -> bool {
        if !has(self.months, day.month) {
            return false;
        }
        let (by_day, by_weekday) = (self.days.fit(day), self.weekdays.fit(day));
        if self.days.is_open || self.weekdays.is_open { by_day && by_weekday } else { by_day || by_weekday }
    }
}

impl Days {
    const fn fit(&self, day: Day) -> bool {
        let length = days_in_month(day.month, day.is_leap);
        if has(self.numbers, day.day) || has(self.from_last, length - day.day) {
            return true;
        }
        let mut target = 0;
        while target <= length {
            if has(self.nearest, target) && day.day == working_day(target, day, length) {
                return true;
            }
            target += 1;
        }
        false
    }
}

/// The working day of the month nearest to a day, Monday to Friday; the last one for 0.
const fn working_day(target: u8, day: Day, length: u8) -> u8 {
    let target = if target == 0 { length } else { target };
    let weekday = (day.weekday + 35 + target - day.day) % 7;
    match weekday {
        SATURDAY if target > 1 => target - 1,
        SATURDAY => target + 2,
        SUNDAY if target < length => target + 1,
        SUNDAY => target - 2,
        _ => target,
    }
}

impl Weekdays {
    const fn fit(&self, day: Day) -> bool {
        let is_last = day.day + 7 > days_in_month(day.month, day.is_leap);
        has(self.each, day.weekday)
            || has(self.nth, day.weekday * 5 + (day.day - 1) / 7)
            || is_last && has(self.last, day.weekday)
    }
}
