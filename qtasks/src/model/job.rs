//! A job and what belongs to it: its state, its steps, the attempts made at it.

use std::{fmt, str::FromStr, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::json::Json;

macro_rules! ids {
    ($($(#[$docs:meta])* $id:ident)*) => {$(
        $(#[$docs])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $id(Uuid);

        impl $id {
            /// A new id, later than every id that this process made before.
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }

            /// The id as 16 bytes, in the order in which ids sort.
            pub const fn to_bytes(self) -> [u8; 16] {
                self.0.into_bytes()
            }

            /// The id that [`to_bytes`](Self::to_bytes) gave these bytes for.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }
        }

        impl Default for $id {
            fn default() -> Self {
                Self::new()
            }
        }

        impl fmt::Display for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}

ids! {
    /// The name of a job in its store; sorts by the time of its making.
    JobId
    /// The name of a worker; a new one each time a worker starts.
    WorkerId
}

/// A text that is no job id.
#[derive(Debug, thiserror::Error)]
#[error("`{text}` is not a job id, which looks like 01932b2e-7c5d-7b54-8f3c-0b7c6a2f9d10")]
pub struct ParseJobIdError {
    text: String,
}

impl FromStr for JobId {
    type Err = ParseJobIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self).map_err(|_| ParseJobIdError { text: text.to_owned() })
    }
}

/// What a job is from the beginning to the end. Times are kept to the millisecond.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobCall {
    /// The id of the job.
    pub id: JobId,
    /// The task's name.
    pub task: String,
    /// The queue it was enqueued under.
    pub queue: String,
    /// Higher is leased first.
    pub priority: i16,
    /// The arguments, an object by parameter name.
    pub args: Json,
    /// How long one attempt may last, when the call says so; else the task decides.
    pub max_time: Option<Duration>,
    /// When it was enqueued.
    pub enqueued: Timestamp,
}

/// A call of a task, ready to be enqueued.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NewJob {
    /// What the job is from now on.
    pub call: JobCall,
    /// When it may be leased first. Stores keep the latest such time alone, so that it is not part of the call.
    pub due: Timestamp,
}

impl NewJob {
    /// The job that it becomes when it is leased to `worker` at the moment it is enqueued.
    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    pub(crate) fn leased_to(self, worker: WorkerId) -> Job {
        let standing = Standing { state: State::Running { worker }, attempt: 1, ..Standing::waiting(self.due) };
        Job { call: self.call, standing, counts: Counts::default() }
    }
}

/// A call that is due as soon as it is enqueued.
impl From<JobCall> for NewJob {
    fn from(call: JobCall) -> Self {
        Self { due: call.enqueued, call }
    }
}

/// A job as its store knows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// What never changes.
    pub call: JobCall,
    /// What changes when it is leased and settled.
    pub standing: Standing,
    /// What only grows, with each record.
    pub counts: Counts,
}

impl Job {
    /// The lease that it runs under, if it runs.
    pub const fn lease(&self) -> Option<Lease> {
        self.standing.lease(self.call.id)
    }
}

/// The job that a call becomes when it is enqueued: it waits, and nothing has been tried yet.
impl From<NewJob> for Job {
    fn from(NewJob { call, due }: NewJob) -> Self {
        Self { call, standing: Standing::waiting(due), counts: Counts::default() }
    }
}

/// How a job stands. Leasing and settling change it; and a new step forgives its failures and losses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    /// Whether it waits, runs or has ended.
    pub state: State,
    /// The number of its latest attempt; 0 before the first.
    pub attempt: u32,
    /// Failures in a row, without a new step between them.
    pub failures: u32,
    /// Set from the moment the job is lost with its worker until it ends.
    pub suspect: Option<Suspect>,
}

impl Standing {
    /// That of a job which waits for its first attempt.
    pub const fn waiting(due: Timestamp) -> Self {
        Self { state: State::Waiting { due }, attempt: 0, failures: 0, suspect: None }
    }

    /// The lease that job `job`, which stands so, runs under, if it runs.
    pub const fn lease(&self, job: JobId) -> Option<Lease> {
        match self.state {
            State::Running { worker } => Some(Lease { job, attempt: self.attempt, worker }),
            _ => None,
        }
    }
}

