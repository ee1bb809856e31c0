//! Workers that wait for new jobs, asked from many threads. They get the jobs that are enqueued next as running ones, by the
//! statement that enqueues them.

use std::{
    collections::{HashMap, HashSet},
    convert::Infallible,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Mutex as AsyncMutex, MutexGuard as AsyncMutexGuard, oneshot},
    time::timeout,
};

use crate::{
    model::job::{Job, JobId, NewJob, WorkerId},
    store::{
        Ask, FreeSlots, Leased, Listener,
        waiters::{Waiter, Waiters},
    },
};

/// A call waits no longer than this for its turn, for the one before it may wait for a lock of another's transaction.
const TURN: Duration = Duration::from_millis(20);

/// The workers that wait for new jobs.
#[derive(Default)]
pub(super) struct SharedWaiters {
    waiters: Mutex<Waiters>,
    /// Workers that were leased less than they asked for, whatever has come since.
    nearly_caught_up: Mutex<HashSet<WorkerId>>,
    /// Held by a call that adds jobs, until waiting workers have those that are leased to them; and by a lease which may find
    /// that its worker has caught up.
    turn: AsyncMutex<()>,
}

/// While a call has its turn, the others that take turns wait.
pub(super) type Turn<'c> = AsyncMutexGuard<'c, ()>;

impl SharedWaiters {
    /// Waits for new jobs, which are the answer.
    pub(super) fn ask(&self, ask: Ask, free: FreeSlots) -> oneshot::Receiver<Vec<Job>> {
        let (waiter, jobs) = Waiter::new(ask, free);
        self.waiters().extend([waiter]);
        jobs
    }

    /// Answers the waiter of this worker with nothing, if it is not answered otherwise.
    pub(super) async fn stop_lease_on_enqueue(&self, worker: WorkerId) {
        let _turn = self.turn.lock().await;
        self.waiters().remove(worker);
    }

    /// Takes the turn of a lease, if the last one found little: jobs that are added while the lease looks would wait, the
    /// worker would have to look again, and never catch up however many of its slots were free.
    pub(super) async fn turn(&self, worker: WorkerId) -> Option<Turn<'_>> {
        if self.nearly_caught_up().contains(&worker) { self.take_turn().await } else { None }
    }

    async fn take_turn(&self) -> Option<Turn<'_>> {
        timeout(TURN, self.turn.lock()).await.ok()
    }

    /// Notes that a worker has taken all jobs that waited for it, unless there was a notification since.
    pub(super) fn caught_up(&self, worker: WorkerId, since: Listener, leased: &Leased) {
        self.nearly_caught_up().insert(worker);
        self.waiters().caught_up(worker, since, leased);
    }

    /// Notes that more jobs may wait for a worker.
    pub(super) fn fell_behind(&self, worker: WorkerId) {
        self.nearly_caught_up().remove(&worker);
        self.waiters().fell_behind(worker);
    }

    /// Assigns the jobs that are due to the workers that wait for them, the most urgent first.
    pub(super) async fn assign(&self, jobs: &[&NewJob]) -> Assignment<'_> {
        let turn = self.take_turn().await;
        let mut assignment = Assignment { workers: HashMap::new(), waiters: self, turn };
        if assignment.turn.is_none() {
            return assignment;
        }
        let lease = |job: &NewJob, worker| {
            assignment.workers.insert(job.call.id, worker);
            Ok::<_, Infallible>(Some(job.clone().leased_to(worker)))
        };
        let Ok(()) = self.waiters().assign(&mut jobs.to_vec(), lease);
        assignment
    }

    fn nearly_caught_up(&self) -> MutexGuard<'_, HashSet<WorkerId>> {
        self.nearly_caught_up.lock().unwrap_or_else(PoisonError::into_inner)
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
    /// Without it no job is assigned.
    turn: Option<Turn<'c>>,
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
        if self.turn.is_some() {
            self.waiters.waiters().rolled_back();
        }
    }
}
