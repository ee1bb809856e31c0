//! Workers that wait for new jobs. They get the jobs that are enqueued next as running ones, by the statement that enqueues
//! them, which saves one wait for the disk.

use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Mutex as AsyncMutex, MutexGuard as AsyncMutexGuard, oneshot};

use crate::{
    model::job::{Job, JobId, NewJob, WorkerId},
    store::{Ask, FreeSlots, Listener},
};

/// The workers that wait for new jobs.
#[derive(Default)]
pub(super) struct Waiters {
    known: Mutex<Known>,
    /// Held by the call that leases new jobs to waiting workers, until these have their answers.
    assigning: AsyncMutex<()>,
}

#[derive(Default)]
struct Known {
    waiters: Vec<Waiter>,
    /// Workers that have taken all waiting jobs, each with a listener that is notified when more jobs wait.
    caught_up: HashMap<WorkerId, Listener>,
}

/// A worker that waits for new jobs.
struct Waiter {
    ask: Ask,
    free: FreeSlots,
    answer: oneshot::Sender<Vec<Job>>,
}

impl Waiter {
    /// How many jobs the worker can take at the moment.
    fn room(&self) -> usize {
        if self.answer.is_closed() { 0 } else { self.ask.limit.min((self.free)()) }
    }

    fn is_for(&self, job: &NewJob) -> bool {
        self.ask.queues.contains(&job.call.queue) && self.ask.tasks.contains(&&*job.call.task)
    }

    fn answer(self, jobs: Vec<Job>) {
        // The worker may be gone.
        _ = self.answer.send(jobs);
    }
}

impl Waiters {
    /// Waits for new jobs, which are the answer.
    pub(super) fn ask(&self, ask: Ask, free: FreeSlots) -> oneshot::Receiver<Vec<Job>> {
        let (answer, jobs) = oneshot::channel();
        self.known().waiters.push(Waiter { ask, free, answer });
        jobs
    }

    /// Answers the waiter of this worker with nothing, if it is not answered otherwise.
    pub(super) async fn stop_lease_on_enqueue(&self, worker: WorkerId) {
        let _guard = self.assigning.lock().await;
        let mut known = self.known();
        known.caught_up.remove(&worker);
        known.waiters.extract_if(.., |waiter| waiter.ask.worker == worker).for_each(|one| one.answer(Vec::new()));
    }

    /// Notes that a worker has taken all jobs that waited for it, unless there was a notification since.
    pub(super) fn caught_up(&self, worker: WorkerId, mut since: Listener) {
        if since.take_notification() {
            self.fell_behind(worker);
        } else {
            self.known().caught_up.insert(worker, since);
        }
    }

    /// Notes that more jobs may wait for a worker.
    pub(super) fn fell_behind(&self, worker: WorkerId) {
        self.known().caught_up.remove(&worker);
    }

    /// Assigns the jobs that are due to the workers that wait for them, the most urgent first; `None` where no worker waits.
    pub(super) async fn assign(&self, jobs: &[&NewJob]) -> Option<Assignment<'_>> {
        let guard = self.assigning.lock().await;
        let mut assignment = Assignment { handoffs: self.known().take_ready(), waiters: self, _guard: guard };
        if assignment.handoffs.is_empty() {
            return None;
        }
        let mut due: Vec<_> = jobs.iter().filter(|job| job.due <= job.call.enqueued).collect();
        due.sort_by_key(|job| (Reverse(job.call.priority), job.call.id));
        for Handoff { waiter, jobs } in &mut assignment.handoffs {
            let worker = waiter.ask.worker;
            let theirs = due.extract_if(.., |job| waiter.is_for(job)).take(waiter.room());
            jobs.extend(theirs.map(|job| (**job).clone().leased_to(worker)));
        }
        assignment.handoffs.iter().any(|handoff| !handoff.jobs.is_empty()).then_some(assignment)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Takes the waiters whose workers may get new jobs, since no older job waits for them.
    fn take_ready(&mut self) -> Vec<Handoff> {
        let Self { waiters, caught_up } = self;
        waiters.retain(|waiter| !waiter.answer.is_closed());
        caught_up.retain(|_, since| !since.take_notification());
        let may_take = |waiter: &mut Waiter| caught_up.contains_key(&waiter.ask.worker) && waiter.room() > 0;
        waiters.extract_if(.., may_take).map(|waiter| Handoff { waiter, jobs: Vec::new() }).collect()
    }
}

/// A waiter, and the jobs that it gets.
struct Handoff {
    waiter: Waiter,
    jobs: Vec<Job>,
}

/// New jobs that are assigned to workers, until they are leased.
pub(super) struct Assignment<'c> {
    handoffs: Vec<Handoff>,
    waiters: &'c Waiters,
    _guard: AsyncMutexGuard<'c, ()>,
}

impl Assignment<'_> {
    /// The worker that each of the jobs is for.
    pub(super) fn workers(&self) -> HashMap<JobId, WorkerId> {
        let of_handoff = |handoff: &Handoff| {
            handoff.jobs.iter().map(|job| (job.call.id, handoff.waiter.ask.worker)).collect::<Vec<_>>()
        };
        self.handoffs.iter().flat_map(of_handoff).collect()
    }

    /// Answers the waiters with the jobs that were leased. Without this no worker learns of them.
    pub(super) fn answer(mut self, leased: &HashSet<JobId>) {
        for Handoff { waiter, mut jobs } in mem::take(&mut self.handoffs) {
            jobs.retain(|job| leased.contains(&job.call.id));
            if jobs.is_empty() {
                self.waiters.known().waiters.push(waiter);
            } else {
                waiter.answer(jobs);
            }
        }
    }
}

impl Drop for Assignment<'_> {
    fn drop(&mut self) {
        let unanswered = mem::take(&mut self.handoffs).into_iter().map(|handoff| handoff.waiter);
        self.waiters.known().waiters.extend(unanswered);
    }
}