/// How much there is of a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Durable steps, which is also the number of the next one.
    pub steps: u64,
    /// Those of them that were skipped.
    pub skipped: u64,
    /// Things that were done once, which is also the number of the next memo.
    pub memos: u64,
    /// What the task last said of its progress.
    pub progress: Option<Progress>,
}

/// What is known of a job that was lost with its worker, and so may be what killed it. Times are kept to the millisecond.
///
/// Suspects are started one at a time in an application, those that have survived least first. One has the
/// [turn](Self::turn) until it ends, makes a step, or has lived so long that it does not look like a killer any more. If the
/// worker is lost while a suspect has the turn and no other suspect runs beside it, that is a failure of this job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspect {
    /// The longest it has lived when its worker was lost.
    pub survived: Duration,
    /// How often it was lost since its last step.
    pub losses: u32,
    /// When it was leased, while it runs.
    pub leased: Option<Timestamp>,
    /// Whether the loss of its worker would be a failure of it.
    pub liable: bool,
}

impl Suspect {
    /// The shortest turn.
    const SHORTEST: Duration = Duration::from_secs(5);

    /// How long its body may live before the next suspect is started beside it: twice what it has survived, and at least
    /// 5 s, doubled with each further loss since its last step.
    pub fn turn(&self) -> Duration {
        let doubled = 1_u32.checked_shl(self.losses.saturating_sub(1)).unwrap_or(u32::MAX);
        Self::SHORTEST.saturating_mul(doubled).max(self.survived.saturating_mul(2))
    }
}

/// Where a job stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It is leased once it is due.
    Waiting {
        /// The time from which it may be leased.
        due: Timestamp,
    },
    /// A worker holds it.
    Running {
        /// The worker whose lease it is.
        worker: WorkerId,
    },
    /// It ended well.
    Done {
        /// What it gave.
        output: Output,
    },
    /// It ended in an error, and no further try is made by itself.
    Dead {
        /// The text of the last error.
        error: String,
    },
    /// It was called off.
    Cancelled {
        /// Why.
        reason: String,
    },
}

impl State {
    /// Which of the states it is.
    pub const fn kind(&self) -> StateKind {
        match self {
            Self::Waiting { .. } => StateKind::Waiting,
            Self::Running { .. } => StateKind::Running,
            Self::Done { .. } => StateKind::Done,
            Self::Dead { .. } => StateKind::Dead,
            Self::Cancelled { .. } => StateKind::Cancelled,
        }
    }

    /// The word for it: `waiting`, `running`, `done`, `dead` or `cancelled`.
    pub const fn name(&self) -> &'static str {
        self.kind().as_str()
    }

    /// Whether nothing more happens to the job by itself.
    pub const fn is_ended(&self) -> bool {
        self.kind().is_ended()
    }
}

/// Which state a job is in, without what belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StateKind {
    /// It is leased once it is due.
    Waiting,
    /// A worker holds it.
    Running,
    /// It ended well.
    Done,
    /// It ended in an error.
    Dead,
    /// It was called off.
    Cancelled,
}

impl StateKind {
    /// The word for it: `waiting`, `running`, `done`, `dead` or `cancelled`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Done => "done",
            Self::Dead => "dead",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether nothing more happens by itself to a job in this state.
    pub const fn is_ended(self) -> bool {
        matches!(self, Self::Done | Self::Dead | Self::Cancelled)
    }
}

impl fmt::Display for StateKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The state that a job comes to by a settlement: each but running, to which only a lease leads.
#[derive(Clone, Debug, PartialEq)]
pub enum NextState {
    /// It is leased once it is due.
    Waiting {
        /// The time from which it may be leased.
        due: Timestamp,
    },
    /// It ended well.
    Done {
        /// What it gave.
        output: Output,
    },
    /// It ended in an error, and no further try is made by itself.
    Dead {
        /// The text of the last error.
        error: String,
    },
    /// It was called off.
    Cancelled {
        /// Why.
        reason: String,
    },
}

impl NextState {
    /// Which of the states it is.
    pub const fn kind(&self) -> StateKind {
        match self {
            Self::Waiting { .. } => StateKind::Waiting,
            Self::Done { .. } => StateKind::Done,
            Self::Dead { .. } => StateKind::Dead,
            Self::Cancelled { .. } => StateKind::Cancelled,
        }
    }

