//! A job with all that belongs to it.

use std::{cmp::Reverse, time::Duration};

use jiff::Timestamp;

use crate::model::job::{Attempt, Job, JobCall, JobId, Memo, NewJob, Step};

/// A job with its steps, memos and attempts.
pub(super) struct Entry {
    pub(super) job: Job,
    pub(super) steps: Vec<Step>,
    pub(super) memos: Vec<Memo>,
    pub(super) attempts: Vec<Attempt>,
}

impl Entry {
    pub(super) fn new(new: NewJob) -> Self {
        let (due, enqueued) = (to_millisecond(new.due), to_millisecond(new.call.enqueued));
        let job = Job::from(NewJob { call: JobCall { enqueued, ..new.call }, due, unique: None });
        Self { job, steps: Vec::new(), memos: Vec::new(), attempts: Vec::new() }
    }

    /// When it ended; of a job that has not, no time that there is.
    pub(super) fn ended(&self) -> Timestamp {
        self.job.ended.unwrap_or(Timestamp::MAX)
    }

    pub(super) fn urgency(&self) -> Urgency {
        let survived = self.job.standing.suspect.map(|suspect| suspect.survived).unwrap_or_default();
        (survived, Reverse(self.job.call.priority), self.job.call.id)
    }
}

/// The less, the more urgent: suspects by what they have survived, then by priority, the highest first, then by age.
pub(super) type Urgency = (Duration, Reverse<i16>, JobId);

/// Times are kept to the millisecond in every store.
pub(super) fn to_millisecond(time: Timestamp) -> Timestamp {
    // Not by way of `Timestamp::from_millisecond`, which refuses the last second there is.
    let nanosecond = time.subsec_nanosecond() / 1_000_000 * 1_000_000;
    Timestamp::new(time.as_second(), nanosecond).expect("what is nearer to 1970 than a timestamp is one too")
}
