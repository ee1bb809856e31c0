//! The options of the attribute, read one by one so that each wrong one gets an error.

use std::time::Duration;

use proc_macro2::TokenStream;
use syn::{
    Error, ExprPath, Ident, LitStr, Path, Result, Token,
    ext::IdentExt as _,
    parse::{ParseStream, Parser as _},
    parse_quote,
};

use crate::{
    Errors,
    value::{Value, ungrouped},
};

/// Every option, with a right value for messages about a wrong one.
const OPTIONS: [(&str, &str); 25] = [
    ("name", "\"emails.send\""),
    ("generate_handler", "handle"),
    ("echo", "true"),
    ("queue", "\"mail\""),
    ("priority", "10"),
    ("retry", "5"),
    ("backoff", "\"1s..1h\""),
    ("retry_on", "is_transient"),
    ("max_time", "\"30s\""),
    ("expires", "\"10m\""),
    ("unique", "\"user, month\""),
    ("unique_for", "\"1h\""),
    ("on_duplicate", "\"replace\""),
    ("debounce", "\"5s..1m\""),
    ("tags", "[\"nightly\", \"billing\"]"),
    ("description", "\"Sends the mails of a day.\""),
    ("on_error", "\"skip\""),
    ("checkpoint", "\"each\""),
    ("resume", "\"cursor\""),
    ("schedule", "\"0 9 * * MON-FRI\""),
    ("timezone", "\"Europe/Moscow\""),
    ("missed", "\"once\""),
    ("overlap", "\"skip\""),
    ("jitter", "\"30s\""),
    ("crate", "::qtasks"),
];

/// What the attribute says.
#[derive(Default)]
pub(crate) struct Options {
    pub(crate) name: Option<LitStr>,
    pub(crate) generate_handler: Option<Given<ExprPath>>,
    pub(crate) echo: Option<Given<bool>>,
    pub(crate) queue: Option<LitStr>,
    pub(crate) priority: Option<i16>,
    pub(crate) retry: Option<u32>,
    pub(crate) backoff: Option<Backoff>,
    pub(crate) retry_on: Option<Given<ExprPath>>,
    pub(crate) max_time: Option<Duration>,
    pub(crate) expires: Option<Duration>,
    pub(crate) unique: Option<LitStr>,
    pub(crate) unique_for: Option<Given<Duration>>,
    pub(crate) on_duplicate: Option<Given<Duplicate>>,
    /// The time of quiet, and how long a job is put off at most.
    pub(crate) debounce: Option<Given<(Duration, Duration)>>,
    pub(crate) tags: Vec<LitStr>,
    pub(crate) description: Option<LitStr>,
    pub(crate) on_error: Option<Given<OnError>>,
    pub(crate) checkpoint: Option<Given<Checkpoint>>,
    pub(crate) resume: Option<Given<Resume>>,
    pub(crate) schedule: Option<LitStr>,
    pub(crate) timezone: Option<Given<LitStr>>,
    pub(crate) missed: Option<Given<Missed>>,
    pub(crate) overlap: Option<Given<Overlap>>,
    pub(crate) jitter: Option<Given<Duration>>,
    root: Option<Path>,
    /// What unknown options may be misspelled from.
    meant: Vec<&'static str>,
}

/// An option that a rule may forbid: its key is where the message about that points.
pub(crate) struct Given<T> {
    pub(crate) key: Ident,
    pub(crate) value: T,
}

/// The delays between tries grow from `base` up to `cap`.
#[derive(Clone, Copy)]
pub(crate) struct Backoff {
    pub(crate) base: Duration,
    pub(crate) cap: Duration,
}

/// What an error of the handler does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnError {
    Fail,
    Skip,
}

/// When a step is made durable.
#[derive(Clone, Copy)]
pub(crate) enum Checkpoint {
    Each,
    Within(Duration),
}

