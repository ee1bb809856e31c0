//! What can go wrong, said so that a caller can act on it.

use std::{
    error::Error as StdError,
    fmt::{self, Write},
};

use crate::model::{job::JobId, limits::OverLimit};

/// A result of qtasks.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Any error, as user code raises it.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// What can go wrong.
///
/// The text of each says what went wrong as a whole, the text of its sources included, so that no caller needs to ask for
/// those; `{:?}` is the same text, since that is what a `main` that returns an error shows.
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
    #[error("the store could not {doing}: {}", chain(&**source))]
    Store {
        /// What it was asked to do.
        doing: &'static str,
        /// The driver's own error.
        source: BoxError,
    },

    /// The store did not say whether jobs were enqueued, also not when it was asked again until the time was over.
    #[error("{}: {source}", in_doubt(jobs))]
    InDoubt {
        /// The jobs that may be there.
        jobs: Vec<JobId>,
        /// Why there was no answer.
        source: Box<Error>,
    },

    /// The store will never do what it was asked to, however often: the text says what is too large for it, say,
    /// or what a constraint does not allow. Nothing of the call is done.
    #[error("the store refuses to {doing}: {}", chain(&**source))]
    Refused {
        /// What it was asked to do.
        doing: &'static str,
        /// Why, in the driver's own words where there are some.
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

    /// A file of the store was removed, renamed or replaced while this program had it open. The store is of no use any more:
    /// what would be written could not be found by others. Workers stop.
    #[error(
        "the store at `{place}` has changed under the running program: {why}; nothing more is written, for it would be \
         lost: see to the files, and start the program again"
    )]
    StoreChanged {
        /// Where the store is.
        place: String,
        /// Which file it is, and what has happened to it.
        why: String,
    },

    /// Something does not fit into a job.
    #[error(transparent)]
    OverLimit(#[from] OverLimit),

    /// A value has no JSON form.
    #[error("{what} cannot be encoded as JSON: {}", chain(&**source))]
    Encode {
        /// What was to be encoded.
        what: String,
        /// What serde says.
        source: BoxError,
    },

    /// Stored JSON is not of the type that was asked for.
    #[error("{what} cannot be read as `{as_type}`: {}", chain(&**source))]
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

    /// There is a job of the id that a call was given, with other arguments.
    #[error(
        "job {id} of the task `{task}` is there with other arguments; an id names one call, so give this one another"
    )]
    OtherArguments {
        /// The job.
        id: JobId,
        /// Its task.
        task: String,
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

    /// A context was used after the end of its attempt, or that came while the caller waited.
    #[error(
        "the attempt of this context has ended (attempt {attempt} of job {job}): a body has to wait for the tasks and \
         threads that it starts; to enqueue something after its end, give them the application"
    )]
    AttemptEnded {
        /// The job.
        job: JobId,
        /// The number of the attempt, from 1.
        attempt: u32,
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
        match self {
            Self::Store { .. } => true,
            Self::InDoubt { source, .. } => source.is_store_trouble(),
            _ => false,
        }
    }

    /// The jobs that may have been enqueued although the call failed; those of [`Error::InDoubt`]. To enqueue the same call
    /// again with its [`id`](crate::CallOptions::id) makes no second job.
    pub fn jobs_in_doubt(&self) -> &[JobId] {
        match self {
            Self::InDoubt { jobs, .. } => jobs,
            _ => &[],
        }
    }

    /// Whether the store has said that no repetition helps: the call itself is to blame.
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

/// What is to be known of jobs that may have been enqueued.
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

/// As many bytes are kept of a text that comes from a task: what errors, panics and reasons say.
const LONGEST: usize = 16 << 10;
/// So many sources are asked of an error. One that is its own source would have them without end.
const DEEPEST: usize = 128;

/// The text of `error` and of all that stand behind it, each said once; not more than is [kept](bounded).
pub(crate) fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = Text::default();
    for (place, error) in sources(error).enumerate() {
        let Text { said, is_cut } = said(error);
        // Many errors already quote their source.
        if place == 0 {
            _ = text.write_str(&said);
        } else if !text.said.ends_with(&said) {
            _ = text.write_str(": ").and_then(|()| text.write_str(&said));
        }
        text.is_cut |= is_cut;
        // Ours say what stands behind them.
        if text.is_cut || error.is::<Error>() {
            break;
        }
    }
    text.finish()
}

/// An error and what stands behind it.
pub(crate) fn sources<'e>(error: &'e (dyn StdError + 'static)) -> impl Iterator<Item = &'e (dyn StdError + 'static)> {
    fn behind<'e>(error: &&'e (dyn StdError + 'static)) -> Option<&'e (dyn StdError + 'static)> {
        let error: &'e (dyn StdError + 'static) = *error;
        error.source()
    }
    std::iter::successors(Some(error), behind).take(DEEPEST)
}

/// The start of a text that is too long to be kept, with a note that says so; or all of it.
pub(crate) fn bounded(text: &str) -> String {
    let mut kept = Text::default();
    _ = kept.write_str(text);
    kept.finish()
}

/// What an error says of itself, as far as that is kept. Its `Display` may fail, which `to_string` would panic at.
fn said(error: &(dyn StdError + 'static)) -> Text {
    let mut text = Text::default();
    match write!(text, "{error}") {
        Err(_) if !text.is_cut => Text { said: "an error that cannot tell its text".to_owned(), is_cut: false },
        _ => text,
    }
}

/// A text that grows no further than it is kept.
#[derive(Default)]
struct Text {
    said: String,
    is_cut: bool,
}

impl Text {
    fn finish(self) -> String {
        if self.is_cut { self.said + "… (cut after 16 KiB)" } else { self.said }
    }
}

impl Write for Text {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        let room = LONGEST - self.said.len();
        self.said.push_str(&more[..more.floor_char_boundary(room)]);
        self.is_cut |= more.len() > room;
        // Whatever is said further costs no time.
        if self.is_cut { Err(fmt::Error) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Mute;

    impl fmt::Display for Mute {
        fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
            Err(fmt::Error)
        }
    }

    impl StdError for Mute {}

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] BoxError);

    #[test]
    fn an_error_whose_display_fails_has_a_text() {
        assert_eq!(chain(&Mute), "an error that cannot tell its text");
        assert_eq!(chain(&Outer(Mute.into())), "outer: an error that cannot tell its text");
    }

    #[test]
    fn a_long_text_is_cut_between_two_characters_and_says_so() {
        let long = format!("a{}", "ж".repeat(20 << 20));
        for text in [bounded(&long), chain(&*BoxError::from(long.clone())), chain(&Outer(long.clone().into()))] {
            assert!(text.len() < LONGEST + 32 && text.ends_with("ж… (cut after 16 KiB)"), "{} bytes", text.len());
        }
        assert_eq!(bounded("short"), "short");
    }

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
            assert!(text.len() < LONGEST + 64 && text.ends_with("x… (cut after 16 KiB)"), "{} bytes", text.len());
        }
    }

    #[derive(Debug, thiserror::Error)]
    #[error("again")]
    struct Circle;

    #[derive(Debug)]
    struct Itself;

    impl fmt::Display for Itself {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("x")
        }
    }

    impl StdError for Itself {
        fn source(&self) -> Option<&(dyn StdError + 'static)> {
            Some(self)
        }
    }

    #[test]
    fn an_error_that_is_its_own_source_has_an_end() {
        assert_eq!(chain(&Itself), "x");
        assert_eq!(chain(&Outer(Circle.into())), "outer: again");
        assert_eq!(sources(&Itself).count(), DEEPEST);
    }
}
