//! What there is to count and to time.

use std::time::Duration;

use crate::model::job::StateKind;

/// Something that is counted or timed.
#[derive(Debug)]
pub(crate) enum Event<'a> {
    /// A job was enqueued.
    Enqueued(Lane<'a>),
    /// An attempt begins at a job that has been due for so long.
    Started(Lane<'a>, Duration),
    /// An attempt has ended, and that is durable.
    Ended(Lane<'a>, EndOfAttempt),
    /// A job was lost with its worker, which has been silent for so long; it is dead by that, or goes on.
    Lost(Lane<'a>, StateKind, Option<Duration>),
    /// A handler has returned, which was called so long before, for a value of this task.
    Handled { task: &'a str, took: Duration },
    /// So many jobs of a lane are in the store.
    Stored(Lane<'a>, Stored),
    /// What a pause covers is paused, or is no more.
    Paused { scope: &'a str, is_paused: bool },
    /// A call of the store has been answered.
    Called(Operation, Called<'a>),
    /// A schedule has fired so many seconds after its tick.
    Fired { schedule: &'a str, lag: f64 },
    /// The clock of this machine is so many seconds ahead of that of the store's server.
    ClockAhead(f64),
    /// A worker has so many more slots, or fewer.
    Slots(f64),
    /// So many more slots of this process are in use, or fewer.
    SlotsUsed(f64),
}

/// The queue and the task of a job. Only tasks that the program knows are named, so that there are few labels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lane<'a> {
    pub(crate) queue: &'a str,
    pub(crate) task: &'a str,
}

/// The label of a task that the program does not know.
pub(crate) const OTHER: &str = "other";

/// The jobs of a lane.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stored {
    pub(crate) waiting: u64,
    pub(crate) running: u64,
    pub(crate) dead: u64,
    /// For how long the job has been due that is next in line.
    pub(crate) oldest: Duration,
}

/// How an attempt ended.
#[derive(Debug)]
pub(crate) struct EndOfAttempt {
    pub(crate) took: Duration,
    /// How many steps the attempt has added.
    pub(crate) steps: u64,
    /// How many of them are skipped values.
    pub(crate) skipped: u64,
    /// How the attempt failed, if it did.
    pub(crate) error_type: Option<&'static str>,
    /// The state of the job from now on.
    pub(crate) next: StateKind,
}

/// A kind of call of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Send,
    Receive,
    Record,
    Settle,
}

impl Operation {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Send => "send",
            Self::Receive => "receive",
            Self::Record => "record",
            Self::Settle => "settle",
        }
    }
}

/// A call of the store that has been answered.
#[derive(Debug)]
pub(crate) struct Called<'a> {
    pub(crate) took: Duration,
    /// How many jobs the call was for.
    pub(crate) jobs: usize,
    /// The queue, where the call was for one.
    pub(crate) queue: Option<&'a str>,
    /// How the call failed, if it did.
    pub(crate) error_type: Option<&'static str>,
}