/// How a later attempt gets to where an earlier one ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resume {
    Replay,
    Cursor,
}

/// What becomes of a call while another job holds its key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Duplicate {
    Join,
    Replace,
    Refuse,
}

/// What becomes of ticks at which no worker ran.
#[derive(Clone, Copy)]
pub(crate) enum Missed {
    Skip,
    Once,
    All,
}

/// What becomes of a tick while the last job lives.
#[derive(Clone, Copy)]
pub(crate) enum Overlap {
    Allow,
    Skip,
}

impl Options {
    /// Reads all options; one that is wrong is left out, and its error added to `errors`.
    pub(crate) fn parse(tokens: TokenStream, errors: &mut Errors) -> Self {
        let mut options = Self::default();
        let mut seen = Vec::new();
        let all = |input: ParseStream<'_>| {
            while !input.is_empty() {
                if let Err(error) = options.option(input, &mut seen) {
                    errors.push(error);
                    skip_to_comma(input)?;
                }
                if !input.is_empty() {
                    input.parse::<Token![,]>()?;
                }
            }
            Ok(())
        };
        if let Err(error) = all.parse2(tokens) {
            errors.push(error);
        }
        options
    }

    /// The path of qtasks in the user's crate.
    pub(crate) fn root(&self) -> Path {
        self.root.clone().unwrap_or_else(|| parse_quote!(::qtasks))
    }

    pub(crate) fn skips(&self) -> bool {
        self.on_error.as_ref().is_some_and(|given| given.value == OnError::Skip)
    }

    pub(crate) fn goes_on_from_cursor(&self) -> bool {
        self.resume.as_ref().is_some_and(|given| given.value == Resume::Cursor)
    }

    /// Whether an unknown option may be this one, so that its absence is no mistake of its own.
    pub(crate) fn is_meant(&self, name: &str) -> bool {
        self.meant.contains(&name)
    }

    fn option(&mut self, input: ParseStream<'_>, seen: &mut Vec<Ident>) -> Result<()> {
        let key = input.call(Ident::parse_any).map_err(|error| {
            Error::new(error.span(), "expected an option and its value, as in `name = \"emails.send\"`")
        })?;
        let Some(example) = example(&key) else {
            self.meant.extend(meant(&key.to_string()));
            return Err(unknown(&key));
        };
        let value = match input.parse::<Option<Token![=]>>()? {
            Some(_) => input.parse()?,
            None if key == "echo" && !input.peek(syn::token::Paren) => parse_quote!(true),
            None if input.peek(syn::token::Paren) => {
                return Err(Error::new(
                    key.span(),
                    format!("the value of `{key}` stands after `=`: `{key} = {example}`"),
                ));
            }
            None => return Err(Error::new(key.span(), format!("`{key}` takes a value: `{key} = {example}`"))),
        };
        if !input.is_empty() && !input.peek(Token![,]) {
            return Err(input.error("expected `,` between two options"));
        }
        if seen.contains(&key) {
            return Err(Error::new(key.span(), format!("`{key}` is given twice; leave one of the two")));
        }
        seen.push(key.clone());
        let value = Value { expr: ungrouped(value), example: format!("`{key} = {example}`") };
        self.set(key, &value)
    }

    fn set(&mut self, key: Ident, value: &Value) -> Result<()> {
        match key.to_string().as_str() {
            "name" => self.name = Some(value.name()?),
            "generate_handler" => self.generate_handler = Some(Given { value: value.function()?, key }),
            "echo" => self.echo = Some(Given { value: value.truth()?, key }),
            "queue" => self.queue = Some(value.name()?),
            "priority" => self.priority = Some(value.integer()?),
            "retry" => self.retry = Some(value.integer()?),
            "backoff" => self.backoff = Some(value.backoff()?),
            "retry_on" => self.retry_on = Some(Given { value: value.function()?, key }),
            "max_time" => self.max_time = Some(value.duration()?),
            "expires" => self.expires = Some(value.duration()?),
            "unique" => self.unique = Some(value.text()?),
            "unique_for" => self.unique_for = Some(Given { value: value.duration()?, key }),
            "on_duplicate" => self.on_duplicate = Some(Given { value: value.on_duplicate()?, key }),
            "debounce" => self.debounce = Some(Given { value: value.debounce()?, key }),
            "tags" => self.tags = value.texts()?,
            "description" => self.description = Some(value.text()?),
            "on_error" => self.on_error = Some(Given { value: value.on_error()?, key }),
            "checkpoint" => self.checkpoint = Some(Given { value: value.checkpoint()?, key }),
            "resume" => self.resume = Some(Given { value: value.resume()?, key }),
            "schedule" => self.schedule = Some(value.text()?),
            "timezone" => self.timezone = Some(Given { value: value.timezone()?, key }),
            "missed" => self.missed = Some(Given { value: value.missed()?, key }),
            "overlap" => self.overlap = Some(Given { value: value.overlap()?, key }),
            "jitter" => self.jitter = Some(Given { value: value.duration()?, key }),
            _ => self.root = Some(value.root()?),
        }
        Ok(())
    }
}

