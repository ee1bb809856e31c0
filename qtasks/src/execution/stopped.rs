//! How an attempt ends that does not come to its end, and the errors by which a task says how its job goes on.

use std::{
    any::Any,
    borrow::Cow,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use super::co::Misuse;
use crate::{
    error::{BoxError, Error, bounded, chain, sources},
    model::{lifecycle::Verdict, limits::OverLimit},
    runtime::guard::drop_guarded,
    telemetry,
};

/// An error that says how the job goes on. The worker obeys it wherever it stands in an error's chain of sources.
///
/// In a function that returns `Result<T, TaskError>`, `?` takes texts, boxed errors, and the errors of the standard library,
/// serde_json, jiff, tokio and qtasks: they are failures as any other. Others come in by [`TaskError::from`], as in
/// `fetch().map_err(TaskError::from)?`. Where many kinds of errors meet, `anyhow::Result` is shorter: a `TaskError` in it is
/// obeyed all the same.
///
/// ```
/// use std::time::Duration;
/// use qtasks::prelude::*;
///
/// #[qtask]
/// async fn fetch(url: String) -> Result<String, TaskError> {
///     if url.is_empty() {
///         return Err(TaskError::discard("no URL"));
///     }
///     if url.parse::<std::net::SocketAddr>()?.port() == 0 {
///         return Err(TaskError::from("no port"));
///     }
///     Err(TaskError::retry_after(Duration::from_secs(30)))
/// }
/// ```
#[derive(Clone, Debug)]
pub struct TaskError(Directive);

impl TaskError {
    /// A failure after which the next try comes in `wait`, in place of the policy's delay.
    pub fn retry_after(wait: Duration) -> Self {
        Self(Directive::RetryAfter(wait))
    }

    /// The job goes on in `wait`, and this counts as no failure.
    pub fn snooze(wait: Duration) -> Self {
        Self(Directive::Snooze(wait))
    }

    /// The job ends as cancelled.
    pub fn cancel(reason: impl Into<Cow<'static, str>>) -> Self {
        Self(Directive::Cancel(reason.into()))
    }

    /// The job ends as dead, without further tries.
    pub fn discard(reason: impl Into<Cow<'static, str>>) -> Self {
        Self(Directive::Discard(reason.into()))
    }

    /// A failure as any other error is: the job is tried again by its task's policy. Takes every error that can go from
    /// thread to thread, `anyhow::Error` and texts included; what a `TaskError` in it says is obeyed.
    pub fn from(error: impl Into<BoxError>) -> Self {
        Self(Directive::Fail(error.into().into()))
    }
}

/// An error that `?` takes into a [`TaskError`].
///
/// It cannot be every error: a `TaskError` is one itself, so that it can go through `anyhow`, and Rust has a conversion of
/// each type into itself already.
#[diagnostic::on_unimplemented(
    message = "`?` does not make a `TaskError` of a `{Self}`",
    label = "let the function return `anyhow::Result<..>`, or write `.map_err(TaskError::from)?`",
    note = "a `TaskError` in an `anyhow::Error` is obeyed all the same; `TaskError::from` takes every error that is `Send + Sync`"
)]
pub trait IntoTaskError: Into<BoxError> {}

impl<E: IntoTaskError> From<E> for TaskError {
    fn from(error: E) -> Self {
        Self::from(error)
    }
}

macro_rules! into_task_error {
    ($($error:ty),* $(,)?) => {
        $(impl IntoTaskError for $error {})*
    };
}

into_task_error![
    &str,
    String,
    Cow<'_, str>,
    BoxError,
    crate::Error,
    std::io::Error,
    std::fmt::Error,
    std::env::VarError,
    std::num::ParseIntError,
    std::num::ParseFloatError,
    std::num::TryFromIntError,
    std::str::ParseBoolError,
    std::str::Utf8Error,
    std::string::FromUtf8Error,
    std::char::ParseCharError,
    std::net::AddrParseError,
    std::array::TryFromSliceError,
    std::time::SystemTimeError,
    std::sync::mpsc::RecvError,
    serde_json::Error,
    jiff::Error,
    tokio::task::JoinError,
    tokio::time::error::Elapsed,
    tokio::sync::AcquireError,
    tokio::sync::oneshot::error::RecvError,
];

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

// `anyhow` hides the type of an error that it boxes, but not that of its source: so the directive is its own source.
impl std::error::Error for TaskError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0 {
            Directive::Fail(error) => Some(&**error),
            directive => Some(directive),
        }
    }
}

