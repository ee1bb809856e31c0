//! The promises, and what a run shows of them.

use std::{collections::BTreeSet, fmt};

use qtasks::job::{JobId, WorkerId};
use serde::{Deserialize, Serialize};

/// A promise of the design, by its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Promise {
    /// An acknowledged enqueue is never lost.
    I1,
    /// Every job ends, or is due, or is leased.
    I2,
    /// Once an attempt exists, no write of an earlier one succeeds.
    I3,
    /// No attempt that begins after a step is recorded runs a handler for it.
    I4,
    /// The result equals that of an undisturbed run; the numbers of the steps have no gaps.
    I5,
    /// A stream sees exactly what follows its offset, then the end.
    I6,
    /// A graceful stop loses nothing and costs no failure.
    I10,
    /// A cancel wins or the job completes, never both.
    I11,
    /// No I/O error is reported as success.
    I12,
    /// A handler runs again only for what was not durable, and never under a lease that has passed on.
    Once,
}

/// A promise that was not kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Violation {
    /// Which.
    pub promise: Promise,
    /// Of which job.
    pub job: Option<JobId>,
    /// At which step.
    pub seq: Option<u64>,
    /// What happened, as a sentence.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.promise, self.what)
    }
}

/// What a run came to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Jobs that were looked at.
    pub jobs: usize,
    /// Their steps.
    pub values: usize,
    /// Handler calls.
    pub calls: usize,
    /// Jobs and steps that were acknowledged or seen and are not there.
    pub lost: usize,
    /// Handler calls for values whose step was durable already.
    pub again_after_record: usize,
    /// Further handler calls for values whose step was not durable yet.
    pub again_in_flight: usize,
    /// Streams that were looked at.
    pub streams: usize,
    /// What was not as promised.
    pub violations: Vec<Violation>,
}

impl Verdict {
    /// Adds the counts of another run.
    pub fn add(&mut self, other: Self) {
        self.jobs += other.jobs;
        self.values += other.values;
        self.calls += other.calls;
        self.lost += other.lost;
        self.again_after_record += other.again_after_record;
        self.again_in_flight += other.again_in_flight;
        self.streams += other.streams;
        self.violations.extend(other.violations);
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { jobs, values, calls, lost, again_after_record, again_in_flight, streams, violations } = self;
        write!(
            f,
            "{jobs} jobs, {values} values, {calls} handler calls; lost: {lost}, handled again after the record: \
             {again_after_record}, handled again while in flight: {again_in_flight}; {streams} streams"
        )?;
        violations.iter().try_for_each(|violation| write!(f, "\n  {violation}"))
    }
}

#[derive(Default)]
pub(super) struct Report {
    pub(super) verdict: Verdict,
    pub(super) frozen: BTreeSet<WorkerId>,
}

impl Report {
    pub(super) fn held_after_a_stop(&mut self, worker: WorkerId, job: JobId) {
        let what = format!("worker {worker} reported a graceful stop and still holds job {job}");
        self.violated(Promise::I10, job, None, what.clone());
        self.violated(Promise::I12, job, None, what);
    }

    pub(super) fn violated(&mut self, promise: Promise, job: JobId, seq: Option<u64>, what: String) {
        self.verdict.violations.push(Violation { promise, job: Some(job), seq, what });
    }
}
