//! Workers that wait for new jobs, asked from many threads. They get the jobs that are enqueued next as running ones, by the
//! statement that enqueues them.

use std::{
    collections::{HashMap, HashSet},
    convert::Infallible,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Mutex as AsyncMutex, MutexGuard as AsyncMutexGuard, oneshot};

use crate::{
    model::job::{Job, JobId, NewJob, WorkerId},
    store::{
        Ask, FreeSlots, Listener,
        waiters::{Waiter, Waiters},
    },
};

/// The workers that wait for new jobs.
#[derive(Default)]
pub(super) struct SharedWaiters {
    waiters: Mutex<Waiters>,
    /// Held by the call that leases new jobs to waiting workers, until these have their answers.
    assigning: AsyncMutex<()>,
}

impl SharedWaiters {
    /// Waits for new jobs, which are the answer.
    pub(super) fn ask(&self, ask: Ask, free: FreeSlots) -> oneshot::Receiver<Vec<Job>> {
        let (waiter, jobs) = Waiter::new(ask, free);
        self.waiters().extend([waiter]);
        jobs
    }

    /// Answers the waiter of this worker with nothing, if it is not answered otherwise.
    pub(super) async fn stop_lease_on_enqueue(&self, worker: WorkerId) {
        let _guard = self.assigning.lock().await;
        self.waiters().remove(worker);
    }

    /// Notes that a worker has taken all jobs that waited for it, unless there was a notification since.
    pub(super) fn caught_up(&self, worker: WorkerId, since: Listener) {
        self.waiters().caught_up(worker, since);
    }

    /// Notes that more jobs may wait for a worker.
    pub(super) fn fell_behind(&self, worker: WorkerId) {
        self.waiters().fell_behind(worker);
    }

    /// Assigns the jobs that are due to the workers that wait for them, the most urgent first; `None` where no worker gets one.
    pub(super) async fn assign(&self, jobs: &[&NewJob]) -> Option<Assignment<'_>> {
        let guard = self.assigning.lock().await;
        let mut assignment = Assignment { workers: HashMap::new(), waiters: self, _guard: guard };
        let lease = |job: &NewJob, worker| {
            assignment.workers.insert(job.call.id, worker);
            Ok::<_, Infallible>(Some(job.clone().leased_to(worker)))
        };
        let Ok(()) = self.waiters().assign(&mut jobs.to_vec(), lease);
        (!assignment.workers.is_empty()).then_some(assignment)
    }

    fn waiters(&self) -> MutexGuard<'_, Waiters> {
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// New jobs that are assigned to workers, until they are leased.
pub(super) struct Assignment<'c> {
    /// The worker that each of the jobs is for.
    pub(super) workers: HashMap<JobId, WorkerId>,
    waiters: &'c SharedWaiters,
    _guard: AsyncMutexGuard<'c, ()>,
}

impl Assignment<'_> {
    /// Answers the waiters with the jobs that were leased. Without this no worker learns of them.
    pub(super) fn answer(self, leased: &HashSet<JobId>) {
        let mut waiters = self.waiters.waiters();
        waiters.retain(|job| leased.contains(&job.call.id));
        waiters.committed();
    }
}

impl Drop for Assignment<'_> {
    fn drop(&mut self) {
        self.waiters.waiters().rolled_back();
    }
}
