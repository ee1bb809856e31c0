//! The names of schedules: a job has only a hash of that which has enqueued it.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
};

use crate::model::{job::JobId, schedule::tick};

/// The names of the schedules that the store had when a worker last read them, by what the ids of their jobs have of them.
#[derive(Debug, Default)]
pub(crate) struct ScheduleNames(RwLock<HashMap<u64, String>>);

impl ScheduleNames {
    /// Takes these in place of those that were read before.
    pub(crate) fn learn<'n>(&self, names: impl Iterator<Item = &'n str>) {
        let names = names.map(|name| (tick::hash(name), name.to_owned())).collect();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = names;
    }

    /// The schedule that has enqueued a job, as far as that is known.
    pub(crate) fn of(&self, job: JobId) -> Option<String> {
        let hash = tick::schedule_of(job)?;
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&hash).cloned()
    }
}
