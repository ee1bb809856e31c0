//! What a schedule enqueues, and when.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{options::ScheduleOptions, timetable::Timetable, wrong::ScheduleError};
use crate::model::{json::Json, unique::KeyedCall};

/// What a schedule enqueues, and when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Definition {
    pub(crate) task: String,
    pub(crate) queue: String,
    pub(crate) priority: i16,
    pub(crate) args: Json,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) max_time: Option<Duration>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) expires: Option<Duration>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) unique: Option<Box<KeyedCall>>,
    pub(crate) expression: String,
    pub(crate) timezone: String,
    pub(crate) options: ScheduleOptions,
}

impl Definition {
    pub(crate) fn timetable(&self) -> Result<Timetable, ScheduleError> {
        Timetable::new(&self.expression, &self.timezone)
    }
}

/// A schedule that stands in the code of a program.
#[derive(Clone, Debug)]
pub(crate) struct CodeSchedule {
    pub(crate) name: String,
    pub(crate) definition: Definition,
}
