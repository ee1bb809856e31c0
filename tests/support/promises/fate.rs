//! What became of a job, and what should have become of it.

use qtasks::job::{Attempt, Ending, Job, Step};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Item;

/// What became of a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fate {
    /// The name of its state.
    pub state: String,
    /// Its result, where the job is done and a caller has asked for that.
    pub result: Option<Value>,
    /// The number of its latest attempt.
    pub attempt: u32,
    /// Its failures in a row.
    pub failures: u32,
    /// Its steps, as they are stored.
    pub steps: Vec<(u64, Item)>,
    /// The attempts that ended, by number, with the reason of each.
    pub attempts: Vec<(u32, Ending)>,
}

impl Fate {
    /// What a store says of a job.
    pub fn of(job: &Job, steps: Vec<Step>, attempts: &[Attempt], result: Option<Value>) -> Self {
        Self {
            state: job.standing.state.name().to_owned(),
            result,
            attempt: job.standing.attempt,
            failures: job.standing.failures,
            steps: steps.into_iter().map(|step| (step.seq, Item::from(step.reply))).collect(),
            attempts: attempts.iter().map(|attempt| (attempt.number, attempt.ending.clone())).collect(),
        }
    }
}

/// What a run of a job without any disturbance comes to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Expected {
    /// The name of its state.
    pub state: String,
    /// Its result.
    pub result: Option<Value>,
    /// Its steps.
    pub steps: Vec<Item>,
    /// How many of its attempts end in an error of its own, at most.
    pub failures: usize,
    /// How many values may be handled and not durable, where the task says so: 1 for one that waits for each step. Only
    /// for ledgers in which the store itself tells what is durable.
    pub ahead: Option<u64>,
}
