//! What can be wrong with a schedule, said so that one sees what to write instead.

use crate::model::spelling::did_you_mean;

/// What is wrong with an expression. All texts are fixed, since they are also those of compile errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// It has not five or six fields.
    Count,
    /// A shorthand that there is not.
    Shorthand,
    /// `every` without a time that it takes.
    Every,
    /// Something that is no value of this field.
    Value(Field),
    /// A range that goes down.
    Backwards(Field),
    /// A step that is none of this field.
    Step(Field),
    /// Nothing between two commas, or before the first or after the last.
    Empty(Field),
    /// No date fits it.
    Never,
}

/// A field of an expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    /// 0 to 59.
    Second,
    /// 0 to 59.
    Minute,
    /// 0 to 23.
    Hour,
    /// The day of the month, 1 to 31.
    Day,
    /// 1 to 12, or a name.
    Month,
    /// 0 to 7, or a name.
    Weekday,
}

impl Wrong {
    /// What is wrong, and what may stand there.
    pub(crate) const fn message(self) -> &'static str {
        match self {
            Self::Count => {
                "a schedule has 5 fields: minute, hour, day of the month, month and weekday, as `0 9 * * MON-FRI`; or 6, with \
                 the second first; or it is `every 15m` or `@daily`"
            }
            Self::Shorthand => "the shorthands are `@hourly`, `@daily`, `@weekly`, `@monthly` and `@yearly`",
            Self::Every => {
                "`every` takes a time in whole seconds, minutes, hours or days, of at least one second: `every 90s`, `every 15m`, \
                 `every 6h`, `every 1d`"
            }
            Self::Value(field) => field.values(),
            Self::Backwards(field) => field.backwards(),
            Self::Step(field) => field.steps(),
            Self::Empty(field) => field.empty(),
            Self::Never => "no date fits this schedule, so it would never fire",
        }
    }
}

impl Field {
    const fn values(self) -> &'static str {
        match self {
            Self::Second => "the field of seconds takes 0 to 59: `*`, `30`, `0,30`, `10-20`, `*/15`",
            Self::Minute => "the field of minutes takes 0 to 59: `*`, `30`, `0,30`, `10-20`, `*/15`",
            Self::Hour => "the field of hours takes 0 to 23: `*`, `9`, `9,17`, `9-17`, `*/6`",
            Self::Day => {
                "the field of days takes 1 to 31: `*`, `15`, `1,15`, `1-7`, `*/2`, `L` for the last day, `L-2`, `15W` for the \
                 weekday nearest to the 15th, `LW`"
            }
            Self::Month => "the field of months takes 1 to 12, or JAN to DEC: `*`, `6`, `JAN,JUL`, `APR-SEP`, `*/3`",
            Self::Weekday => {
                "the field of weekdays takes 0 to 7, where 0 and 7 are Sunday, or SUN to SAT: `*`, `MON`, `MON,THU`, `MON-FRI`, \
                 `FRI#2` for the second Friday, `FRIL` for the last one"
            }
        }
    }

    const fn backwards(self) -> &'static str {
        match self {
            Self::Second => "a range of seconds goes up: write `50-59,0-10` for one that passes the minute",
            Self::Minute => "a range of minutes goes up: write `50-59,0-10` for one that passes the hour",
            Self::Hour => "a range of hours goes up: write `22-23,0-5` for one that passes midnight",
            Self::Day => "a range of days goes up: write `25-31,1-5` for one that passes the end of the month",
            Self::Month => "a range of months goes up: write `NOV-DEC,JAN-FEB` for one that passes the end of the year",
            Self::Weekday => {
                "a range of weekdays goes up, from MON to SUN: write `SAT,SUN,MON` for one that passes Sunday"
            }
        }
    }

    const fn steps(self) -> &'static str {
        match self {
            Self::Second => "a step of seconds is 1 to 59: `*/15`; write `*` in the minutes for once a minute",
            Self::Minute => "a step of minutes is 1 to 59: `*/15`; write `every 90m` for longer ones",
            Self::Hour => "a step of hours is 1 to 23: `*/6`; write `every 36h` for longer ones",
            Self::Day => "a step of days is 1 to 31: `*/2`",
            Self::Month => "a step of months is 1 to 12: `*/3`",
            Self::Weekday => "a step of weekdays is 1 to 7: `*/2`",
        }
    }

    const fn empty(self) -> &'static str {
        match self {
            Self::Second => "a value is missing in the field of seconds, beside a comma",
            Self::Minute => "a value is missing in the field of minutes, beside a comma",
            Self::Hour => "a value is missing in the field of hours, beside a comma",
            Self::Day => "a value is missing in the field of days, beside a comma",
            Self::Month => "a value is missing in the field of months, beside a comma",
            Self::Weekday => "a value is missing in the field of weekdays, beside a comma",
        }
    }
}

/// A schedule that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScheduleError {
    /// The expression is wrong.
    #[error("`{expression}`: {problem}")]
    Expression {
        /// The expression, as it was written.
        expression: String,
        /// What is wrong with it, and what may stand there.
        problem: &'static str,
    },
    /// There is no such time zone.
    #[error("there is no time zone `{timezone}`{}", did_you_mean(nearest.as_deref()))]
    Timezone {
        /// The name that was given.
        timezone: String,
        /// The name that is most like it, if one is.
        nearest: Option<String>,
    },
}

#[cfg(test)]
mod tests {
    use crate::model::schedule::timetable::Timetable;

    fn text(expression: &str) -> String {
        Timetable::new(expression, "UTC").unwrap_err().to_string()
    }

    #[test]
    fn an_error_says_which_field_is_wrong_and_what_it_may_be() {
        let said: Vec<_> = [
            "",
            "* * * *",
            "* * * * * * *",
            "@often",
            "@daily 5",
            "every",
            "every 0s",
            "every 1500ms",
            "every 5",
            "every 1 h",
            "61 * * * * *",
            "60 * * * *",
            "x * * * *",
            "5-3 * * * *",
            "*/60 * * * *",
            "*/0 * * * *",
            "1,,2 * * * *",
            "1, * * * *",
            "* 24 * * *",
            "* 22-2 * * *",
            "* */24 * * *",
            "* * 0 * *",
            "* * 32 * *",
            "* * L-31 * *",
            "* * 1-5W * *",
            "* * 25-5 * *",
            "* * * 13 *",
            "* * * FOO *",
            "* * * NOV-FEB *",
            "* * * */13 *",
            "* * * * 8",
            "* * * * FRI#6",
            "* * * * MON-FRI#2",
            "* * * * L",
            "* * * * */8",
            "? * * * *",
            "0 0 31 2 *",
            "0 0 30 FEB ?",
            "0 0 31 APR,JUN *",
        ]
        .iter()
        .map(|expression| text(expression))
        .collect();
        let expected = include_str!("wrong.txt");
        if std::env::var_os("INSTA_UPDATE").is_some() {
            let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/model/schedule/wrong.txt");
            std::fs::write(path, said.join("\n") + "\n").unwrap();
        }
        assert_eq!(said.join("\n") + "\n", expected);
    }
}
