//! What is paused: a queue, a task, a schedule, or everything.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::json::Json;

/// What is to be paused or resumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Scope<'n> {
    /// All jobs of all queues, also of those that come into being later.
    All,
    /// The jobs of this queue.
    Queue(&'n str),
    /// The jobs of this task, in whatever queue.
    Task(&'n str),
    /// The ticks of this schedule. The jobs that it has enqueued before are not covered.
    Schedule(&'n str),
}

impl<'n> Scope<'n> {
    /// What the scope covers in the words of its [`Display`](fmt::Display).
    fn parse(text: &'n str) -> Option<Self> {
        match text.split_once(':') {
            None if text == "all" => Some(Self::All),
            Some(("queue", name)) => Some(Self::Queue(name)),
            Some(("task", name)) => Some(Self::Task(name)),
            Some(("schedule", name)) => Some(Self::Schedule(name)),
            _ => None,
        }
    }

    /// Whether jobs of this queue and task are in it.
    pub fn covers(self, queue: &str, task: &str) -> bool {
        match self {
            Self::All => true,
            Self::Queue(name) => name == queue,
            Self::Task(name) => name == task,
            Self::Schedule(_) => false,
        }
    }
}

/// `all`, `queue:NAME`, `task:NAME` or `schedule:NAME`.
impl fmt::Display for Scope<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Queue(name) => write!(f, "queue:{name}"),
            Self::Task(name) => write!(f, "task:{name}"),
            Self::Schedule(name) => write!(f, "schedule:{name}"),
        }
    }
}

/// A pause: no job that it covers is started, while jobs that run go on and new ones are taken in. That of a schedule: the
/// schedule does not fire.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pause {
    /// The text of its scope.
    scope: String,
    /// Since when it holds.
    pub since: Timestamp,
    /// When it ends by itself.
    pub until: Option<Timestamp>,
    /// Why something was paused.
    pub because: Option<String>,
    /// Who has paused it.
    pub by: Option<String>,
    /// Whether jobs that ran were to be given back.
    pub stops: bool,
}

/// What a note says of a pause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Said {
    since: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    because: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    by: Option<String>,
    #[serde(default)]
    stops: bool,
}

impl Pause {
    pub(crate) fn new(scope: Scope<'_>, since: Timestamp) -> Self {
        Self { scope: scope.to_string(), since, until: None, because: None, by: None, stops: false }
    }

    /// What is paused.
    pub fn scope(&self) -> Scope<'_> {
        // A pause is read or made with a scope that is one.
        Scope::parse(&self.scope).unwrap_or(Scope::All)
    }

    /// The pause that a note of this name says. A newer qtasks may know scopes that this one does not.
    pub(crate) fn read(name: &str, value: &Json, until: Option<Timestamp>) -> Option<Self> {
        Scope::parse(name)?;
        Some(Self::of(name.to_owned(), until, value.decode().ok()?))
    }

    /// The pause of a schedule, which stands in the schedule's own note.
    pub(crate) fn of_schedule(name: &str, until: Option<Timestamp>, said: Said) -> Self {
        Self::of(Scope::Schedule(name).to_string(), until, said)
    }

    fn of(scope: String, until: Option<Timestamp>, Said { since, because, by, stops }: Said) -> Self {
        Self { scope, since, until, because, by, stops }
    }

    /// What its note says.
    pub(crate) fn value(&self) -> Result<Json, serde_json::Error> {
        Json::encode(&self.said())
    }

    /// What a note says of it beside when it ends.
    pub(crate) fn said(&self) -> Said {
        let Self { since, because, by, stops, .. } = self.clone();
        Said { since, because, by, stops }
    }

    /// Whether it still holds.
    pub(crate) fn holds(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now < until)
    }

    /// Whether it keeps a job of this queue and task from being started.
    pub(crate) fn keeps(&self, queue: &str, task: &str, now: Timestamp) -> bool {
        self.holds(now) && self.scope().covers(queue, task)
    }
}

/// ``queue `mail` is paused since 09:00 by ann until 10:00: the provider is down``
impl fmt::Display for Pause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.scope() {
            Scope::All => f.write_str("everything is paused")?,
            Scope::Queue(name) => write!(f, "the queue `{name}` is paused")?,
            Scope::Task(name) => write!(f, "the task `{name}` is paused")?,
            Scope::Schedule(name) => write!(f, "the schedule `{name}` is paused")?,
        }
        write!(f, " since {:.0}", self.since)?;
        if let Some(by) = &self.by {
            write!(f, " by {by}")?;
        }
        if let Some(until) = self.until {
            write!(f, " until {until:.0}")?;
        }
        if let Some(because) = &self.because {
            write!(f, ": {because}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_read_as_it_was_written() {
        let since = "2026-11-01T09:00:00Z".parse().unwrap();
        for scope in [Scope::All, Scope::Queue("mail"), Scope::Task("queue:a"), Scope::Schedule("b")] {
            let pause = Pause {
                until: Some(Timestamp::MAX),
                because: Some("provider \"down\"".into()),
                by: Some("ann".into()),
                stops: true,
                ..Pause::new(scope, since)
            };
            let read = Pause::read(&scope.to_string(), &pause.value().unwrap(), pause.until);
            assert_eq!((read.as_ref(), pause.scope()), (Some(&pause), scope));
        }
        let value = Pause::new(Scope::All, since).value().unwrap();
        for name in ["", "queue", "lane:a", "All"] {
            assert_eq!(Pause::read(name, &value, None), None, "{name}");
        }
        assert_eq!(Pause::read("all", &Json::from_stored("{}"), None), None);
    }

    #[test]
    fn a_pause_says_what_it_covers_since_when_and_why() {
        let since = "2026-11-01T09:00:00.123Z".parse().unwrap();
        let pause = Pause {
            until: Some("2026-11-01T10:00:00Z".parse().unwrap()),
            because: Some("the provider is down".into()),
            by: Some("ann".into()),
            ..Pause::new(Scope::Queue("mail"), since)
        };
        let expected = "the queue `mail` is paused since 2026-11-01T09:00:00Z by ann until 2026-11-01T10:00:00Z: the provider is down";
        assert_eq!(pause.to_string(), expected);
        let expected = "everything is paused since 2026-11-01T09:00:00Z";
        assert_eq!(Pause::new(Scope::All, since).to_string(), expected);
    }

    #[test]
    fn a_pause_holds_until_its_end() {
        let second = |second| Timestamp::from_second(second).unwrap();
        let pause = Pause { until: Some(second(9)), ..Pause::new(Scope::Task("a"), second(1)) };
        assert!(pause.keeps("any", "a", second(8)) && !pause.keeps("any", "a", second(9)));
        assert!(!pause.keeps("a", "b", second(8)));
    }
}
