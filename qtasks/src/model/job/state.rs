//! The states of a job, and what it gave when it is done.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::ids::WorkerId;
use crate::model::json::Json;

/// The state that a job is in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The job waits, and is leased once it is due and waits for no other job.
    Waiting {
        /// The time from which it may be leased.
        due: Timestamp,
        /// For how many other jobs it waits, of those that it comes [after](super::JobCall::after). It is not leased before each of
        /// them has ended.
        #[serde(default, skip_serializing_if = "is_zero")]
        parents: u32,
    },
    /// A worker holds the job.
    Running {
        /// The worker that holds the lease.
        worker: WorkerId,
        /// The time from which the job could be leased.
        due: Timestamp,
    },
    /// The job ended well.
    Done {
        /// The result of the job.
        output: Output,
    },
    /// The job ended in an error, and no further attempt is made unless it is retried by hand.
    Dead {
        /// The text of the last error.
        error: String,
    },
    /// The task or a user called the job off.
    Cancelled {
        /// Why the job was called off.
        reason: String,
    },
}

impl State {
    /// That of a job which waits for nothing but its time.
    pub const fn waiting(due: Timestamp) -> Self {
        Self::Waiting { due, parents: 0 }
    }

    /// From when on the job may be leased, if it waits for nothing but its time.
    pub const fn due(&self) -> Option<Timestamp> {
        match self {
            Self::Waiting { due, parents: 0 } => Some(*due),
            _ => None,
        }
    }

    /// The state, without what belongs to it.
    pub const fn kind(&self) -> StateKind {
        match self {
            Self::Waiting { .. } => StateKind::Waiting,
            Self::Running { .. } => StateKind::Running,
            Self::Done { .. } => StateKind::Done,
            Self::Dead { .. } => StateKind::Dead,
            Self::Cancelled { .. } => StateKind::Cancelled,
        }
    }

    /// The worker that holds the job, if it runs.
    pub const fn worker(&self) -> Option<WorkerId> {
        match self {
            Self::Running { worker, .. } => Some(*worker),
            _ => None,
        }
    }

    /// The word for the state: `waiting`, `running`, `done`, `dead` or `cancelled`.
    pub const fn name(&self) -> &'static str {
        self.kind().as_str()
    }

    /// Whether the job has ended, so that nothing more happens to it by itself.
    pub const fn is_ended(&self) -> bool {
        self.kind().is_ended()
    }
}

fn is_zero(parents: &u32) -> bool {
    *parents == 0
}

/// Which state a job is in, without what belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StateKind {
    /// The job waits, and is leased once it is due.
    Waiting,
    /// A worker holds the job.
    Running,
    /// The job ended well.
    Done,
    /// The job ended in an error.
    Dead,
    /// The task or a user called the job off.
    Cancelled,
}

impl StateKind {
    /// The word for the state: `waiting`, `running`, `done`, `dead` or `cancelled`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Done => "done",
            Self::Dead => "dead",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether a job in this state has ended, so that nothing more happens to it by itself.
    pub const fn is_ended(self) -> bool {
        matches!(self, Self::Done | Self::Dead | Self::Cancelled)
    }
}

impl fmt::Display for StateKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The state that a settlement puts a job into: any state but running, which only a lease leads to.
#[derive(Clone, Debug, PartialEq)]
pub enum NextState {
    /// The job waits, and is leased once it is due.
    Waiting {
        /// The time from which it may be leased.
        due: Timestamp,
    },
    /// The job ended well.
    Done {
        /// The result of the job.
        output: Output,
    },
    /// The job ended in an error, and no further attempt is made unless it is retried by hand.
    Dead {
        /// The text of the last error.
        error: String,
    },
    /// The task or a user called the job off.
    Cancelled {
        /// Why the job was called off.
        reason: String,
    },
}

impl NextState {
    /// The state, without what belongs to it.
    pub const fn kind(&self) -> StateKind {
        match self {
            Self::Waiting { .. } => StateKind::Waiting,
            Self::Done { .. } => StateKind::Done,
            Self::Dead { .. } => StateKind::Dead,
            Self::Cancelled { .. } => StateKind::Cancelled,
        }
    }

    /// Whether the job has ended, so that nothing more happens to it by itself.
    pub const fn is_ended(&self) -> bool {
        self.kind().is_ended()
    }
}

impl From<NextState> for State {
    fn from(next: NextState) -> Self {
        match next {
            NextState::Waiting { due } => Self::waiting(due),
            NextState::Done { output } => Self::Done { output },
            NextState::Dead { error } => Self::Dead { error },
            NextState::Cancelled { reason } => Self::Cancelled { reason },
        }
    }
}

/// The result of a job that is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Output {
    /// The value that the body of the job returned.
    Value(Json),
    /// The replies of its steps, collected into this shape.
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
    /// The number of replies: `Count`.
    Count,
    /// The last reply: `Last`.
    Last,
    /// No value at all: `()`.
    Nothing,
}
