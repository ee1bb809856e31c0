//! What the attempts at a job leave behind in its store: steps, memos and progress.

use serde::{Deserialize, Serialize};

use crate::model::json::Json;

/// One handled value of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The number of the step within the job, from 0.
    pub seq: u64,
    /// The [hash](crate::model::json::hash) of the yielded value.
    pub hash: u64,
    /// The handler's answer to the value.
    pub reply: Reply,
}

/// The handler's answer to a value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// The handler returned this value.
    Value(Json),
    /// The handler failed under `on_error = "skip"`, with an error of this text.
    Skipped(String),
}

impl Reply {
    /// The text that stores keep: the value, or the text of the error.
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Value(json) => json.as_str(),
            Self::Skipped(error) => error,
        }
    }

    pub(crate) fn is_skipped(&self) -> bool {
        matches!(self, Self::Skipped(_))
    }
}

/// Something that an attempt did once, so that later attempts need not do it again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memo {
    /// The number of the memo within the job, from 0.
    pub number: u64,
    /// The one step that the memo is for. Without it the memo is for the body, from beginning to end.
    pub step: Option<u64>,
    /// The name that the body gave the memo, by which later attempts find it.
    pub name: String,
    /// How many memos of the same name the body made before this one.
    pub nth: u64,
    /// The result that later attempts take from here.
    pub value: Json,
}

/// How far a task says that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// How many units are done.
    pub done: u64,
    /// How many units there are in all.
    pub total: u64,
}
