//! Which notification belongs to which change.

use super::{NoteChange, Record, Settlement};
use crate::model::job::{JobId, NewJob};

/// What calls have changed in a store, for [`Notifier::notify`](super::Notifier::notify) once it is durable. The listeners for
/// each change are chosen here, for all stores alike.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "listeners are not notified yet"]
pub struct Changes {
    /// Whether there may be more jobs to lease.
    pub(crate) work: bool,
    /// The jobs that have changed; those that have ended are among them.
    pub(crate) jobs: Vec<JobId>,
    /// The jobs that have ended.
    pub(crate) ended: Vec<JobId>,
    /// Whether notes have changed.
    pub(crate) notes: bool,
}

impl Changes {
    /// New jobs wait. A job for later counts too: by it workers learn when to look again.
    pub const fn enqueued() -> Self {
        Self { work: true, jobs: Vec::new(), ended: Vec::new(), notes: false }
    }

    /// These jobs go on: they were leased, or have new steps. Those that wait for their end need not look.
    pub fn progressed(jobs: impl IntoIterator<Item = JobId>) -> Self {
        Self { jobs: jobs.into_iter().collect(), ..Self::default() }
    }

    /// These records were written: their jobs go on, and what they enqueue waits.
    pub fn recorded<'c>(records: impl IntoIterator<Item = &'c Record>) -> Self {
        let mut work = false;
        let job = |record: &Record| {
            work |= !record.jobs.is_empty();
            record.lease.job
        };
        let jobs = records.into_iter().map(job).collect();
        Self { work, jobs, ..Self::default() }
    }

    /// These settlements were written: each job has ended, or waits again.
    pub fn settled<'c>(settlements: impl IntoIterator<Item = &'c Settlement>) -> Self {
        let mut changes = Self::default();
        for settlement in settlements {
            changes.jobs.push(settlement.job());
            if settlement.outcome.next.is_ended() {
                changes.ended.push(settlement.job());
            } else {
                changes.work = true;
            }
        }
        changes
    }

    /// These notes were changed, and these jobs enqueued.
    pub fn noted(changes: &[NoteChange], jobs: &[NewJob]) -> Self {
        Self { work: !jobs.is_empty(), notes: !changes.is_empty(), ..Self::default() }
    }

    /// A job has ended without a settlement of its own: one that it waited for has failed.
    pub fn ended(job: JobId) -> Self {
        Self { ended: vec![job], ..Self::progressed([job]) }
    }

    /// A job that waits was moved to another place.
    pub fn placed(job: JobId) -> Self {
        Self { work: true, ..Self::progressed([job]) }
    }

    /// Adds what another call of the same commit has changed.
    pub fn add(&mut self, more: Self) {
        self.work |= more.work;
        self.jobs.extend(more.jobs);
        self.ended.extend(more.ended);
        self.notes |= more.notes;
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::{
        model::{
            job::{JobCall, Lease, NextState, Output, Shape, WorkerId},
            json::Json,
            lifecycle::Outcome,
        },
        store::Hold,
    };

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn lease() -> Lease {
        Lease { job: JobId::new(), attempt: 1, worker: WorkerId::new() }
    }

    fn settlement(next: NextState) -> Settlement {
        let outcome = Outcome { next, failures: 0, suspect: None };
        Settlement { hold: Hold::Lease(lease()), outcome, steps: None, attempt: None, now: NOW }
    }

    fn record(jobs: Vec<NewJob>) -> Record {
        Record { lease: lease(), steps: Vec::new(), memos: Vec::new(), jobs, progress: None, passed: false }
    }

    fn new_job() -> NewJob {
        NewJob::from(JobCall {
            id: JobId::new(),
            task: "t".into(),
            queue: "default".into(),
            priority: 0,
            args: Json::from_stored("{}"),
            max_time: None,
            enqueued: NOW,
            expires: None,
            trace: None,
            key: None,
            after: None,
        })
    }

    #[test]
    fn a_job_that_waits_again_is_work_and_one_that_has_ended_is_an_end() {
        let waits = settlement(NextState::Waiting { due: NOW });
        let done = settlement(NextState::Done { output: Output::Steps(Shape::List) });
        let (first, second) = (waits.job(), done.job());
        let changes = Changes::settled([&waits]);
        assert_eq!(changes, Changes { work: true, jobs: vec![first], ended: vec![], notes: false });
        let changes = Changes::settled([&done]);
        assert_eq!(changes, Changes { work: false, jobs: vec![second], ended: vec![second], notes: false });
        let changes = Changes::settled([&waits, &done]);
        assert_eq!(changes, Changes { work: true, jobs: vec![first, second], ended: vec![second], notes: false });
    }

    #[test]
    fn a_record_is_work_only_where_it_enqueues_jobs() {
        let (steps, jobs) = (record(vec![]), record(vec![new_job()]));
        let (first, second) = (steps.lease.job, jobs.lease.job);
        assert_eq!(Changes::recorded([&steps]), Changes::progressed([first]));
        let changes = Changes { work: true, ..Changes::progressed([first, second]) };
        assert_eq!(Changes::recorded([&steps, &jobs]), changes);
    }

    #[test]
    fn the_changes_of_a_commit_are_those_of_all_its_calls() {
        let done = settlement(NextState::Done { output: Output::Steps(Shape::List) });
        let mut changes = Changes::enqueued();
        changes.add(Changes::settled([&done]));
        changes.add(Changes::recorded([]));
        assert_eq!(changes, Changes { work: true, jobs: vec![done.job()], ended: vec![done.job()], notes: false });
    }
}
