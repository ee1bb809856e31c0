//! Why a statement failed.

use std::{error::Error as StdError, fmt, sync::Arc, time::Duration};

use deadpool_postgres::{HookError, PoolError, TimeoutType};
use tokio_postgres::error::{DbError, SqlState};

use super::{account, url::StoreUrl};
use crate::error::{Error, chain};

const UNENCRYPTED: &str = "; `?sslmode=disable` goes without, over networks that are yours";

/// Why a statement failed. It is cloned for each of the calls that shared the statement.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    /// A handler did with its transaction what it must not do.
    Misuse(&'static str),
    /// The call needs something that connections of this URL do not have.
    Unsupported(&'static str),
    /// The call breaks the contract of a store.
    Contract(&'static str),
    /// The server has answered with an error, which may be about something in the statement.
    Refused(Trouble),
    /// The server could not be reached, or could not answer.
    Away(Trouble),
    /// The server has not answered within this time.
    Silent(Duration),
    /// The tables have the format `found`, which only a newer qtasks knows; this one knows `known`.
    Newer { place: String, found: i64, known: i64 },
}

/// An error of the driver, or one of the store's own in its place.
#[derive(Clone, Debug)]
pub(super) struct Trouble {
    error: Arc<dyn StdError + Send + Sync>,
    /// What an operator can do, where that is known.
    mend: Option<Arc<str>>,
}

impl Fault {
    pub(super) fn into_error(self, doing: &'static str) -> Error {
        match self {
            Self::Misuse(why) => Error::Misuse(why),
            Self::Unsupported(why) => Error::Unsupported(why),
            Self::Contract(why) => Error::BrokenContract(why),
            Self::Refused(trouble) | Self::Away(trouble) => Error::store(doing, trouble),
            Self::Newer { place, found, known } => Error::NewerStore { store: place, found, known },
            Self::Silent(_) => Error::store(doing, self.to_string()),
        }
    }

    /// The error of a call that writes.
    pub(super) fn of_write(self, doing: &'static str) -> Error {
        match self {
            Self::Refused(trouble) if trouble.is_for_good() => Error::refused(doing, trouble.in_short()),
            fault => fault.into_error(doing),
        }
    }

    /// Whether the server would refuse the statement each time.
    pub(super) fn is_for_good(&self) -> bool {
        matches!(self, Self::Refused(trouble) if trouble.is_for_good())
    }

    /// Adds what an operator can do, where the server has said enough to know that.
    pub(super) fn explained(self, url: &StoreUrl) -> Self {
        match self.answer().and_then(|said| account::mend(said, url)) {
            Some(mend) => self.mended(mend),
            None => self,
        }
    }

    /// Adds what an operator can do.
    pub(super) fn mended(mut self, mend: String) -> Self {
        if let Self::Refused(trouble) | Self::Away(trouble) = &mut self {
            trouble.mend = Some(mend.into());
        }
        self
    }

    /// Whether the role lacks a right.
    pub(super) fn is_denied(&self) -> bool {
        self.answer().is_some_and(|said| *said.code() == SqlState::INSUFFICIENT_PRIVILEGE)
    }

    pub(super) fn away(why: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::Away(Trouble::new(why.into().into()))
    }

    /// The fault when no connection could be made. Of a server that is not reached, the driver does not say which one it is.
    pub(super) fn connecting(error: tokio_postgres::Error, url: &StoreUrl) -> Self {
        match error.source() {
            Some(why) if error.as_db_error().is_none() => {
                let why = chain(why);
                let hint = if why.contains("does not support TLS") { UNENCRYPTED } else { "" };
                Self::away(format!("no connection to {url}: {why}{hint}"))
            }
            _ => Self::Away(Trouble::new(Arc::new(error))).explained(url),
        }
    }

    /// The fault when no connection could be lent.
    pub(super) fn lending(error: PoolError, url: &StoreUrl) -> Self {
        match error {
            PoolError::Backend(error) | PoolError::PostCreateHook(HookError::Backend(error)) => {
                Self::connecting(error, url)
            }
            PoolError::Timeout(TimeoutType::Wait) => Self::away("all connections of the store are busy"),
            PoolError::Timeout(_) => Self::Silent(url.patience),
            other => Self::away(other),
        }
    }

    pub(super) fn refused(why: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::Refused(Trouble::new(why.into().into()))
    }

    /// Whether a pooler stands between, as the first statement of a connection finds out: it does not pass on the settings of
    /// the connection, or has lent another session between the statement's preparation and its execution.
    pub(super) fn is_of_a_pooler(&self) -> bool {
        self.answer().is_some_and(|said| match *said.code() {
            SqlState::PROTOCOL_VIOLATION => said.message().contains("startup parameter"),
            SqlState::INVALID_SQL_STATEMENT_NAME => true,
            _ => false,
        })
    }

    /// Whether the server can only be read.
    pub(super) fn is_read_only(&self) -> bool {
        self.answer().is_some_and(|said| *said.code() == SqlState::READ_ONLY_SQL_TRANSACTION)
    }

    /// The error that the server has answered with, if it has.
    fn answer(&self) -> Option<&DbError> {
        match self {
            Self::Refused(trouble) | Self::Away(trouble) => trouble.said().downcast_ref(),
            Self::Misuse(_) | Self::Unsupported(_) | Self::Contract(_) | Self::Silent(_) | Self::Newer { .. } => None,
        }
    }
}

impl From<tokio_postgres::Error> for Fault {
    fn from(error: tokio_postgres::Error) -> Self {
        // By class: a statement that was cancelled, a server that shuts down or has no room, a lock that is not to be had.
        let is_its_own =
            |code: &SqlState| ["08", "53", "55", "57", "58"].iter().any(|class| code.code().starts_with(class));
        let refused = error.code().map_or_else(|| !error.is_closed(), |code| !is_its_own(code));
        let trouble = Trouble::new(Arc::new(error));
        if refused { Self::Refused(trouble) } else { Self::Away(trouble) }
    }
}

/// The classes of errors about the values of a statement: a value that its type does not take, a constraint, a view's
/// condition, a limit of the server, an error that a trigger raises. Errors that a right, a lock, room or another server
/// mends are not among them.
const FOR_GOOD: [&str; 5] = ["22", "23", "44", "54", "P0"];
/// What the server says, as an error of its own, where a text or an array is larger than it can hold.
const TOO_LARGE: &str = "invalid memory alloc request size";
/// What the driver says where it cannot send a value.
const UNSENDABLE: [&str; 2] = ["error serializing parameter", "error encoding message to server"];

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Misuse(why) | Self::Unsupported(why) | Self::Contract(why) => f.write_str(why),
            Self::Refused(trouble) | Self::Away(trouble) => f.write_str(&chain(trouble)),
            Self::Silent(patience) => write!(f, "no answer from the server within {} s", patience.as_secs_f64()),
            Self::Newer { place, found, .. } => write!(f, "the store at `{place}` has the format {found}"),
        }
    }
}

