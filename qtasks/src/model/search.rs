//! The language of searches: one for programs, the command line and addresses.

use std::{fmt, str::FromStr as _};

use jiff::{SignedDuration, Timestamp, civil};

use super::{
    find::{Find, FindArg, IdPrefix, Order, ParseIdPrefixError},
    job::StateKind,
};

/// A search that is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SearchError {
    /// A word in front of a colon is none of the language.
    #[error("a search knows no `{word}:`; there are {WORDS}, and `args.NAME:`")]
    Word {
        /// The word.
        word: String,
    },
    /// Nothing stands behind a colon, or between commas.
    #[error("`{word}:` lacks a value")]
    Empty {
        /// The word in front of the colon.
        word: String,
    },
    /// A word takes one value, and has several.
    #[error("{} takes one value; put one that has a comma in quotes", named(word.as_deref()))]
    Several {
        /// The word in front of the colon, if there is one.
        word: Option<String>,
    },
    /// A state that no job is in.
    #[error("no job is ever `{state}`; the states are waiting, running, done, dead and cancelled")]
    State {
        /// What was given for a state.
        state: String,
    },
    /// An order that there is not.
    #[error("`order:` is newest or oldest, not `{order}`")]
    Order {
        /// What was given for an order.
        order: String,
    },
    /// A time that is none.
    #[error("`{time}` is no time; write `2h` or `3d` for so long ago, a date like 2026-11-01, or 2026-11-01T09:00:00Z")]
    Time {
        /// What was given for a time.
        time: String,
    },
    /// Something that no id begins with.
    #[error(transparent)]
    Id(#[from] ParseIdPrefixError),
    /// A quote without its end.
    #[error("a quote has no end: {rest}")]
    Quote {
        /// What stands behind the quote.
        rest: String,
    },
}

fn named(word: Option<&str>) -> String {
    word.map_or_else(|| "a word alone".to_owned(), |word| format!("`{word}:`"))
}

/// The words of the language, for whom one was wrong.
const WORDS: &str = "`state:`, `task:`, `queue:`, `schedule:`, `id:`, `error:`, `after:`, `before:`, `ended-after:`, `ended-before:`, `order:`";

impl Find {
    /// Reads a search: words such as `state:dead task:import,report args.user.id:42 after:2h`, which all have to fit, with a
    /// comma between values of which one has to.
    ///
    /// | word | finds jobs |
    /// | --- | --- |
    /// | `state:dead` | in this state |
    /// | `task:import`, `queue:mail` | of this task, of this queue |
    /// | `schedule:digest` | that this schedule has enqueued |
    /// | `id:0193`, or `0193` alone | whose id begins so |
    /// | `import` alone | with this in the name of their task or queue |
    /// | `args.user.id:42` | with this argument; numbers compare as numbers |
    /// | `error:"connection refused"` | that ended in an error, or for a reason, with this in its text |
    /// | `after:2h`, `before:2026-11-01` | enqueued then: so long before `now`, or at a time, in UTC unless it says otherwise |
    /// | `ended-after:`, `ended-before:` | that ended then |
    /// | `order:oldest` | all, the oldest first |
    ///
    /// A value with a space, a comma or a quote in it stands in quotes, within which `\` takes a quote or itself as it is.
    ///
    /// # Errors
    ///
    /// [`SearchError`], with the words that there are.
    pub fn parse(text: &str, now: Timestamp) -> Result<Self, SearchError> {
        let mut find = Self::default();
        for term in terms(text)? {
            term.apply(&mut find, now)?;
        }
        Ok(find)
    }
}

/// One word of a search: a name in front of a colon, if there is one, and the values behind it.
struct Term {
    word: Option<String>,
    values: Vec<String>,
    /// Whether the first value began with a quote.
    is_quoted: bool,
}

impl Term {
    fn apply(self, find: &mut Find, now: Timestamp) -> Result<(), SearchError> {
        let Some(word) = self.word.clone() else {
            return bare(self, find);
        };
        if self.values.iter().any(String::is_empty) {
            return Err(SearchError::Empty { word });
        }
        match &*word {
            "state" => {
                find.states.extend(self.values.iter().map(|state| parse_state(state)).collect::<Result<Vec<_>, _>>()?)
            }
            "task" => find.tasks.extend(self.values),
            "queue" => find.queues.extend(self.values),
            "schedule" => find.schedules.extend(self.values),
            "id" => find.id = Some(IdPrefix::from_str(&self.one()?)?),
            "error" => find.error = Some(self.one()?),
            "after" => find.after = Some(parse_time(&self.one()?, now)?),
            "before" => find.before = Some(parse_time(&self.one()?, now)?),
            "ended-after" => find.ended_after = Some(parse_time(&self.one()?, now)?),
            "ended-before" => find.ended_before = Some(parse_time(&self.one()?, now)?),
            "order" => find.order = parse_order(&self.one()?)?,
            word => match word.strip_prefix("args.") {
                Some(path) if path.split('.').all(|name| !name.is_empty()) => {
                    let path = path.split('.').map(str::to_owned).collect();
                    find.args.push(FindArg { path, values: self.values });
                }
                _ => return Err(SearchError::Word { word: word.to_owned() }),
            },
        }
        Ok(())
    }

    /// The value, of which there must be one.
    fn one(self) -> Result<String, SearchError> {
        let Self { word, mut values, .. } = self;
        match (values.len(), values.pop()) {
            (1, Some(value)) => Ok(value),
            _ => Err(SearchError::Several { word }),
        }
    }
}

