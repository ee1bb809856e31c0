//! Workers that wait for new jobs. A worker that finds none to lease waits here, and is leased new ones in the commit that
//! enqueues them, which saves one wait for the disk.

use std::{
    borrow::Borrow,
    cmp::Reverse,
    collections::{HashMap, HashSet},
};

use jiff::Timestamp;
use tokio::sync::oneshot;

use super::{Ask, FreeSlots, Leased, Listener};
use crate::model::job::{Job, JobId, NewJob, WorkerId};

/// A worker that waits for new jobs.
pub(crate) struct Waiter {
    ask: Ask,
    free: FreeSlots,
    /// The jobs that are assigned to the worker, and whose commit is still to come.
    jobs: Vec<Job>,
    answer: oneshot::Sender<Vec<Job>>,
}

impl Waiter {
    /// A waiter, and the channel on which its answer comes.
    pub(crate) fn new(ask: Ask, free: FreeSlots) -> (Self, oneshot::Receiver<Vec<Job>>) {
        let (answer, jobs) = oneshot::channel();
        (Self { ask, free, jobs: Vec::new(), answer }, jobs)
    }

    /// How many jobs the worker can take at the moment.
    fn room(&self) -> usize {
        self.ask.limit.min((self.free)())
    }

    /// Takes as many of the jobs as there is room for, from the front.
    fn take<J: Borrow<NewJob>, E>(
        &mut self,
        due: &mut Vec<J>,
        lease: &mut impl FnMut(J, WorkerId) -> Result<Option<Job>, E>,
    ) -> Result<(), E> {
        let (room, Self { ask, jobs, .. }) = (self.room(), self);
        let mut theirs = due.extract_if(.., |job| takes(ask, (*job).borrow()));
        while jobs.len() < room
            && let Some(job) = theirs.next()
        {
            jobs.extend(lease(job, ask.worker)?);
        }
        Ok(())
    }

    fn answer(self) {
        // The worker may be gone.
        _ = self.answer.send(self.jobs);
    }
}

/// The workers that wait for new jobs, and which of them may get some.
#[derive(Default)]
pub(crate) struct Waiters {
    waiting: Vec<Waiter>,
    caught_up: HashMap<WorkerId, CaughtUp>,
}

/// Until when a worker has taken all jobs that waited for it.
struct CaughtUp {
    /// Is notified when more jobs wait.
    work: Listener,
    /// When the next job that was not due yet will be.
    next_due: Option<Timestamp>,
}

impl Waiters {
    /// Adds workers that wait from now on.
    pub(crate) fn extend(&mut self, waiters: impl IntoIterator<Item = Waiter>) {
        self.waiting.extend(waiters);
    }

    /// Answers the waiter of this worker without jobs, between two commits.
    pub(crate) fn remove(&mut self, worker: WorkerId) {
        self.fell_behind(worker);
        self.waiting.extract_if(.., |waiter| waiter.ask.worker == worker).for_each(Waiter::answer);
    }

    /// Answers all waiters without jobs, even if some were assigned to them.
    #[cfg(feature = "sqlite")]
    pub(crate) fn remove_all(&mut self) {
        self.rolled_back();
        self.waiting.drain(..).for_each(Waiter::answer);
    }

    /// Notes that a worker has taken all jobs that waited for it, up to the next one that comes due, unless there was a
    /// notification of work since.
    pub(crate) fn caught_up(&mut self, worker: WorkerId, mut work: Listener, leased: &Leased) {
        if work.take_notification() {
            self.fell_behind(worker);
        } else {
            self.caught_up.insert(worker, CaughtUp { work, next_due: leased.next_due });
        }
    }

    /// Notes that more jobs may wait for a worker.
    pub(crate) fn fell_behind(&mut self, worker: WorkerId) {
        self.caught_up.remove(&worker);
    }

