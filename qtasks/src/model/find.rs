//! Which jobs are found, and how far a search goes.

use std::{fmt, ops::RangeInclusive, str::FromStr};

use jiff::Timestamp;

use super::{
    job::{Job, JobId, State, StateKind},
    schedule::tick,
};

/// Which jobs to find, and in which order. The default finds all, the newest first. Where several values are named, one of
/// them has to fit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Find {
    /// Only jobs of these tasks.
    pub tasks: Vec<String>,
    /// Only jobs of these queues.
    pub queues: Vec<String>,
    /// Only jobs in these states.
    pub states: Vec<StateKind>,
    /// Only jobs whose id begins so.
    pub id: Option<IdPrefix>,
    /// Only jobs of these schedules.
    pub schedules: Vec<String>,
    /// Only jobs that were enqueued at this time or later.
    pub after: Option<Timestamp>,
    /// Only jobs that were enqueued before this time.
    pub before: Option<Timestamp>,
    /// Only jobs that ended at this time or later.
    pub ended_after: Option<Timestamp>,
    /// Only jobs that ended before this time.
    pub ended_before: Option<Timestamp>,
    /// Only jobs with all of these words in the name of their task or queue, in letters of either case.
    pub words: Vec<String>,
    /// Only jobs with all of these arguments.
    pub args: Vec<FindArg>,
    /// Only jobs that ended in an error, or for a reason, with this in its text, in letters of either case.
    pub error: Option<String>,
    /// In which order jobs are looked at.
    pub order: Order,
}

/// An argument that a job has to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FindArg {
    /// The name of the parameter, and then the names of fields, or positions in arrays, that lead to the value.
    pub path: Vec<String>,
    /// The value is one of these: a string by its text, a number by what it amounts to, or `true`, `false`, `null`.
    pub values: Vec<String>,
}

/// In which order a search looks at jobs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Order {
    /// The job with the highest id first.
    #[default]
    Newest,
    /// The job with the lowest id first.
    Oldest,
}

/// How far a search goes at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// How many jobs it finds.
    pub jobs: usize,
    /// How many jobs it looks at.
    pub looks: usize,
}

impl Budget {
    /// A page for people to read, for which no store searches long.
    pub const PAGE: Self = Self { jobs: 50, looks: 20_000 };

    /// So many jobs, however many have to be looked at for them.
    pub const fn jobs(jobs: usize) -> Self {
        Self { jobs, looks: usize::MAX }
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self::PAGE
    }
}

/// What a search has found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// The jobs, in the order of the search.
    pub jobs: Vec<Job>,
    /// How many jobs were looked at. A store that has an index for the search looks at few others than those that it finds.
    pub looked: u64,
    /// The last job that was looked at, after which the search can go on. Without one there is no further job.
    pub next: Option<JobId>,
}

/// Goes through jobs, which are in the order of the search, within the budget.
pub fn search<'j>(jobs: impl IntoIterator<Item = &'j Job>, find: &Find, budget: Budget) -> Page {
    let mut page = Page::default();
    for job in jobs {
        if page.jobs.len() >= budget.jobs.max(1) || page.looked >= budget.looks.max(1) as u64 {
            return page;
        }
        page.looked += 1;
        page.next = Some(job.call.id);
        if find.passes(job) {
            page.jobs.push(job.clone());
        }
    }
    Page { next: None, ..page }
}

impl Find {
    /// Only jobs of this task, or of others that were named.
    pub fn task(mut self, task: impl Into<String>) -> Self {
        self.tasks.push(task.into());
        self
    }

    /// Only jobs of this queue, or of others that were named.
    pub fn queue(mut self, queue: impl Into<String>) -> Self {
        self.queues.push(queue.into());
        self
    }

    /// Only jobs in this state, or in others that were named.
    pub fn state(mut self, state: StateKind) -> Self {
        self.states.push(state);
        self
    }

    /// The oldest jobs first.
    pub fn oldest_first(self) -> Self {
        Self { order: Order::Oldest, ..self }
    }

    /// Whether `job` is to be found.
    pub fn passes(&self, job: &Job) -> bool {
        let call = &job.call;
        self.passes_lane(&call.queue, &call.task)
            && self.passes_state(job.standing.state.kind())
            && self.passes_id(call.id)
            && self.after.is_none_or(|after| call.enqueued >= after)
            && self.before.is_none_or(|before| call.enqueued < before)
            && self.ended_after.is_none_or(|after| job.ended.is_some_and(|ended| ended >= after))
            && self.ended_before.is_none_or(|before| job.ended.is_some_and(|ended| ended < before))
            && self.passes_error(&job.standing.state)
            && self.passes_args(call.args.as_str())
    }

