//! What can go wrong, said so that a caller can act on it.

use std::{error::Error as StdError, fmt};

use crate::{job::JobId, limits::OverLimit};

/// A result of qtasks.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Any error, as user code raises it.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// What can go wrong.
///
/// `{:?}` is the text with that of all sources, since that is what a `main` that returns an error shows.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The URL names no store that this build has.
    #[error("no store for `{url}`; this build knows {known}")]
    UnknownStore {
        /// The URL, without its password.
        url: String,
        /// The forms that are known.
        known: String,
    },

    /// The store did not do what it was asked to.
    #[error("the store could not {doing}")]
    Store {
        /// What it was asked to do.
        doing: &'static str,
        /// The driver's own error.
        source: BoxError,
    },

    /// The store was written by a newer qtasks.
    #[error(
        "the store at `{place}` has the format {found}, and this qtasks knows formats up to {known}; update qtasks here, \
         or use another store"
    )]
    NewerStore {
        /// Where the store is.
        place: String,
        /// Its format.
        found: i64,
        /// The newest format that is understood.
        known: i64,
    },

    /// The file or database belongs to something else.
    #[error("`{place}` is not a store of qtasks: {why}")]
    ForeignStore {
        /// Where it is.
        place: String,
        /// What was found.
        why: String,
    },

    /// Something does not fit into a job.
    #[error(transparent)]
    OverLimit(#[from] OverLimit),

    /// A value has no JSON form.
    #[error("{what} cannot be encoded as JSON")]
    Encode {
        /// What was to be encoded.
        what: String,
        /// What serde says.
        source: BoxError,
    },

    /// Stored JSON is not of the type that was asked for.
    #[error("{what} cannot be read as `{as_type}`: {source}")]
    Decode {
        /// What was to be read.
        what: String,
        /// The type that was asked for.
        as_type: &'static str,
        /// What serde says, with the path to the part that does not fit.
        source: BoxError,
    },

    /// The store has no such job.
    #[error("no job {0} in this store; finished jobs are pruned after their retention")]
    NoSuchJob(JobId),

    /// The job belongs to another task.
    #[error("job {id} is one of the task `{found}`, not of `{asked}`")]
    OtherTask {
        /// The job.
        id: JobId,
        /// Its task.
        found: String,
        /// The task that was asked for.
        asked: String,
    },

    /// The job ended in an error.
    #[error("job {id} is dead: {error}")]
    Dead {
        /// The job.
        id: JobId,
        /// The text of its last error.
        error: String,
    },

    /// The job was called off.
    #[error("job {id} was cancelled: {reason}")]
    Cancelled {
        /// The job.
        id: JobId,
        /// Why.
        reason: String,
    },

    /// What was asked for does not fit the job's state.
    #[error("job {id} is {state}, so it cannot be {wish}")]
    WrongState {
        /// The job.
        id: JobId,
        /// Its state.
        state: &'static str,
        /// What was wished.
        wish: &'static str,
    },

    /// A value's handler failed and the task goes on without it; an item of a stream.
    #[error("step {seq} was skipped: {error}")]
    Skipped {
        /// The number of the step.
        seq: u64,
        /// The text of the handler's error.
        error: String,
    },

    /// No task is linked into this program.
    #[error(
        "this program knows no task; a crate that is never mentioned is not linked, so say `use your_crate as _;` in the \
         binary"
    )]
    EmptyRegistry,

    /// Two tasks have one name.
    #[error("two tasks are named `{name}`: {first} and {second}; give one of them `name = \"..\"`")]
    DuplicateTask {
        /// The name.
        name: &'static str,
        /// Where the one stands.
        first: String,
        /// Where the other stands.
        second: String,
    },

    /// A task with this name is not linked into this program.
    #[error("no task named `{name}`; is its crate mentioned (`use emails as _;`) in this binary?")]
    UnknownTask {
        /// The name.
        name: String,
    },

    /// A task needs a state that the application was not given.
    #[error("the task `{task}` needs a `State<{state}>`; give it with `QueueTasks::builder().state(..)`")]
    MissingState {
        /// The task.
        task: &'static str,
        /// The type.
        state: &'static str,
    },

    /// A task has a handler that runs in transactions which the store does not have.
    #[error(
        "the task `{task}` has a handler for transactions of {kind}, which this store does not have; open one that does \
         (`{kind}:..`), or let the handler take the value alone"
    )]
    NoTransactions {
        /// The task.
        task: &'static str,
        /// The kind of store that the handler is written for.
        kind: &'static str,
    },

    /// The body of a job that ran here and now ended in an error.
    #[error("the task `{task}` failed: {error}")]
    Failed {
        /// The task.
        task: &'static str,
        /// The text of the error with those below it.
        error: String,
    },

    /// The worker or the application is not what it must be for this.
    #[error("{0}")]
    Misuse(&'static str),
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&chain(self))
    }
}

impl Error {
    /// Whether this is a step that was skipped: the stream goes on after it.
    pub const fn is_skipped(&self) -> bool {
        matches!(self, Self::Skipped { .. })
    }

    /// The number of the step that the error is about, where it is about one.
    pub const fn seq(&self) -> Option<u64> {
        match self {
            Self::Skipped { seq, .. } => Some(*seq),
            _ => None,
        }
    }

    /// Whether the same call may succeed later: the store is away, locked or full.
    pub const fn is_store_trouble(&self) -> bool {
        matches!(self, Self::Store { .. })
    }

    pub(crate) fn store(doing: &'static str, source: impl Into<BoxError>) -> Self {
        Self::Store { doing, source: source.into() }
    }
}

/// The text of `error` and of all that stand behind it, each said once.
pub(crate) fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let said = cause.to_string();
        // Many errors already quote their source.
        if !text.ends_with(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        source = cause.source();
    }
    text
}
