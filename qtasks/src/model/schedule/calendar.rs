//! The calendar, for what is checked when a program is compiled.

pub(crate) const SUNDAY: u8 = 0;
pub(crate) const SATURDAY: u8 = 6;

/// A day, as a calendar shows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Day {
    pub(crate) month: u8,
    pub(crate) day: u8,
    /// From Sunday on.
    pub(crate) weekday: u8,
    pub(crate) is_leap: bool,
}

/// How many days a month has.
pub(crate) const fn days_in_month(month: u8, is_leap: bool) -> u8 {
    match month {
        2 if is_leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

impl Day {
    /// The day after this one of the same year. That of 31 December has the month 13.
    pub(crate) const fn next(self) -> Self {
        let weekday = (self.weekday + 1) % 7;
        if self.day < days_in_month(self.month, self.is_leap) {
            return Self { day: self.day + 1, weekday, ..self };
        }
        Self { month: self.month + 1, day: 1, weekday, ..self }
    }
}

/// One of the kinds of years that the Gregorian calendar has: each begins on a weekday, and has a leap day or not. All of them
/// come again within 40 years.
#[derive(Clone, Copy)]
pub(crate) struct YearKind {
    is_leap: bool,
    first: u8,
}

impl YearKind {
    /// How many kinds there are.
    pub(crate) const ALL: u8 = 14;

    pub(crate) const fn of(number: u8) -> Self {
        Self { is_leap: number % 2 == 1, first: number / 2 }
    }

    /// The first of January.
    pub(crate) const fn first(self) -> Day {
        Day { month: 1, day: 1, weekday: self.first, is_leap: self.is_leap }
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    #[test]
    fn each_kind_of_year_comes_again_within_forty_years() {
        for begin in 1900..2200 {
            let kinds: std::collections::HashSet<_> = (begin..begin + 40)
                .map(|year| (date(year, 1, 1).in_leap_year(), date(year, 1, 1).weekday().to_sunday_zero_offset()))
                .collect();
            assert_eq!(kinds.len(), usize::from(YearKind::ALL), "from {begin} on");
        }
    }

    #[test]
    fn months_are_as_long_as_jiff_says() {
        for year in [2023, 2024] {
            for month in 1..=12 {
                let day = date(year, month, 1);
                assert_eq!(
                    days_in_month(month.cast_unsigned(), day.in_leap_year()),
                    day.days_in_month().cast_unsigned()
                );
            }
        }
    }
}
