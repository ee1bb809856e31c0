//! Why the database did not do what it was asked to.

use std::{any::Any, sync::Arc, time::Duration};

use rusqlite::ErrorCode;

use crate::error::Error;

/// What went wrong, for everybody whose command it concerns.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error(
        "the database is locked by another process, or by another connection of this one; waited {waited:?} for it"
    )]
    Locked { waited: Duration },
    #[error("{}", said(.0))]
    Sqlite(Arc<rusqlite::Error>),
    #[error("{0}")]
    Misuse(&'static str),
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

    pub(super) fn into_error(self, doing: &'static str) -> Error {
        match self {
            Self::Misuse(why) => Error::Misuse(why),
            fault => Error::store(doing, fault),
        }
    }
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(Arc::new(error))
    }
}

/// Whether somebody else holds a lock that is given back sooner or later.
pub(super) fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

fn said(error: &rusqlite::Error) -> String {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => format!("{error}: no room is left on the disk"),
        Some(ErrorCode::ReadOnly) => format!("{error}: may this user write to the file and its folder?"),
        _ => error.to_string(),
    }
}
