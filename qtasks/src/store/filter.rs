//! Which jobs are listed.

use crate::model::job::Job;

/// Which jobs to list; the default lets all pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Filter {
    /// Only those of this task.
    pub task: Option<String>,
    /// Only those of this queue.
    pub queue: Option<String>,
    /// Only those in the state of this [name](crate::job::State::name).
    pub state: Option<&'static str>,
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

    /// Only jobs in the state of this [name](crate::job::State::name).
    pub fn state(self, state: &'static str) -> Self {
        Self { state: Some(state), ..self }
    }

    /// Whether `job` passes.
    pub fn passes(&self, job: &Job) -> bool {
        self.task.as_ref().is_none_or(|task| *task == job.task)
            && self.queue.as_ref().is_none_or(|queue| *queue == job.queue)
            && self.state.is_none_or(|state| state == job.state.name())
    }
}