#[derive(Clone, Debug, thiserror::Error)]
enum Directive {
    #[error("{0}")]
    Fail(Arc<dyn std::error::Error + Send + Sync>),
    #[error("the task asks to be tried again in {0:?}")]
    RetryAfter(Duration),
    #[error("the task asks to go on in {0:?}")]
    Snooze(Duration),
    #[error("{0}")]
    Cancel(Cow<'static, str>),
    #[error("{0}")]
    Discard(Cow<'static, str>),
}

/// How an attempt ended that did not come to its end.
#[derive(Debug)]
pub enum Stopped {
    /// The body or its handler gave an error.
    Error(BoxError),
    /// The body gave an error that no try can mend, as `retry_on` says.
    Final(BoxError),
    /// The body yielded other values than its record holds.
    Diverged(Diverged),
    /// The body yielded two values at once, or gave up a yield.
    Misuse(Misuse),
    /// The body or its handler gave an error, of which only the text and the verdict are left: the error itself held code of the
    /// task's own and was dropped.
    Said {
        /// The text of the error.
        text: String,
        /// How the job goes on.
        verdict: Verdict,
    },
    /// The body or its handler panicked.
    Panic(String),
    /// The attempt took longer than it may.
    TimeUp(Duration),
    /// The worker stops: it gives the job back.
    Released,
    /// The lease is lost: the outcome of the attempt no longer counts.
    Fenced,
}

impl Stopped {
    /// What becomes of the job; `None` when the lease is lost.
    pub(crate) fn verdict(self) -> Option<Verdict> {
        let how = self.how();
        let verdict = match self.plain() {
            Self::Released => Verdict::Released,
            Self::Fenced => return None,
            Self::Said { verdict, .. } => verdict,
            other => Verdict::Failed { error: other.to_string(), wait: None, again: true },
        };
        if matches!(verdict, Verdict::Failed { .. } | Verdict::Discarded(_)) {
            telemetry::spans::failed(how);
        }
        Some(verdict)
    }

    /// The word for this kind of failure in telemetry.
    pub(crate) fn how(&self) -> &'static str {
        match self {
            Self::Error(error) if error.downcast_ref().is_some_and(Error::is_of_arguments) => "undecodable",
            Self::Panic(_) => "panicked",
            Self::TimeUp(_) => "timed_out",
            Self::Diverged(_) => "diverged",
            _ => "failed",
        }
    }

    /// The same without code of the task's own: an error is turned into text and dropped, behind a guard.
    pub(crate) fn plain(self) -> Self {
        match self {
            Self::Error(error) => guarded(|| Self::said(error, true)),
            Self::Final(error) => guarded(|| Self::said(error, false)),
            other => other,
        }
    }

    fn said(error: BoxError, again: bool) -> Self {
        let text = chain(&*error);
        let failed = |wait, again| Verdict::Failed { error: text.clone(), wait, again };
        let verdict = match directive(&*error) {
            Some(Directive::RetryAfter(wait)) => failed(Some(*wait), true),
            Some(Directive::Snooze(wait)) => Verdict::Snoozed(*wait),
            Some(Directive::Cancel(reason)) => Verdict::Cancelled(bounded(reason)),
            Some(Directive::Discard(reason)) => Verdict::Discarded(bounded(reason)),
            Some(Directive::Fail(_)) | None => failed(None, again),
        };
        drop(error);
        Self::Said { text, verdict }
    }

    /// The error of a panic, made of its payload, which is dropped.
    pub(crate) fn panic(payload: Box<dyn Any + Send>) -> Self {
        let text = match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
            (Some(text), _) => bounded(text),
            (_, Some(text)) => bounded(text),
            _ => "with something that is not text".to_owned(),
        };
        drop_guarded(payload);
        Self::Panic(text)
    }
}

/// The output of `work`, which runs code of the task's own, or the error of its panic.
fn guarded(work: impl FnOnce() -> Stopped) -> Stopped {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(Stopped::panic)
}

