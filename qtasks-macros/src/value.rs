//! The value of an option, read as what the option takes.

use std::time::Duration;

use proc_macro2::Span;
use syn::{Error, Expr, ExprLit, ExprPath, Lit, LitStr, Path, Result, UnOp};

use crate::args::{Backoff, Checkpoint, Duplicate, Missed, OnError, Overlap, Resume};

const LONGEST_NAME: usize = 128;
const LONGEST_CHECKPOINT: Duration = Duration::from_secs(60);

/// Takes off the invisible delimiters around a value that a `macro_rules!` has passed on.
pub(crate) fn ungrouped(expr: Expr) -> Expr {
    match expr {
        Expr::Group(group) => ungrouped(*group.expr),
        other => other,
    }
}

/// The value of an option, with an example of a right one for messages.
pub(crate) struct Value {
    pub(crate) expr: Expr,
    pub(crate) example: String,
}

impl Value {
    fn error(&self, wanted: &str) -> Error {
        Error::new_spanned(&self.expr, format!("expected {wanted}, as in {}", self.example))
    }

    pub(crate) fn text(&self) -> Result<LitStr> {
        match &self.expr {
            Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Ok(text.clone()),
            _ => Err(self.error("a text in quotes")),
        }
    }

    pub(crate) fn texts(&self) -> Result<Vec<LitStr>> {
        let Expr::Array(array) = &self.expr else { return Err(self.error("a list of texts in quotes")) };
        let each = |expr: &Expr| Self { expr: ungrouped(expr.clone()), example: self.example.clone() }.text();
        array.elems.iter().map(each).collect()
    }

    pub(crate) fn name(&self) -> Result<LitStr> {
        let text = self.text()?;
        check_name(&text.value(), text.span())?;
        Ok(text)
    }

    pub(crate) fn truth(&self) -> Result<bool> {
        match &self.expr {
            Expr::Lit(ExprLit { lit: Lit::Bool(truth), .. }) => Ok(truth.value),
            _ => Err(self.error("`true` or `false`")),
        }
    }

    pub(crate) fn integer<N: std::str::FromStr + Bounds>(&self) -> Result<N> {
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

    pub(crate) fn function(&self) -> Result<ExprPath> {
        match &self.expr {
            Expr::Path(path) => Ok(path.clone()),
            Expr::Closure(_) => Err(self.error("the path of a function, since a closure has no name")),
            _ => Err(self.error("the path of a function")),
        }
    }

    pub(crate) fn root(&self) -> Result<Path> {
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

    pub(crate) fn duration(&self) -> Result<Duration> {
        let text = self.text()?;
        parse_duration(&text.value()).ok_or_else(|| self.error(DURATION))
    }

    pub(crate) fn backoff(&self) -> Result<Backoff> {
        let text = self.text()?.value();
        let (base, cap) = text.split_once("..").unwrap_or((&text, &text));
        match (parse_duration(base), parse_duration(cap)) {
            (Some(base), Some(cap)) if base <= cap => Ok(Backoff { base, cap }),
            (Some(_), Some(_)) => Err(self.error("the shorter duration first")),
            _ => Err(self.error("one duration or two (a whole number above 0 and `ms`, `s`, `m`, `h` or `d`)")),
        }
    }

    pub(crate) fn on_error(&self) -> Result<OnError> {
        match self.text()?.value().as_str() {
            "fail" => Ok(OnError::Fail),
            "skip" => Ok(OnError::Skip),
            _ => Err(self.error("`\"fail\"` or `\"skip\"`")),
        }
    }

    pub(crate) fn resume(&self) -> Result<Resume> {
        match self.text()?.value().as_str() {
            "replay" => Ok(Resume::Replay),
            "cursor" => Ok(Resume::Cursor),
            _ => Err(self.error("`\"replay\"` or `\"cursor\"`")),
        }
    }

    /// The name of a time zone, by its shape: which there are, a worker knows when it starts.
    pub(crate) fn timezone(&self) -> Result<LitStr> {
        let text = self.text()?;
        let is_part = |part: &str| {
            part.starts_with(|c: char| c.is_ascii_alphabetic())
                && part.chars().all(|c| c.is_ascii_alphanumeric() || "_+-".contains(c))
        };
        if text.value().split('/').all(is_part) { Ok(text) } else { Err(self.error("the IANA name of a time zone")) }
    }

    pub(crate) fn on_duplicate(&self) -> Result<Duplicate> {
        match self.text()?.value().as_str() {
            "join" => Ok(Duplicate::Join),
            "replace" => Ok(Duplicate::Replace),
            "refuse" => Ok(Duplicate::Refuse),
            _ => Err(self.error("`\"join\"`, `\"replace\"` or `\"refuse\"`")),
        }
    }

    pub(crate) fn debounce(&self) -> Result<(Duration, Duration)> {
        let text = self.text()?.value();
        let times = text.split_once("..").map(|(quiet, most)| (parse_duration(quiet), parse_duration(most)));
        match times {
            Some((Some(quiet), Some(most))) if quiet <= most => Ok((quiet, most)),
            Some((Some(_), Some(_))) => Err(self.error("the shorter duration first")),
            _ => Err(self.error("two durations, the quiet that is waited for and how long at most")),
        }
    }

    pub(crate) fn missed(&self) -> Result<Missed> {
        match self.text()?.value().as_str() {
            "skip" => Ok(Missed::Skip),
            "once" => Ok(Missed::Once),
            "all" => Ok(Missed::All),
            _ => Err(self.error("`\"skip\"`, `\"once\"` or `\"all\"`")),
        }
    }

    pub(crate) fn overlap(&self) -> Result<Overlap> {
        match self.text()?.value().as_str() {
            "allow" => Ok(Overlap::Allow),
            "skip" => Ok(Overlap::Skip),
            _ => Err(self.error("`\"allow\"` or `\"skip\"`")),
        }
    }

    pub(crate) fn checkpoint(&self) -> Result<Checkpoint> {
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
pub(crate) trait Bounds {
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
