//! How an attempt ends otherwise than well, and what the task may say of how to go on.

use std::{
    any::Any,
    borrow::Cow,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use crate::{
    co::Misuse,
    error::{BoxError, bounded, chain, sources},
    guard::drop_guarded,
    lifecycle::Verdict,
};

/// An error that says how the job goes on. It is obeyed wherever it stands in an error's chain of sources.
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
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

// `anyhow` hides the type of an error that it boxes, but not that of its source: so the directive is its own source.
impl std::error::Error for TaskError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

#[derive(Clone, Debug, thiserror::Error)]
enum Directive {
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
    /// The body gave an error that `retry_on` says no try can mend.
    Final(BoxError),
    /// The body yielded something else than what its record holds.
    Diverged(Diverged),
    /// The body yielded two values at once, or gave up a yield.
    Misuse(Misuse),
    /// What an error of the body or its handler came to, which is code of the task's own and is gone by now.
    Said {
        /// Its text.
        text: String,
        /// How the job goes on.
        verdict: Verdict,
    },
    /// The body or its handler panicked.
    Panic(String),
    /// The attempt took longer than it may.
    TimeUp(Duration),
    /// The worker stops: the job is to be given back.
    Released,
    /// The lease is lost: whatever the attempt came to, nobody wants to know.
    Fenced,
}

impl Stopped {
    /// What the attempt came to; nothing when its lease is lost.
    pub(crate) fn verdict(self) -> Option<Verdict> {
        Some(match self.plain() {
            Self::Released => Verdict::Released,
            Self::Fenced => return None,
            Self::Said { verdict, .. } => verdict,
            other => Verdict::Failed { error: other.to_string(), wait: None, again: true },
        })
    }

    /// The same without code of the task's own: its error tells what it has to say, and is dropped, behind a guard.
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
            None => failed(None, again),
        };
        drop(error);
        Self::Said { text, verdict }
    }

    /// The error of a panic, with what it was called with, which is dropped.
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

/// What `work` gives, which runs code of the task's own, or the error of its panic.
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

/// A body did something else than in an earlier attempt; no handler ran for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Diverged {
    /// It yielded another value.
    #[error(
        "diverged at step {seq}: the body yielded another value than the one recorded; a body must yield the same values \
         each time it runs"
    )]
    Value {
        /// The step.
        seq: u64,
    },
    /// It ended too early.
    #[error(
        "diverged at step {seq}: the body ended where {recorded} steps are recorded; a body must yield the same values each \
         time it runs"
    )]
    End {
        /// The step that it should have yielded next.
        seq: u64,
        /// How many steps are recorded.
        recorded: u64,
    },
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
