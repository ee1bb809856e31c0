//! Why a call of the server came to nothing.

use std::time::Duration;

use redis::{ErrorKind, RedisError, ServerErrorKind};

/// Many calls may share one.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("no connection to {place}: {why}")]
    Unreachable { place: String, why: String },
    #[error("no answer from {place} within {patience:?}{hint}")]
    Silent { place: String, patience: Duration, hint: &'static str },
    #[error(transparent)]
    Redis(#[from] RedisError),
    /// The server has refused it, and this mends that.
    #[error("{error}; {mend}")]
    Refused { error: RedisError, mend: String },
    #[error("the server holds something that this qtasks cannot read")]
    Unreadable,
    #[error("the thread of the store has ended")]
    Ended,
}

impl Failure {
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
            Self::Unreachable { .. } | Self::Refused { .. } | Self::Unreadable | Self::Ended => false,
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
