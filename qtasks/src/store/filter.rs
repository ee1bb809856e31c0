//! Which jobs are listed.

use crate::model::job::{Job, StateKind};

/// Which jobs to list. The default lets all pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Filter {
    /// Only those of this task.
    pub task: Option<String>,
    /// Only those of this queue.
    pub queue: Option<String>,
    /// Only those in this state.
    pub state: Option<StateKind>,
}

impl Filter {
    /// Only jobs of this task.
    pub fn task(self, task: impl Into<String>) -> Self {
        Self { task: Some(task.into()), ..self }
    }

    /// Only jobs of this queue.
    pub fn queue(self, queue: impl Into<String>) -> Self {
        Self { queue: Some(queue.into()), ..self }
    }

    /// Only jobs in this state.
    pub fn state(self, state: StateKind) -> Self {
        Self { state: Some(state), ..self }
    }

    /// Whether `job` passes.
    pub fn passes(&self, job: &Job) -> bool {
        self.task.as_ref().is_none_or(|task| *task == job.call.task)
            && self.queue.as_ref().is_none_or(|queue| *queue == job.call.queue)
            && self.state.is_none_or(|state| state == job.standing.state.kind())
    }
}