    /// Whether nothing more happens to the job by itself.
    pub const fn is_ended(&self) -> bool {
        self.kind().is_ended()
    }
}

impl From<NextState> for State {
    fn from(next: NextState) -> Self {
        match next {
            NextState::Waiting { due } => Self::Waiting { due },
            NextState::Done { output } => Self::Done { output },
            NextState::Dead { error } => Self::Dead { error },
            NextState::Cancelled { reason } => Self::Cancelled { reason },
        }
    }
}

/// What a job that is done gave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Output {
    /// The value its body returned.
    Value(Json),
    /// The replies of its steps, collected.
    Steps(Shape),
}

/// What the replies of a job's steps are collected into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Shape {
    /// One value after the other: `Vec`, `VecDeque`, the sets.
    List,
    /// Pairs of key and value: the maps.
    Map,
    /// Pieces of text: `String`.
    Text,
    /// How many they were: `Count`.
    Count,
    /// The last one: `Last`.
    Last,
    /// Nothing: `()`.
    Nothing,
}

/// A worker's claim on a job. The attempt number fences it: a worker whose lease has passed on holds an older one, and
/// its writes fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Lease {
    /// The job.
    pub job: JobId,
    /// The attempt that the lease is for.
    pub attempt: u32,
    /// Who holds it.
    pub worker: WorkerId,
}

/// One handled value of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Its place among the job's steps, from 0.
    pub seq: u64,
    /// The [hash](crate::model::json::hash) of the yielded value.
    pub hash: u64,
    /// What the handler answered.
    pub reply: Reply,
}

/// What the handler answered to a value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// A value.
    Value(Json),
    /// An error, under `on_error = "skip"`; the text of it.
    Skipped(String),
}

impl Reply {
    /// What is stored of it.
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Value(json) => json.as_str(),
            Self::Skipped(error) => error,
        }
    }

    pub(crate) fn is_skipped(&self) -> bool {
        matches!(self, Self::Skipped(_))
    }
}

/// Something that an attempt did once, so that later ones need not do it again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memo {
    /// Its place among the job's memos, from 0.
    pub number: u64,
    /// The one step that it is for; without this, it is for the body from its beginning to its end.
    pub step: Option<u64>,
    /// The name that the body gave it, by which later attempts find it.
    pub name: String,
    /// How many memos of the same name the body made before this one.
    pub nth: u64,
    /// What came of it.
    pub value: Json,
}

/// How far a task says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Units done.
    pub done: u64,
    /// Units there are in all.
    pub total: u64,
}

/// An attempt that has ended: when, where and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Its number, from 1.
    pub number: u32,
    /// Where it ran.
    pub worker: WorkerId,
    /// When the body was started, where that is known: of an attempt whose worker was lost, it is not.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub ended: Timestamp,
    /// Why it ended.
    pub ending: Ending,
}

/// Why an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Ending {
    /// The body came to its end.
    Done,
    /// An error, a panic, or `max_time` passed.
    Failed {
        /// The text of the error.
        error: String,
    },
    /// The task asked to go on later.
    Snoozed,
    /// The task or a user called the job off.
    Cancelled {
        /// Why.
        reason: String,
    },
    /// The task gave the job up.
    Discarded {
        /// Why.
        reason: String,
    },
    /// The worker stopped and gave the job back.
    Released,
    /// The worker's lease ran out, or the worker was killed.
    Lost,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_survive_text_bytes_and_json_and_sort_by_age() {
        let (older, newer) = (JobId::new(), JobId::new());
        assert!(older < newer);
        assert_eq!(older.to_string().parse::<JobId>().unwrap(), older);
        assert_eq!(JobId::from_bytes(older.to_bytes()), older);
        assert_eq!(serde_json::to_string(&older).unwrap(), format!("\"{older}\""));
    }

    #[test]
    fn a_text_that_is_no_id_is_quoted_in_the_error() {
        let error = "12".parse::<JobId>().unwrap_err();
        assert_eq!(error.to_string(), "`12` is not a job id, which looks like 01932b2e-7c5d-7b54-8f3c-0b7c6a2f9d10");
    }
}