impl Trouble {
    fn new(error: Arc<dyn StdError + Send + Sync>) -> Self {
        Self { error, mend: None }
    }

    /// What the server says, without the row that it is about. The row may be large, and would stand in the error of a job.
    fn in_short(&self) -> String {
        match self.said().downcast_ref::<DbError>() {
            Some(said) => format!("{} (SQLSTATE {})", said.message(), said.code().code()),
            None => chain(&*self.error),
        }
    }

    fn is_for_good(&self) -> bool {
        match self.said().downcast_ref::<DbError>() {
            Some(said) => {
                FOR_GOOD.iter().any(|class| said.code().code().starts_with(class))
                    || said.message().starts_with(TOO_LARGE)
            }
            None => UNSENDABLE.iter().any(|start| self.error.to_string().starts_with(start)),
        }
    }

    /// The error that says something. The driver's own is just `db error`, with what the server said as its source.
    fn said(&self) -> &(dyn StdError + 'static) {
        match self.error.source() {
            Some(source) if source.is::<DbError>() => source,
            _ => &*self.error,
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(mend) = &self.mend else { return fmt::Display::fmt(self.said(), f) };
        // Details stand on lines of their own.
        let said = self.said().to_string().replace('\n', "; ");
        write!(f, "{}; {mend}", said.trim_end_matches('.'))
    }
}

impl StdError for Trouble {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.said().source()
    }
}