    /// Notes that more jobs may wait for all workers.
    #[cfg(feature = "sqlite")]
    pub(crate) fn all_fell_behind(&mut self) {
        self.caught_up.clear();
    }

    /// Whether some worker has caught up.
    #[cfg(feature = "sqlite")]
    pub(crate) fn any_caught_up(&self) -> bool {
        !self.caught_up.is_empty()
    }

    /// Whether new jobs can be assigned to some worker.
    pub(crate) fn any_ready(&mut self) -> bool {
        self.ready().next().is_some()
    }

    /// The waiters of workers that may get new jobs: no older job waits for them, and they have room. A worker may wait
    /// twice, so that it misses none while it takes in its jobs; the first one counts.
    fn ready(&mut self) -> impl Iterator<Item = &mut Waiter> {
        let Self { waiting, caught_up } = self;
        waiting.retain(|waiter| !waiter.answer.is_closed());
        caught_up.retain(|_, caught_up| !caught_up.work.take_notification());
        let ready = waiting.iter_mut().filter(|waiter| caught_up.contains_key(&waiter.ask.worker) && waiter.room() > 0);
        let mut before = HashSet::new();
        ready.filter(move |waiter| before.insert(waiter.ask.worker))
    }

    /// Assigns the jobs that are due to the workers that wait for them, the most urgent first. The others are left in `jobs`.
    ///
    /// `lease` gives the job as one that runs on the worker, or `None` if there is a job of this id already. If it fails, the
    /// commit has failed, and `jobs` have lost some.
    pub(crate) fn assign<J: Borrow<NewJob>, E>(
        &mut self,
        jobs: &mut Vec<J>,
        mut lease: impl FnMut(J, WorkerId) -> Result<Option<Job>, E>,
    ) -> Result<(), E> {
        if !self.any_ready() {
            return Ok(());
        }
        let mut due: Vec<J> = jobs.extract_if(.., |job| is_due((*job).borrow())).collect();
        due.sort_by_key(|job| urgency(job.borrow()));
        if let Some(now) = due.iter().map(|job| (*job).borrow().call.enqueued).max() {
            self.came_due(now);
        }
        self.ready().try_for_each(|waiter| waiter.take(&mut due, &mut lease))?;
        jobs.append(&mut due);
        Ok(())
    }

    /// Notes that jobs which were not due when a worker looked may wait for it by now. Where it asked just before they were
    /// enqueued, they come before those that are enqueued next.
    fn came_due(&mut self, now: Timestamp) {
        self.caught_up.retain(|_, caught_up| caught_up.next_due.is_none_or(|due| due > now));
    }

    /// Keeps of the assigned jobs those that are committed as leased ones.
    #[cfg(feature = "postgres")]
    pub(crate) fn retain(&mut self, is_leased: impl Fn(&Job) -> bool) {
        self.waiting.iter_mut().for_each(|waiter| waiter.jobs.retain(&is_leased));
    }

    /// The commit was made: answers the waiters that have jobs.
    pub(crate) fn committed(&mut self) {
        self.waiting.extract_if(.., |waiter| !waiter.jobs.is_empty()).for_each(Waiter::answer);
    }

    /// The commit was not made: no job was leased by it.
    pub(crate) fn rolled_back(&mut self) {
        self.waiting.iter_mut().for_each(|waiter| waiter.jobs.clear());
    }
}

/// Whether the worker takes jobs of this queue and task.
fn takes(ask: &Ask, job: &NewJob) -> bool {
    ask.queues.contains(&job.call.queue) && ask.tasks.contains(&&*job.call.task)
}

/// Whether a new job is due when it is enqueued.
fn is_due(job: &NewJob) -> bool {
    job.due <= job.call.enqueued
}

/// Of new jobs the one with the least value is leased first.
fn urgency(job: &NewJob) -> (Reverse<i16>, JobId) {
    (Reverse(job.call.priority), job.call.id)
}

#[cfg(test)]
mod tests;