    /// Whether jobs of this lane may be among those to be found.
    pub fn passes_lane(&self, queue: &str, task: &str) -> bool {
        let named = |names: &[String], name: &str| names.is_empty() || names.iter().any(|other| other == name);
        named(&self.tasks, task)
            && named(&self.queues, queue)
            && self.words.iter().all(|word| has(task, word) || has(queue, word))
    }

    /// Whether the job of this id may be among those to be found.
    pub(crate) fn passes_id(&self, id: JobId) -> bool {
        self.id.as_ref().is_none_or(|prefix| prefix.ids().contains(&id))
            && (self.schedules.is_empty() || self.schedules.iter().any(|name| tick::is_of(id, name)))
    }

    /// Whether jobs in this state may be among those to be found.
    pub fn passes_state(&self, state: StateKind) -> bool {
        (self.states.is_empty() || self.states.contains(&state))
            && (state.is_ended() || self.ended_after.is_none() && self.ended_before.is_none())
            && (matches!(state, StateKind::Dead | StateKind::Cancelled) || self.error.is_none())
    }

    /// Whether jobs in this state, with its text, may be among those to be found.
    pub(crate) fn passes_error(&self, state: &State) -> bool {
        let Some(wanted) = &self.error else { return true };
        match state {
            State::Dead { error: text } | State::Cancelled { reason: text } => has(text, wanted),
            State::Waiting { .. } | State::Running { .. } | State::Done { .. } => false,
        }
    }

    /// Whether jobs with these arguments may be among those to be found.
    pub(crate) fn passes_args(&self, args: &str) -> bool {
        if self.args.is_empty() {
            return true;
        }
        let Ok(args) = serde_json::from_str::<serde_json::Value>(args) else { return false };
        self.args.iter().all(|arg| arg.is_in(&args))
    }
}

/// Whether `text` has `wanted` in it, in letters of either case.
fn has(text: &str, wanted: &str) -> bool {
    text.to_lowercase().contains(&wanted.to_lowercase())
}

impl FindArg {
    fn is_in(&self, args: &serde_json::Value) -> bool {
        let found = self.path.iter().try_fold(args, |value, name| match value {
            serde_json::Value::Array(items) => items.get(name.parse::<usize>().ok()?),
            value => value.get(name),
        });
        found.is_some_and(|found| self.values.iter().any(|wanted| is_value(found, wanted)))
    }
}

/// Whether a value is what a search says by `wanted`.
fn is_value(value: &serde_json::Value, wanted: &str) -> bool {
    match value {
        serde_json::Value::String(text) => text == wanted,
        serde_json::Value::Number(number) => {
            number.to_string() == wanted || wanted.parse::<f64>().is_ok_and(|wanted| is_number(number, wanted))
        }
        serde_json::Value::Bool(value) => value.to_string() == wanted,
        serde_json::Value::Null => wanted == "null",
        serde_json::Value::Array(_) | serde_json::Value::Object(_) => false,
    }
}

/// Integers that a float cannot tell apart are compared by their digits alone.
fn is_number(number: &serde_json::Number, wanted: f64) -> bool {
    const EXACT: f64 = (1_u64 << 53) as f64;
    number.as_f64().is_some_and(|number| number == wanted && number.abs() <= EXACT)
}

/// The beginning of an id, of 1 to 32 hexadecimal digits. Hyphens do not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdPrefix(String);

/// A text that no id begins with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no id begins with `{text}`; an id looks like 01932b2e-7c5d-7b54-8f3c-0b7c6a2f9d10")]
pub struct ParseIdPrefixError {
    text: String,
}

impl IdPrefix {
    /// All ids that begin so, from the lowest to the highest.
    pub fn ids(&self) -> RangeInclusive<JobId> {
        let ends = ['0', 'f'].map(|digit| {
            let digits = self.0.chars().chain(std::iter::repeat(digit)).take(32);
            let number =
                digits.fold(0_u128, |number, digit| (number << 4) | u128::from(digit.to_digit(16).unwrap_or(0)));
            JobId::from_bytes(number.to_be_bytes())
        });
        ends[0]..=ends[1]
    }
}

impl FromStr for IdPrefix {
    type Err = ParseIdPrefixError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits: String =
            text.chars().filter(|digit| *digit != '-').map(|digit| digit.to_ascii_lowercase()).collect();
        if (1..=32).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Ok(Self(digits));
        }
        Err(ParseIdPrefixError { text: text.to_owned() })
    }
}

impl fmt::Display for IdPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
