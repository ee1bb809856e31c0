//! Gets jobs from the store and starts their attempts.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::sync::{Semaphore, watch};

use crate::{
    attempt,
    floor::Floor,
    job::{Job, Lease},
    leases::given_back,
    store::{Ask, Leased},
};

/// Gets jobs from the store and starts their attempts.
pub(crate) struct Dispatcher {
    floor: Arc<Floor>,
    ask: Ask,
    slots: Arc<Semaphore>,
    concurrency: usize,
    /// Leased and not started yet.
    ready: VecDeque<Job>,
    next_due: Option<Timestamp>,
    idle: watch::Sender<bool>,
}

impl Dispatcher {
    /// One that listens to `queues`, runs `concurrency` jobs at once, and tells when it has nothing to do.
    pub(crate) fn new(floor: Arc<Floor>, queues: Arc<[String]>, concurrency: usize, idle: watch::Sender<bool>) -> Self {
        let tasks = floor.app.registry.schemas().map(|task| task.name).collect();
        let ask = Ask { worker: floor.id, queues, tasks, limit: 0, now: Timestamp::UNIX_EPOCH };
        let slots = Arc::new(Semaphore::new(concurrency));
        Self { floor, ask, slots, concurrency, ready: VecDeque::new(), next_due: None, idle }
    }

    pub(crate) async fn run(mut self) {
        let mut news = self.floor.app.store.bell().work();
        let stopping = self.floor.stopping.clone();
        let mut look = true;
        while !stopping.is_cancelled() {
            self.start_ready();
            if look && self.is_short() {
                look = self.lease(self.room()).await;
                continue;
            }
            let idle = !look && self.is_idle();
            // The last attempt may have left a job due, and has rung for it before it was gone.
            if idle && news.rang() {
                look = true;
                continue;
            }
            self.idle.send_replace(idle);
            tokio::select! {
                // News first: an attempt that has settled may have left a job to look at.
                biased;
                () = news.heard() => look = true,
                () = self.due() => look = true,
                () = self.slot_or_settlement(look) => {}
                () = stopping.cancelled() => {}
            }
        }
        self.give_back().await;
    }

    /// Starts jobs that are leased, as far as there are slots.
    fn start_ready(&mut self) {
        while let Some(job) = self.ready.pop_front() {
            let Ok(slot) = self.slots.clone().try_acquire_owned() else {
                self.ready.push_front(job);
                return;
            };
            let lease = self.lease_of(&job);
            self.floor.attempts.spawn(attempt::run(self.floor.clone(), job, lease, slot));
        }
    }

    /// Whether it is time to lease more: not for each job that ends, but when half of what was leased ahead is gone.
    fn is_short(&self) -> bool {
        self.ready.len() <= self.concurrency / 2
    }

    /// How many more jobs to lease: as many as run at once may be ready beside those that run.
    fn room(&self) -> usize {
        (self.concurrency + self.slots.available_permits()).saturating_sub(self.ready.len())
    }

    /// Leases up to `limit` jobs; gives whether there may be more.
    async fn lease(&mut self, limit: usize) -> bool {
        let now = self.floor.app.clock.now();
        let ask = Ask { limit, now, ..self.ask.clone() };
        let asking = self.floor.held.asking();
        let answer = self.floor.app.store.lease(ask).await;
        answer.iter().flat_map(|leased| &leased.jobs).for_each(|job| self.floor.held.insert(self.lease_of(job)));
        drop(asking);
        match answer {
            Ok(Leased { jobs, next_due }) => {
                let more = jobs.len() == limit;
                self.next_due = next_due;
                self.ready.extend(jobs);
                more
            }
            Err(error) => {
                tracing::warn!(error = crate::error::chain(&error), "no jobs were leased; trying again in a second");
                // Nothing rings when a store is back.
                tokio::select! {
                    () = tokio::time::sleep(Duration::from_secs(1)) => {}
                    () = self.floor.stopping.cancelled() => {}
                }
                true
            }
        }
    }

    fn lease_of(&self, job: &Job) -> Lease {
        Lease { job: job.id, attempt: job.attempt, worker: self.floor.id }
    }

    /// Waits until the next job that is not due yet is.
    async fn due(&self) {
        let Some(due) = self.next_due else { return std::future::pending().await };
        let wait = due.duration_since(self.floor.app.clock.now());
        // A millisecond more, for stores keep whole ones.
        tokio::time::sleep(Duration::try_from(wait).unwrap_or_default() + Duration::from_millis(1)).await;
    }

    /// Waits until a job that is ready can be started, or more may be leased, or, when there is neither, until the last
    /// attempt has settled.
    async fn slot_or_settlement(&self, look: bool) {
        if !self.ready.is_empty() || look {
            drop(self.slots.acquire().await);
        } else {
            self.floor.held.emptied().await;
        }
    }

    fn is_idle(&self) -> bool {
        let due = self.next_due.is_some_and(|due| due <= self.floor.app.clock.now());
        !due && self.ready.is_empty() && self.floor.held.is_empty()
    }

    /// Gives back what was leased and not started.
    async fn give_back(mut self) {
        let now = self.floor.app.clock.now();
        let jobs: Vec<_> = self.ready.drain(..).collect();
        let settlements = jobs.iter().map(|job| {
            let lease = self.lease_of(job);
            let floor = &self.floor;
            async move {
                floor.settle(given_back(job, lease, now)).await;
                floor.held.remove(lease);
            }
        });
        futures::future::join_all(settlements).await;
    }
}