/// A value of the option `key`, if there is such an option.
fn example(key: &Ident) -> Option<&'static str> {
    OPTIONS.iter().find(|(name, _)| key == name).map(|(_, example)| *example)
}

fn unknown(key: &Ident) -> Error {
    let wrong = key.to_string();
    let hint = match elsewhere(&wrong) {
        Some(home) => format!("{home}; "),
        None => meant(&wrong).map_or_else(String::new, |name| format!("did you mean `{name}`? ")),
    };
    let all = OPTIONS.map(|(name, _)| name).join(", ");
    Error::new(key.span(), format!("unknown option `{wrong}`: {hint}the options are {all}"))
}

/// Where a setting belongs that is no option of a task.
fn elsewhere(wrong: &str) -> Option<&'static str> {
    match wrong {
        "delay" | "at" | "eta" | "countdown" => Some("a call has it: `my_task(5).delay(Duration::from_secs(60))`"),
        "concurrency" | "workers" | "threads" => Some("a worker has it: `app.worker().concurrency(8)`"),
        _ => None,
    }
}

/// The option that was meant: another queue's word for it, one that contains it, or the nearest in spelling.
fn meant(wrong: &str) -> Option<&'static str> {
    match wrong {
        "retries" | "max_retries" | "attempts" | "max_attempts" | "max_tries" => return Some("retry"),
        "timeout" | "time_limit" | "deadline" | "max_duration" => return Some("max_time"),
        "expiry" | "expire" | "ttl" | "expires_in" | "discard_after" => return Some("expires"),
        "unique_by" | "unique_key" | "dedup" | "deduplicate" | "dedupe" | "lock" => return Some("unique"),
        "unique_until" | "unique_period" | "throttle" => return Some("unique_for"),
        "on_conflict" => return Some("on_duplicate"),
        "context" | "ctx" | "bind" => return Some("echo"),
        "cron" | "every" | "periodic" | "recurring" => return Some("schedule"),
        "tz" | "zone" => return Some("timezone"),
        "splay" | "spread" => return Some("jitter"),
        _ => {}
    }
    let names = OPTIONS.map(|(name, _)| name);
    let part = |name: &&str| name.contains(wrong) || wrong.contains(name);
    names.into_iter().find(part).or_else(|| names.into_iter().find(|name| distance(name, wrong) <= 2))
}

/// How many letters are to be added, left out or changed to make `a` of `b`.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.chars().enumerate() {
            let changed = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.chars().count()]
}

fn skip_to_comma(input: ParseStream<'_>) -> Result<()> {
    while !input.is_empty() && !input.peek(Token![,]) {
        input.parse::<proc_macro2::TokenTree>()?;
    }
    Ok(())
}
