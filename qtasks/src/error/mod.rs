//! What can go wrong, said so that a caller can act on it.

mod text;

use std::{error::Error as StdError, fmt};

use self::text::chain_until;
pub(crate) use self::text::{bounded, sources};
use crate::model::{
    job::{JobId, NewJob},
    limits::OverLimit,
    schedule::ScheduleError,
    search::SearchError,
};

/// A result whose error is qtasks' own, where no other is named.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Any error that user code raises.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// What can go wrong when a program uses the queue.
///
/// The text of an error has the text of all its sources in it, so that no caller needs to ask for those. `{:?}` gives the same
/// text, since that is what a `main` that returns an error shows.
#[derive(thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "fields whose names say what they are have no docs")]
pub enum Error {
    /// The URL names no store that this build has.
    #[error("no store for `{url}`; this build knows {known}")]
    UnknownStore {
        /// The URL, without its password.
        url: String,
        /// The forms of URLs that this build knows.
        known: String,
    },

    /// The store did not carry out a call. The same call may succeed later.
    #[error("the store could not {doing}: {}", chain(&**source))]
    Store {
        /// What the call was to do.
        doing: &'static str,
        /// The driver's own error.
        source: BoxError,
    },

    /// The store did not answer whether jobs were enqueued, although the call was made again until the time was over.
    #[error("{}: {source}", in_doubt(jobs))]
    InDoubt {
        /// The jobs that may be there.
        jobs: Vec<JobId>,
        /// The error of the last try.
        source: Box<Error>,
    },

    /// The store will never carry out this call, however often it is made: something is too large for it, say, or a constraint
    /// does not allow it. Nothing of the call is done.
    #[error("the store refuses to {doing}: {}", chain(&**source))]
    Refused {
        /// What the call was to do.
        doing: &'static str,
        /// The reason, in the driver's own words where there are some.
        source: BoxError,
    },

