//! The names of jobs, of workers, and of versions.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! ids {
    ($($(#[$docs:meta])* $id:ident)*) => {$(
        $(#[$docs])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $id(Uuid);

        impl $id {
            /// A new id, later than every id that this process made before.
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }

            /// The id as 16 bytes, in the order in which ids sort.
            pub const fn to_bytes(self) -> [u8; 16] {
                self.0.into_bytes()
            }

            /// The id that [`to_bytes`](Self::to_bytes) gave these bytes for.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }
        }

        impl Default for $id {
            fn default() -> Self {
                Self::new()
            }
        }

        impl fmt::Display for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}

ids! {
    /// The name of a job in its store. Job ids sort by the time at which they were made.
    JobId
    /// The name of a worker, which is a new one each time that a worker starts.
    WorkerId
    /// The version of a note, which is a new one each time that the note is written.
    Version
}

/// A text that is no job id.
#[derive(Debug, thiserror::Error)]
#[error("`{text}` is not a job id, which looks like 01932b2e-7c5d-7b54-8f3c-0b7c6a2f9d10")]
pub struct ParseJobIdError {
    text: String,
}

impl FromStr for JobId {
    type Err = ParseJobIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self).map_err(|_| ParseJobIdError { text: text.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_survive_text_bytes_and_json_and_sort_by_age() {
        let (older, newer) = (JobId::new(), JobId::new());
        assert!(older < newer);
        assert_eq!(older.to_string().parse::<JobId>().unwrap(), older);
        assert_eq!(JobId::from_bytes(older.to_bytes()), older);
        assert_eq!(serde_json::to_string(&older).unwrap(), format!("\"{older}\""));
    }

    #[test]
    fn a_text_that_is_no_id_is_quoted_in_the_error() {
        let error = "12".parse::<JobId>().unwrap_err();
        assert_eq!(error.to_string(), "`12` is not a job id, which looks like 01932b2e-7c5d-7b54-8f3c-0b7c6a2f9d10");
    }
}
