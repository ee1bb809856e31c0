//! Why a call of the server failed.

use std::time::Duration;

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::error::Error;

/// Why a call of the server failed. It can be cloned, for calls that were sent together may share one.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("no connection to {place}: {why}")]
    Unreachable { place: String, why: String },
    #[error("no answer from {place} within {patience:?}{hint}")]
    Silent { place: String, patience: Duration, hint: &'static str },
    #[error(transparent)]
    Redis(#[from] RedisError),
    /// The server has refused the call, and `mend` says what an operator can do.
    #[error("{error}; {mend}")]
    Refused { error: RedisError, mend: String },
    #[error("the server holds something that this qtasks cannot read")]
    Unreadable,
    #[error("{0}")]
    TooLarge(String),
    #[error("the thread of the store has ended")]
    Ended,
}

/// What the server says, of a command by itself or in a script, where a value would become too large or a key is of another
/// kind. No repetition mends either.
const FOR_GOOD: [&str; 2] = ["string exceeds maximum allowed size", "WRONGTYPE"];

impl Fault {
    /// The error of a call that writes. It says whether the server will never carry out the call.
    pub(super) fn of_write(self, doing: &'static str) -> Error {
        let is_for_good = match &self {
            Self::TooLarge(_) => true,
            Self::Redis(error) => {
                let said = error.to_string();
                FOR_GOOD.iter().any(|words| said.contains(words))
            }
            Self::Unreachable { .. } | Self::Silent { .. } | Self::Refused { .. } | Self::Unreadable | Self::Ended => {
                false
            }
        };
        if is_for_good { Error::refused(doing, self) } else { Error::store(doing, self) }
    }

    /// Whether the connection ended while the call was under way, also where the server has said why.
    pub(super) fn is_cut(&self) -> bool {
        matches!(self, Self::Redis(error)
            if error.is_io_error() || error.is_unrecoverable_error() || error.to_string().contains("Protocol error"))
    }

    /// Whether no server is there to answer.
    pub(super) fn is_away(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Silent { .. })
    }

    /// Whether another connection may do better than this one.
    pub(super) fn ends_connection(&self) -> bool {
        match self {
            Self::Redis(error) => {
                let away =
                    matches!(error.kind(), ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::Moved));
                away || error.is_io_error() || error.is_unrecoverable_error()
            }
            Self::Silent { .. } => true,
            Self::Unreachable { .. } | Self::Refused { .. } | Self::Unreadable | Self::TooLarge(_) | Self::Ended => {
                false
            }
        }
    }

    /// Whether the server has forgotten its scripts, as after its start.
    pub(super) fn is_unknown_script(&self) -> bool {
        matches!(self, Self::Redis(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript))
    }

    /// The node of the cluster that the keys have moved to.
    pub(super) fn moved_to(&self) -> Option<(String, u16)> {
        let Self::Redis(error) = self else { return None };
        if error.kind() != ErrorKind::Server(ServerErrorKind::Moved) {
            return None;
        }
        let (host, port) = error.redirect_node()?.0.rsplit_once(':')?;
        Some((host.to_owned(), port.parse().ok()?))
    }
}
