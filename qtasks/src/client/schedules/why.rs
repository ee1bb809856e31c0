//! Why a schedule does not fire, in one sentence.

use std::fmt;

use jiff::Timestamp;

use super::handle::Schedule;
use crate::{
    client::{known::workers, pausing::pauses},
    environment::holders::Holders,
    error::Result,
    model::{card::WorkerCard, pause::Pause},
};

/// Why a schedule does not fire, or that it does. Its text is a sentence.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum WhySchedule {
    /// It fires.
    Fires {
        /// The next tick.
        next: Timestamp,
    },
    /// It has no further tick.
    Over,
    /// It is paused.
    Paused(Pause),
    /// It fires, and a pause keeps its jobs from being started.
    JobsPaused(Pause),
    /// No running worker has it in its code any more.
    Left {
        /// Since when this is known.
        since: Timestamp,
    },
    /// It stands in the store, and no running worker knows its task.
    UnknownTask {
        /// The task.
        task: String,
    },
    /// It stands in code, and no worker that has it runs.
    NoWorker,
}

impl Schedule {
    /// Why the schedule, or its jobs, do not run, in one sentence; or when it fires next.
    ///
    /// # Errors
    ///
    /// [`Error::Store`](crate::Error::Store) when the store cannot be read.
    pub async fn why(&self) -> Result<WhySchedule> {
        if let Some(pause) = self.pause() {
            return Ok(WhySchedule::Paused(pause));
        }
        if let Some(since) = self.left() {
            return Ok(WhySchedule::Left { since });
        }
        let (app, now) = (self.app(), self.app().now());
        if self.is_in_code() && Holders::read(app).await?.last_started(self.name()).is_none() {
            return Ok(WhySchedule::NoWorker);
        }
        // A worker without a card may know anything.
        let workers = workers(app).await?;
        let knows = |card: &WorkerCard| card.tasks.iter().any(|task| task == self.task());
        if !workers.iter().any(|worker| !worker.gone && worker.card.as_ref().is_none_or(knows)) {
            return Ok(WhySchedule::UnknownTask { task: self.task().to_owned() });
        }
        let pauses = pauses(app).await?;
        if let Some(pause) = pauses.into_iter().find(|pause| pause.keeps(self.queue(), self.task(), now)) {
            return Ok(WhySchedule::JobsPaused(pause));
        }
        Ok(self.next(1).pop().map_or(WhySchedule::Over, |next| WhySchedule::Fires { next }))
    }
}

impl fmt::Display for WhySchedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fires { next } => write!(f, "it fires next at {next:.0}"),
            Self::Over => f.write_str("it has no further tick"),
            Self::Paused(pause) => pause.fmt(f),
            Self::JobsPaused(pause) => write!(f, "it fires, and its jobs wait: {pause}"),
            Self::Left { since } => write!(f, "since {since:.0} no running worker has it in its code"),
            Self::UnknownTask { task } => write!(f, "no running worker knows its task `{task}`"),
            Self::NoWorker => f.write_str("no running worker has it in its code"),
        }
    }
}
