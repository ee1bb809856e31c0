//! The ticks of a schedule of each second, beside the jobs that they have got.

use std::{collections::BTreeSet, fmt};

use anyhow::Context as _;
use qtasks::{Budget, job::StateKind, prelude::*};

use crate::tasks::SECONDS;

/// What the store has of the schedule in the end.
pub(crate) struct Ticks {
    /// From the first job on until the last tick that has fired.
    count: u64,
    /// Those of them without a job, in seconds since 1970.
    lost: Vec<i64>,
    /// Jobs that ended otherwise than done.
    failed: usize,
}

impl Ticks {
    pub(crate) async fn of(app: &QueueTasks) -> anyhow::Result<Self> {
        let schedule = app.find_schedule(SECONDS).await?.context("no worker has written its schedule")?;
        let last = schedule.last().context("no tick has fired")?.0.as_second();
        let jobs = app.find(format!("schedule:{SECONDS}")).budget(Budget::jobs(usize::MAX)).await?.jobs;
        let failed = jobs.iter().filter(|job| job.standing.state.kind() == StateKind::Dead).count();
        let fired: BTreeSet<_> = jobs.iter().filter_map(|job| Some(job.call.tick()?.as_second())).collect();
        let first = fired.first().copied().context("no tick has a job")?;
        let lost = (first..=last).filter(|tick| !fired.contains(tick)).collect();
        Ok(Self { count: (last - first + 1).unsigned_abs(), lost, failed })
    }

    pub(crate) fn are_all_there(&self) -> bool {
        self.count > 0 && self.lost.is_empty() && self.failed == 0
    }
}

impl fmt::Display for Ticks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "; {} ticks of a schedule, {} of them lost", self.count, self.lost.len())
    }
}