/// Whether `error` says how the job goes on.
pub(crate) fn is_directive(error: &(dyn std::error::Error + 'static)) -> bool {
    directive(error).is_some()
}

fn directive<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Directive> {
    sources(error).find_map(|error| error.downcast_ref())
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Error(error) | Self::Final(error) => f.write_str(&chain(&**error)),
            Self::Diverged(diverged) => diverged.fmt(f),
            Self::Misuse(misuse) => misuse.fmt(f),
            Self::Said { text, .. } => f.write_str(text),
            Self::Panic(text) => write!(f, "the task panicked: {text}"),
            Self::TimeUp(limit) => write!(f, "the attempt took longer than its max_time of {limit:?}"),
            Self::Released => f.write_str("the worker stops"),
            Self::Fenced => f.write_str("the lease is lost"),
        }
    }
}

impl std::error::Error for Stopped {}

/// A body that yields other values than in an earlier attempt. No handler has run for the value that differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Diverged {
    /// The body yielded another value than the recorded one.
    #[error(
        "diverged at step {seq}: the body yielded another value than the one recorded; a body must yield the same values \
         each time it runs"
    )]
    Value {
        /// The number of the step.
        seq: u64,
    },
    /// The body ended before it had yielded all recorded values.
    #[error(
        "diverged at step {seq}: the body ended where {recorded} steps are recorded; a body must yield the same values each \
         time it runs"
    )]
    End {
        /// The number of the step that was expected next.
        seq: u64,
        /// How many steps are recorded.
        recorded: u64,
    },
}

/// The error for a value of the task that cannot be encoded.
pub(crate) fn unencodable(what: &str, source: serde_json::Error) -> Stopped {
    Stopped::Error(Box::new(Error::Encode { what: what.to_owned(), source: source.into() }))
}

/// The error for a value of the task that is too large.
pub(crate) fn over(error: OverLimit) -> Stopped {
    Stopped::Error(Box::new(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] BoxError);

    fn verdict(error: impl Into<BoxError>) -> Verdict {
        Stopped::Error(error.into()).verdict().unwrap()
    }

    #[test]
    fn a_task_error_is_obeyed_wherever_it_stands() {
        let bare = TaskError::snooze(Duration::from_secs(3));
        assert_eq!(verdict(bare.clone()), Verdict::Snoozed(Duration::from_secs(3)));
        assert_eq!(verdict(Outer(bare.clone().into())), Verdict::Snoozed(Duration::from_secs(3)));
        assert_eq!(verdict(anyhow::Error::from(bare.clone())), Verdict::Snoozed(Duration::from_secs(3)));
        assert_eq!(verdict(anyhow::Error::from(bare).context("why")), Verdict::Snoozed(Duration::from_secs(3)));
    }

    fn by_question_mark(text: &str) -> Result<i64, TaskError> {
        if text.is_empty() {
            Err("no text")?;
        }
        let _ = std::fs::read(text).or_else(|error| if text == "no/file" { Err(error) } else { Ok(Vec::new()) })?;
        let boxed: Result<i64, BoxError> = text.parse().map_err(Into::into);
        match text {
            "text" => Err(format!("a {text}"))?,
            "anyhow" => Err(TaskError::from(anyhow::anyhow!("inner").context("outer"))),
            "number" => Ok(text.parse::<i64>()?),
            "snooze" => Err(TaskError::from(anyhow::Error::from(TaskError::snooze(Duration::ZERO)))),
            _ => Ok(boxed?),
        }
    }

    #[test]
    fn what_a_question_mark_makes_a_task_error_is_a_failure_as_any_other() {
        let failed = |text: &str| match verdict(by_question_mark(text).unwrap_err()) {
            Verdict::Failed { error, wait: None, again: true } => error,
            other => panic!("{other:?}"),
        };
        assert_eq!(failed(""), "no text");
        assert_eq!(failed("text"), "a text");
        assert_eq!(failed("anyhow"), "outer: inner");
        assert_eq!(failed("number"), "invalid digit found in string");
        assert_eq!(failed("boxed"), "invalid digit found in string");
        assert!(failed("no/file").starts_with("No such file"));
        assert_eq!(verdict(by_question_mark("snooze").unwrap_err()), Verdict::Snoozed(Duration::ZERO));
    }

    #[test]
    fn any_other_error_is_a_failure_with_the_whole_chain_in_its_text() {
        let error = Outer(Outer("root".into()).into());
        assert_eq!(verdict(error), Verdict::Failed { error: "outer: root".into(), wait: None, again: true });
    }

    #[test]
    fn what_a_panic_said_is_kept() {
        let caught = std::panic::catch_unwind(|| panic!("no {}", 1)).unwrap_err();
        assert_eq!(Stopped::panic(caught).to_string(), "the task panicked: no 1");
    }
}
