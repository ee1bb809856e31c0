//! The options of the attribute, read one by one so that each wrong one gets an error.

use std::time::Duration;

use proc_macro2::{Span, TokenStream};
use syn::{
    Error, Expr, ExprLit, ExprPath, Ident, Lit, LitStr, Path, Result, Token, UnOp,
    ext::IdentExt as _,
    parse::{ParseStream, Parser as _},
    parse_quote,
};

use crate::Errors;

/// Every option, with a right value for messages about a wrong one.
const OPTIONS: [(&str, &str); 15] = [
    ("name", "\"emails.send\""),
    ("generate_handler", "handle"),
    ("echo", "true"),
    ("queue", "\"mail\""),
    ("priority", "10"),
    ("retry", "5"),
    ("backoff", "\"1s..1h\""),
    ("retry_on", "is_transient"),
    ("max_time", "\"30s\""),
    ("tags", "[\"nightly\", \"billing\"]"),
    ("description", "\"Sends the mails of a day.\""),
    ("on_error", "\"skip\""),
    ("checkpoint", "\"each\""),
    ("resume", "\"cursor\""),
    ("crate", "::qtasks"),
];

const LONGEST_NAME: usize = 128;
const LONGEST_CHECKPOINT: Duration = Duration::from_secs(60);

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
    pub(crate) tags: Vec<LitStr>,
    pub(crate) description: Option<LitStr>,
    pub(crate) on_error: Option<Given<OnError>>,
    pub(crate) checkpoint: Option<Given<Checkpoint>>,
    pub(crate) resume: Option<Given<Resume>>,
    root: Option<Path>,
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

    fn option(&mut self, input: ParseStream<'_>, seen: &mut Vec<Ident>) -> Result<()> {
        let key = input.call(Ident::parse_any).map_err(|error| {
            Error::new(error.span(), "expected an option and its value, as in `name = \"emails.send\"`")
        })?;
        let example = example(&key)?;
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
            "tags" => self.tags = value.texts()?,
            "description" => self.description = Some(value.text()?),
            "on_error" => self.on_error = Some(Given { value: value.on_error()?, key }),
            "checkpoint" => self.checkpoint = Some(Given { value: value.checkpoint()?, key }),
            "resume" => self.resume = Some(Given { value: value.resume()?, key }),
            _ => self.root = Some(value.root()?),
        }
        Ok(())
    }
}

/// A value of the option `key`; an error if there is no such option.
fn example(key: &Ident) -> Result<&'static str> {
    let wrong = key.to_string();
    if let Some((_, example)) = OPTIONS.iter().find(|(name, _)| *name == wrong) {
        return Ok(example);
    }
    let hint = match elsewhere(&wrong) {
        Some(home) => format!("{home}; "),
        None => meant(&wrong).map_or_else(String::new, |name| format!("did you mean `{name}`? ")),
    };
    let all = OPTIONS.map(|(name, _)| name).join(", ");
    Err(Error::new(key.span(), format!("unknown option `{wrong}`: {hint}the options are {all}")))
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
        "context" | "ctx" | "bind" => return Some("echo"),
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

/// Takes off the invisible delimiters around a value that a `macro_rules!` has passed on.
fn ungrouped(expr: Expr) -> Expr {
    match expr {
        Expr::Group(group) => ungrouped(*group.expr),
        other => other,
    }
}

/// The value of an option, with an example of a right one for messages.
struct Value {
    expr: Expr,
    example: String,
}

impl Value {
    fn error(&self, wanted: &str) -> Error {
        Error::new_spanned(&self.expr, format!("expected {wanted}, as in {}", self.example))
    }

    fn text(&self) -> Result<LitStr> {
        match &self.expr {
            Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Ok(text.clone()),
            _ => Err(self.error("a text in quotes")),
        }
    }

    fn texts(&self) -> Result<Vec<LitStr>> {
        let Expr::Array(array) = &self.expr else { return Err(self.error("a list of texts in quotes")) };
        let each = |expr: &Expr| Self { expr: ungrouped(expr.clone()), example: self.example.clone() }.text();
        array.elems.iter().map(each).collect()
    }

    fn name(&self) -> Result<LitStr> {
        let text = self.text()?;
        check_name(&text.value(), text.span())?;
        Ok(text)
    }

    fn truth(&self) -> Result<bool> {
        match &self.expr {
            Expr::Lit(ExprLit { lit: Lit::Bool(truth), .. }) => Ok(truth.value),
            _ => Err(self.error("`true` or `false`")),
        }
    }