    /// The store was written by a newer qtasks.
    #[error(
        "the store at `{store}` has the format {found}, and this qtasks knows formats up to {known}; update qtasks here, \
         or use another store"
    )]
    NewerStore {
        /// The store: its URL without the password, or the path of its file.
        store: String,
        /// The format of the store.
        found: i64,
        /// The newest format that this qtasks knows.
        known: i64,
    },

    /// The file or database belongs to something else.
    #[error("`{store}` is not a store of qtasks: {why}")]
    ForeignStore {
        /// The store: its URL without the password, or the path of its file.
        store: String,
        /// What was found there instead.
        why: String,
    },

    /// A transaction is on another file, database or schema than the application's store.
    #[error(
        "the transaction is on {transaction}, and the application's store is {store}: the job would be none of this \
         application's; begin the transaction where the application is open, or open the application there"
    )]
    OtherStore {
        /// Where the transaction is.
        transaction: String,
        /// Where the application's store is.
        store: String,
    },

    /// A file of the store was removed, renamed or replaced while this program had it open. The store is of no use any more,
    /// since other programs would not find what this one writes to it. Workers stop.
    #[error(
        "the store at `{store}` has changed under the running program: {why}; nothing more is written, for it would be \
         lost: see to the files, and start the program again"
    )]
    StoreChanged {
        /// The path of the store's file.
        store: String,
        /// Which file it is, and what has happened to it.
        why: String,
    },

    /// Arguments, a value or a name are larger than the limits allow.
    #[error(transparent)]
    OverLimit(#[from] OverLimit),

    /// Another job of the task holds the key of a call, which is [refused](crate::Duplicate::Refuse) then. Nothing is enqueued.
    #[error("job {job} of `{task}` holds the key `{key}`")]
    Duplicate {
        /// The job that holds the key.
        job: JobId,
        task: String,
        key: String,
    },

    /// A job that has ended cannot be tried again, for another one of its task has its key.
    #[error("job {id} of `{task}` is {state}, and job {holder} holds its key `{key}`: cancel that one first")]
    KeyTaken {
        id: JobId,
        task: String,
        state: &'static str,
        /// The job that holds the key.
        holder: JobId,
        key: String,
    },

    /// A call says how its job holds a key, and has none.
    #[error("a call of `{task}` has no key: mark the task with `unique`, or give the call a `unique_key`")]
    NoKey { task: String },

    /// A job is to wait for another one that is not there. Nothing is enqueued.
    #[error(
        "a call of `{task}` is to wait for job {job}, and there is no such job in this store; finished jobs are pruned after their \
         retention"
    )]
    NoParent {
        task: String,
        /// The job that is not there.
        job: JobId,
    },

    /// A search is none.
    #[error(transparent)]
    Search(#[from] SearchError),

    /// A value has no JSON form.
    #[error("{what} cannot be encoded as JSON: {}", chain(&**source))]
    Encode { what: String, source: BoxError },

    /// Stored JSON is not of the type that was asked for.
    #[error("{what} cannot be read as `{as_type}`: {}", chain(&**source))]
    Decode {
        what: String,
        as_type: &'static str,
        /// The error of serde, with the path to the part that does not fit.
        source: BoxError,
    },

    /// Something that stands before all that is enqueued, an [`Around`](crate::Around), refuses the call. Nothing is enqueued.
    #[error("a call of `{task}` is refused: {reason}")]
    Rejected {
        /// The id that the job was to have.
        id: JobId,
        task: String,
        /// Why the call is refused.
        reason: String,
    },

    /// The store has no such job.
    #[error("no job {0} in this store; finished jobs are pruned after their retention")]
    NoSuchJob(JobId),

    /// The job belongs to another task.
    #[error("job {id} is one of the task `{found}`, not of `{asked}`")]
    OtherTask { id: JobId, found: String, asked: String },

    /// The store has a job of the id that a call was given, with other arguments.
    #[error(
        "job {id} of the task `{task}` is there with other arguments; an id names one call, so give this one another"
    )]
    OtherArguments { id: JobId, task: String },

    /// The job ended in an error.
    #[error("job {id} is dead: {error}")]
    Dead {
        id: JobId,
        /// The text of its last error.
        error: String,
    },

    /// The job was cancelled, by a caller or by its task.
    #[error("job {id} was cancelled: {reason}")]
    Cancelled { id: JobId, reason: String },

    /// The job is in a state in which it cannot be what the caller wished.
    #[error("job {id} is {state}, so it cannot be {wish}")]
    WrongState {
        id: JobId,
        state: &'static str,
        /// What the job cannot be in this state, as `cancelled` or `retried`.
        wish: &'static str,
    },

    /// The handler of a value failed, and the task goes on without that value; an item of a stream.
    #[error("step {seq} was skipped: {error}")]
    Skipped {
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
        name: &'static str,
        /// The file and line of the one.
        first: String,
        /// The file and line of the other.
        second: String,
    },

    /// The expression or the time zone of a schedule is wrong.
    #[error("the schedule `{name}`: {source}")]
    Schedule {
        /// The name of the schedule.
        name: String,
        source: ScheduleError,
    },

    /// Two schedules in the code of this program have one name.
    #[error(
        "two schedules are named `{name}`; the schedule of a task has the name of the task, so give the other one another"
    )]
    DuplicateSchedule { name: String },

    /// The store has no schedule of this name.
    #[error("no schedule of this store is named `{name}`")]
    NoSuchSchedule { name: String },

    /// A schedule stands in the code of a running worker, so it cannot be removed from the store.
    #[error(
        "the schedule `{name}` stands in the code of a running worker, which would write it again; pause it, or take it out of \
         the code"
    )]
    InCode { name: String },

    /// A task needs a state that the application was not given.
    #[error("the task `{task}` needs a `State<{state}>`; give it with `QueueTasks::builder().state(..)`")]
    MissingState { task: &'static str, state: &'static str },

    /// A task has a handler that runs in transactions which the store does not have.
    #[error(
        "the task `{task}` has a handler for transactions of {kind}, which this store does not have; open one that does \
         (`{kind}:..`), or let the handler take the value alone"
    )]
    NoTransactions {
        task: &'static str,
        /// The kind of store whose transactions the handler takes.
        kind: &'static str,
    },

    /// The body of a job that ran here and now ended in an error.
    #[error("the task `{task}` failed: {error}")]
    Failed {
        task: &'static str,
        /// The text of the error and of its sources.
        error: String,
    },

    /// A context was used after the end of its attempt, or the attempt ended while the caller waited.
    #[error(
        "the attempt of this context has ended (attempt {attempt} of job {job}): a body has to wait for the tasks and \
         threads that it starts; to enqueue something after its end, give them the application"
    )]
    AttemptEnded {
        job: JobId,
        /// The number of the attempt, from 1.
        attempt: u32,
    },

    /// The store was away while a worker stopped, so that its jobs could not be given back. They go on elsewhere when their
    /// leases have run out.
    #[error("the store was away while the worker stopped; its jobs go on when their leases have run out")]
    NotGivenBack,

    /// The program uses qtasks in a way that cannot work: the text says what to change in the program.
    #[error("{0}")]
    Misuse(&'static str),

    /// The store, or this way to connect to it, has not what the call needs: the text says which store or URL has.
    #[error("{0}")]
    Unsupported(&'static str),

    /// A call of a store breaks the rules of its [contract](crate::store::Store), as steps do that leave a gap in their numbers.
    /// Workers of qtasks make no such call: it shows a bug in a worker, or in a program that calls a store by itself.
    #[error("{0}")]
    BrokenContract(&'static str),
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&chain(self))
    }
}

