//! Why the database did not do what it was asked to.

use std::{any::Any, io, path::Path, sync::Arc, time::Duration};

use rusqlite::ErrorCode;

use crate::error::Error;

/// What went wrong. Each command that it concerns is answered with a copy.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error(
        "the database is locked by another process, or by another connection of this one; waited {waited:?} for it; \
         `?busy=SECONDS` lets it wait longer; a program that makes this call while a write transaction of its own is open \
         waits for itself: let it end first, or enqueue in it (`enqueue_in`, `statement`)"
    )]
    Locked { waited: Duration },
    #[error("{}", said(.0))]
    Sqlite(Arc<rusqlite::Error>),
    /// The last of the room that jobs need to end is not given away.
    #[error(
        "no room is left on its volume for more jobs: {free} bytes, which those that are there may need; make room, \
             or let them end"
    )]
    Crowded { free: u64 },
    /// A file cannot be looked at just now.
    #[error("{0}")]
    Io(Arc<io::Error>),
    /// The files are not those that were opened.
    #[error("{0}")]
    Changed(Arc<str>),
    /// A handler did something to its transaction that it must not.
    #[error("{0}")]
    Misuse(&'static str),
    /// The call breaks the contract of a store.
    #[error("{0}")]
    Contract(&'static str),
    #[error("the store panicked: {0}")]
    Panicked(Arc<str>),
    #[error("its writer has ended")]
    Gone,
}

impl Fault {
    pub(super) fn panicked(panic: &(dyn Any + Send)) -> Self {
        let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        Self::Panicked(text.unwrap_or("no message").into())
    }

    /// The error of a call that writes to the database at `path`.
    pub(super) fn of_write(self, doing: &'static str, path: &Path) -> Error {
        if self.is_for_good() { Error::refused(doing, self) } else { self.into_error(doing, path) }
    }

    /// Whether the database will never do what it was asked to: a value is too large for it, or breaks a constraint or what
    /// a trigger demands. A full disk or a file that can only be read may be mended.
    pub(super) fn is_for_good(&self) -> bool {
        let Self::Sqlite(error) = self else { return false };
        match error.sqlite_error_code() {
            Some(code) => {
                matches!(code, ErrorCode::TooBig | ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch)
            }
            None => matches!(**error, rusqlite::Error::ToSqlConversionFailure(_)),
        }
    }

    /// The error of what the database at `path` was asked to do.
    pub(super) fn into_error(self, doing: &'static str, path: &Path) -> Error {
        match self {
            Self::Misuse(why) => Error::Misuse(why),
            Self::Contract(why) => Error::BrokenContract(why),
            Self::Changed(why) => {
                Error::StoreChanged { store: path.display().to_string(), why: why.as_ref().to_owned() }
            }
            fault => Error::store(doing, At { path: path.display().to_string(), fault }),
        }
    }

    /// Whether SQLite found no room on the disk.
    pub(super) fn is_full(&self) -> bool {
        self.code() == Some(ErrorCode::DiskFull)
    }

    /// Whether another connection holds a lock, which it gives back sooner or later.
    pub(super) fn is_busy(&self) -> bool {
        matches!(self, Self::Sqlite(error) if is_busy(error))
    }

    fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Sqlite(error) => error.sqlite_error_code(),
            _ => None,
        }
    }
}

/// What went wrong, and where.
#[derive(Debug, thiserror::Error)]
#[error("`{path}`: {fault}")]
struct At {
    path: String,
    fault: Fault,
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(Arc::new(error))
    }
}

/// Whether another connection holds a lock, which it gives back sooner or later.
pub(super) fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

fn said(error: &rusqlite::Error) -> String {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => format!("{error}: no room is left on its volume; make room, and work goes on"),
        Some(ErrorCode::ReadOnly) => {
            format!("{error}: let this user write to the file, to those beside it and to their folder, `chmod u+w`")
        }
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::ffi;

    use super::*;

    #[test]
    fn what_no_repetition_mends_is_refused_and_what_may_pass_is_trouble() {
        for (code, is_refused) in [
            (ffi::SQLITE_TOOBIG, true),
            (ffi::SQLITE_CONSTRAINT, true),
            (ffi::SQLITE_CONSTRAINT_TRIGGER, true),
            (ffi::SQLITE_MISMATCH, true),
            (ffi::SQLITE_FULL, false),
            (ffi::SQLITE_BUSY, false),
            (ffi::SQLITE_LOCKED, false),
            (ffi::SQLITE_READONLY, false),
            (ffi::SQLITE_IOERR_WRITE, false),
            (ffi::SQLITE_NOMEM, false),
            (ffi::SQLITE_CORRUPT, false),
        ] {
            let fault = Fault::from(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None));
            assert_eq!(fault.clone().of_write("test", Path::new("jobs.db")).is_refusal(), is_refused, "{code}");
            assert!(fault.into_error("read", Path::new("jobs.db")).is_store_trouble(), "a read is made again: {code}");
        }
    }
}