    fn integer<N: std::str::FromStr + Bounds>(&self) -> Result<N> {
        let wrong = || self.error(&format!("a whole number from {} to {}", N::LEAST, N::MOST));
        let (sign, digits) = match &self.expr {
            Expr::Unary(unary) if matches!(unary.op, UnOp::Neg(_)) => ("-", &*unary.expr),
            expr => ("", expr),
        };
        match digits {
            Expr::Lit(ExprLit { lit: Lit::Int(int), .. }) => {
                format!("{sign}{}", int.base10_digits()).parse().map_err(|_| wrong())
            }
            _ => Err(wrong()),
        }
    }

    fn function(&self) -> Result<ExprPath> {
        match &self.expr {
            Expr::Path(path) => Ok(path.clone()),
            Expr::Closure(_) => Err(self.error("the path of a function, since a closure has no name")),
            _ => Err(self.error("the path of a function")),
        }
    }

    fn root(&self) -> Result<Path> {
        match &self.expr {
            // The path is handed on to serde as a text, in which `$crate` means nothing.
            Expr::Path(ExprPath { path, .. }) if path.segments.iter().any(|segment| segment.ident == "$crate") => {
                Err(self.error("a path without `$crate`"))
            }
            Expr::Path(ExprPath { qself: None, path, .. }) => Ok(path.clone()),
            Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => {
                text.parse_with(Path::parse_mod_style).map_err(|_| self.error("the path of a crate"))
            }
            _ => Err(self.error("the path of a crate")),
        }
    }

    fn duration(&self) -> Result<Duration> {
        let text = self.text()?;
        parse_duration(&text.value()).ok_or_else(|| self.error(DURATION))
    }

    fn backoff(&self) -> Result<Backoff> {
        let text = self.text()?.value();
        let (base, cap) = text.split_once("..").unwrap_or((&text, &text));
        match (parse_duration(base), parse_duration(cap)) {
            (Some(base), Some(cap)) if base <= cap => Ok(Backoff { base, cap }),
            (Some(_), Some(_)) => Err(self.error("the shorter duration first")),
            _ => Err(self.error("one duration or two (a whole number above 0 and `ms`, `s`, `m`, `h` or `d`)")),
        }
    }

    fn on_error(&self) -> Result<OnError> {
        match self.text()?.value().as_str() {
            "fail" => Ok(OnError::Fail),
            "skip" => Ok(OnError::Skip),
            _ => Err(self.error("`\"fail\"` or `\"skip\"`")),
        }
    }

    fn resume(&self) -> Result<Resume> {
        match self.text()?.value().as_str() {
            "replay" => Ok(Resume::Replay),
            "cursor" => Ok(Resume::Cursor),
            _ => Err(self.error("`\"replay\"` or `\"cursor\"`")),
        }
    }

    fn checkpoint(&self) -> Result<Checkpoint> {
        let text = self.text()?.value();
        if text == "each" {
            return Ok(Checkpoint::Each);
        }
        let within = text.strip_prefix("within ").unwrap_or(&text);
        match parse_duration(within) {
            Some(within) if within <= LONGEST_CHECKPOINT => Ok(Checkpoint::Within(within)),
            _ => Err(self.error("`\"each\"` or `\"within 5ms\"`, at most `\"within 1m\"`")),
        }
    }
}

const DURATION: &str = "a duration (a whole number above 0 and `ms`, `s`, `m`, `h` or `d`)";

/// A duration above zero: `"250ms"`, `"30s"`, `"5m"`, `"2h"`, `"1d"`.
fn parse_duration(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let millis: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    let millis = digits.parse::<u64>().ok()?.checked_mul(millis)?;
    (millis > 0).then(|| Duration::from_millis(millis))
}

/// Whether `name` may be that of a task or a queue.
pub(crate) fn check_name(name: &str, span: Span) -> Result<()> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_.:-".contains(c);
    if !name.chars().all(allowed) {
        return Err(Error::new(span, format!("`{name}` is not a name: names are made of `A-Z a-z 0-9 _ . : -`")));
    }
    match name.len() {
        0 => Err(Error::new(span, "a name is not empty: write one, as in `\"emails.send\"`")),
        1..=LONGEST_NAME => Ok(()),
        long => Err(Error::new(span, format!("a name has at most {LONGEST_NAME} characters, and this has {long}"))),
    }
}

/// The least and the most of a kind of number, for messages.
trait Bounds {
    const LEAST: i64;
    const MOST: i64;
}

impl Bounds for i16 {
    const LEAST: i64 = Self::MIN as i64;
    const MOST: i64 = Self::MAX as i64;
}

impl Bounds for u32 {
    const LEAST: i64 = 0;
    const MOST: i64 = Self::MAX as i64;
}