/// A word alone: the beginning of an id, if it looks like one and stands in no quotes, or a part of a name.
fn bare(term: Term, find: &mut Find) -> Result<(), SearchError> {
    let is_quoted = term.is_quoted;
    let word = term.one()?;
    match IdPrefix::from_str(&word) {
        Ok(id) if !is_quoted && word.len() >= 4 && word.starts_with(|first: char| first.is_ascii_digit()) => {
            find.id = Some(id);
        }
        _ => find.words.push(word),
    }
    Ok(())
}

fn parse_state(text: &str) -> Result<StateKind, SearchError> {
    let states = [StateKind::Waiting, StateKind::Running, StateKind::Done, StateKind::Dead, StateKind::Cancelled];
    let known = states.into_iter().find(|state| state.as_str() == text);
    known.ok_or_else(|| SearchError::State { state: text.to_owned() })
}

fn parse_order(text: &str) -> Result<Order, SearchError> {
    match text {
        "newest" => Ok(Order::Newest),
        "oldest" => Ok(Order::Oldest),
        order => Err(SearchError::Order { order: order.to_owned() }),
    }
}

/// A time: so long ago, a date, or a date and a time; in UTC where it names no offset.
fn parse_time(text: &str, now: Timestamp) -> Result<Timestamp, SearchError> {
    let ago = || {
        let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
        let seconds = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3_600,
            "d" => 86_400,
            "w" => 7 * 86_400,
            _ => return None,
        };
        let number = number.parse::<u32>().ok()?;
        now.checked_sub(SignedDuration::from_secs(i64::from(number) * seconds)).ok()
    };
    let at = || text.parse::<Timestamp>().ok();
    let of_day = || {
        let time = text.parse::<civil::DateTime>().or_else(|_| text.parse::<civil::Date>().map(Into::into)).ok()?;
        time.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|time| time.timestamp())
    };
    ago().or_else(at).or_else(of_day).ok_or_else(|| SearchError::Time { time: text.to_owned() })
}

/// The words of a search.
fn terms(text: &str) -> Result<Vec<Term>, SearchError> {
    let (mut terms, mut rest) = (Vec::new(), text.trim_start());
    while !rest.is_empty() {
        let (word, behind) = take_word(rest);
        let (values, behind) = take_values(behind)?;
        terms.push(Term { word, values, is_quoted: rest.starts_with('"') });
        rest = behind.trim_start();
    }
    Ok(terms)
}

/// The name in front of a colon, if the text begins with one, and what is behind the colon.
fn take_word(text: &str) -> (Option<String>, &str) {
    let end = text.find(|c: char| c.is_whitespace() || matches!(c, ':' | ',' | '"')).unwrap_or(text.len());
    match text[end..].strip_prefix(':') {
        Some(behind) => (Some(text[..end].to_owned()), behind),
        None => (None, text),
    }
}

/// The values at the beginning of a text, with commas between them, and what is behind them.
fn take_values(mut text: &str) -> Result<(Vec<String>, &str), SearchError> {
    let mut values = Vec::new();
    loop {
        let (value, behind) = take_value(text)?;
        values.push(value);
        match behind.strip_prefix(',') {
            Some(behind) => text = behind,
            None => return Ok((values, behind)),
        }
    }
}

/// The value at the beginning of a text, and what is behind it. Parts of it may stand in quotes.
fn take_value(text: &str) -> Result<(String, &str), SearchError> {
    let (mut value, mut in_quotes, mut quote) = (String::new(), false, 0);
    let mut chars = text.char_indices();
    while let Some((at, next)) = chars.next() {
        match next {
            '"' => (in_quotes, quote) = (!in_quotes, at),
            '\\' if in_quotes => value.extend(chars.next().map(|(_, next)| next)),
            ',' if !in_quotes => return Ok((value, &text[at..])),
            space if space.is_whitespace() && !in_quotes => return Ok((value, &text[at..])),
            other => value.push(other),
        }
    }
    if in_quotes { Err(SearchError::Quote { rest: text[quote + 1..].to_owned() }) } else { Ok((value, "")) }
}

/// The search in the words of its language. [`parse`](Find::parse) reads it as what it was.
impl fmt::Display for Find {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut terms = Vec::new();
        let list = |values: &[String]| values.iter().map(|value| quoted(value)).collect::<Vec<_>>().join(",");
        if !self.states.is_empty() {
            terms.push(format!(
                "state:{}",
                self.states.iter().map(|state| state.as_str()).collect::<Vec<_>>().join(",")
            ));
        }
        for (word, names) in [("task", &self.tasks), ("queue", &self.queues), ("schedule", &self.schedules)] {
            terms.extend((!names.is_empty()).then(|| format!("{word}:{}", list(names))));
        }
        terms.extend(self.id.iter().map(|id| format!("id:{id}")));
        terms.extend(self.words.iter().map(|word| in_quotes(word)));
        terms.extend(self.args.iter().map(|arg| format!("args.{}:{}", arg.path.join("."), list(&arg.values))));
        terms.extend(self.error.iter().map(|text| format!("error:{}", quoted(text))));
        let times = [
            ("after", self.after),
            ("before", self.before),
            ("ended-after", self.ended_after),
            ("ended-before", self.ended_before),
        ];
        terms.extend(times.into_iter().filter_map(|(word, time)| Some(format!("{word}:{}", time?))));
        terms.extend((self.order == Order::Oldest).then(|| "order:oldest".to_owned()));
        f.write_str(&terms.join(" "))
    }
}

/// A value as it stands in a search: in quotes, if it needs them.
fn quoted(value: &str) -> String {
    let is_plain = |c: char| !c.is_whitespace() && !matches!(c, ',' | '"' | '\\');
    if !value.is_empty() && value.chars().all(is_plain) { value.to_owned() } else { in_quotes(value) }
}

/// A value in quotes. A word alone always has them: without, it might be read as an id or as a name in front of a colon.
fn in_quotes(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests;
