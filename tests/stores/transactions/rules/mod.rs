//! What holds of handlers in transactions on both stores that have them. The root of each program says what is its store's
//! own: how a handler is written there (`handler!`, `done!`), and how its rows are read.

pub(crate) mod failing;
pub(crate) mod saving;

use qtasks::JobId;
use qtasks_tests::Stage;

use crate::saved;

/// What was saved for a job, in the order of its saving.
pub(crate) fn saved_values(stage: &Stage, job: JobId) -> Vec<i64> {
    saved(stage, job, "value").iter().map(|value| value.parse().unwrap()).collect()
}