impl Error {
    /// The call of `new` is refused, for `job` holds its key.
    pub(crate) fn duplicate(new: &NewJob, job: JobId) -> Self {
        Self::Duplicate { job, task: new.call.task.clone(), key: new.call.key.clone().unwrap_or_default() }
    }

    /// The call of `new` is refused, for there is no `job` that it could wait for.
    pub(crate) fn no_parent(new: &NewJob, job: JobId) -> Self {
        Self::NoParent { task: new.call.task.clone(), job }
    }

    /// Whether this is the error of a skipped step: the stream goes on after it.
    pub const fn is_skipped(&self) -> bool {
        matches!(self, Self::Skipped { .. })
    }

    /// The number of the step that was skipped, where the error is about one.
    pub const fn seq(&self) -> Option<u64> {
        match self {
            Self::Skipped { seq, .. } => Some(*seq),
            _ => None,
        }
    }

    /// Whether the same call may succeed later, since the store is away, locked or full.
    pub const fn is_store_trouble(&self) -> bool {
        match self {
            Self::Store { .. } => true,
            Self::InDoubt { source, .. } => source.is_store_trouble(),
            _ => false,
        }
    }

    /// The jobs that may have been enqueued although the call failed: those of [`Error::InDoubt`]. Enqueueing the same call
    /// again with its [`id`](crate::CallOptions::id) makes no second job.
    pub fn jobs_in_doubt(&self) -> &[JobId] {
        match self {
            Self::InDoubt { jobs, .. } => jobs,
            _ => &[],
        }
    }

    /// Whether the store will never carry out this call: the call itself is to blame.
    pub(crate) const fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::OverLimit(_))
    }

    #[cfg(any(feature = "postgres", feature = "redis", feature = "sqlite"))]
    pub(crate) fn refused(doing: &'static str, source: impl Into<BoxError>) -> Self {
        Self::Refused { doing, source: source.into() }
    }

    /// Whether the arguments of a job could not be read.
    pub(crate) fn is_of_arguments(&self) -> bool {
        matches!(self, Self::Decode { what, .. } if what == "the stored arguments")
    }

    pub(crate) fn store(doing: &'static str, source: impl Into<BoxError>) -> Self {
        Self::Store { doing, source: source.into() }
    }
}

/// The text of `error` and of all its sources, each once, cut where it is [too long](bounded).
pub(crate) fn chain(error: &(dyn StdError + 'static)) -> String {
    chain_until(error, |error| error.is::<Error>())
}

/// The text about jobs that may have been enqueued.
fn in_doubt(jobs: &[JobId]) -> String {
    match jobs {
        [id] => format!(
            "job {id} may have been enqueued; `any_job({id})` finds it then, and the same call with `.id({id})` makes no \
             second one"
        ),
        _ => format!(
            "{} jobs may have been enqueued; `jobs_in_doubt()` of this error gives their ids, and the same calls with \
             `.id(..)` make no second ones",
            jobs.len()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] BoxError);

    #[test]
    fn the_text_of_an_error_says_all_and_nothing_twice() {
        let refused = || Outer(std::io::Error::from_raw_os_error(111).into());
        let store = || Error::store("open the database", refused());
        let id = JobId::from_bytes([7; 16]);
        let doubt = || Error::InDoubt { jobs: vec![id], source: store().into() };
        let cause = "outer: Connection refused (os error 111)";
        let begin = format!(
            "job {id} may have been enqueued; `any_job({id})` finds it then, and the same call with `.id({id})` makes no \
             second one"
        );
        let encode = Error::Encode { what: "it".into(), source: refused().into() };
        let decode = Error::Decode { what: "it".into(), as_type: "u8", source: refused().into() };
        for (error, text) in [
            (store(), format!("the store could not open the database: {cause}")),
            (doubt(), format!("{begin}: the store could not open the database: {cause}")),
            (encode, format!("it cannot be encoded as JSON: {cause}")),
            (decode, format!("it cannot be read as `u8`: {cause}")),
        ] {
            assert_eq!([error.to_string(), chain(&error), format!("{error:?}")], [&text; 3].map(Clone::clone));
            assert!(error.source().is_some(), "what stands behind it can be asked for");
            assert_eq!(chain(&Outer(error.into())), format!("outer: {text}"));
        }
        assert!(doubt().is_store_trouble() && doubt().jobs_in_doubt() == [id] && store().jobs_in_doubt().is_empty());
    }

    #[test]
    fn the_text_of_an_error_is_bounded_whatever_stands_behind_it() {
        let error = Error::store("hear us", Outer("x".repeat(20 << 20).into()));
        for text in [error.to_string(), chain(&error)] {
            assert!(text.len() < text::LONGEST + 64 && text.ends_with("x… (cut after 16 KiB)"), "{} bytes", text.len());
        }
    }
}
