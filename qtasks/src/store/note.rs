//! Small named documents beside the jobs: what the parts of an application, on many machines, agree on.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::{job::Version, json::Json};

/// A small named document: a pause, a schedule, the card of a worker or a task. A store keeps it and knows nothing of what it
/// says. There are thousands of a kind at most, of up to 64 KiB each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// What kind of note it is, a word in small letters. A kind is read as a whole.
    pub kind: String,
    /// The name of the note, which it alone has among those of its kind: up to 256 letters, digits and `_.:-`.
    pub name: String,
    /// As which version it was written.
    pub version: Version,
    /// What it says.
    pub value: Json,
    /// From when on the note says nothing any more. A store gives it nevertheless.
    pub until: Option<Timestamp>,
}

/// A change of a note, on the condition that no other call has changed the note meanwhile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoteChange {
    /// Writes the note.
    Write {
        /// What it becomes. Its version is new.
        note: Note,
        /// The version that it must have until then; where there is none, there must be no such note.
        seen: Option<Version>,
    },
    /// Deletes the note.
    Delete {
        /// The kind of the note.
        kind: String,
        /// The name of the note.
        name: String,
        /// The version that it must have until then.
        seen: Version,
    },
}

impl NoteChange {
    /// The kind and the name of the note.
    pub fn place(&self) -> (&str, &str) {
        match self {
            Self::Write { note, .. } => (&note.kind, &note.name),
            Self::Delete { kind, name, .. } => (kind, name),
        }
    }

    /// Whether it may be made where the note has the version `found`, or is not there. That is so too where it has been made
    /// already, since a call may be made again.
    pub fn may_follow(&self, found: Option<Version>) -> bool {
        match self {
            Self::Write { note, seen } => found == *seen || found == Some(note.version),
            Self::Delete { seen, .. } => found.is_none_or(|found| found == *seen),
        }
    }
}
