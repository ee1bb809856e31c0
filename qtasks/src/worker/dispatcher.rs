//! Gets jobs from the store and starts their attempts.

use std::{cmp::Reverse, collections::VecDeque, sync::Arc, time::Duration};

use futures::{FutureExt as _, future::BoxFuture};
use jiff::Timestamp;
use tokio::sync::{Semaphore, watch};
use tracing::Instrument as _;

use super::{
    called, runner,
    shared::{Floor, Slot},
};
use crate::{
    clock::Uptime,
    environment::{outage::Trouble, suspects::SuspectPermit},
    error::Result,
    model::job::{Job, Lease},
    store::{Ask, Leased, Settlement, Suspects},
    telemetry,
};

/// Gets jobs from the store and starts their attempts.
pub(crate) struct Dispatcher {
    floor: Arc<Floor>,
    ask: Ask,
    tasks: Tasks,
    slots: Arc<Semaphore>,
    concurrency: usize,
    /// Leased and not started yet.
    ready: VecDeque<Job>,
    next_due: Option<Timestamp>,
    /// Whether suspects wait,
    suspects: bool,
    /// and whether they would have been passed over whatever else waits, for want of a seat.
    owed: bool,
    /// What was waited for to make up a seat.
    turn: Option<SuspectPermit>,
    idle: watch::Sender<bool>,
    /// While no jobs can be leased.
    trouble: Option<Trouble>,
}

/// The tasks that jobs are leased of: all that the program knows and has the states for, but not those whose bodies are
/// called on threads while too many threads hang in bodies that were given up.
struct Tasks {
    all: Arc<[&'static str]>,
    without_threads: Arc<[&'static str]>,
    hang: bool,
}

impl Tasks {
    fn of(floor: &Floor) -> Self {
        let schemas = || floor.app.registry.schemas().filter(|task| floor.app.lack(task).is_none());
        let all = schemas().map(|task| task.name).collect();
        let without_threads = schemas().filter(|task| task.awaiting).map(|task| task.name).collect();
        Self { all, without_threads, hang: false }
    }

    fn have_changed(&mut self) -> bool {
        let abandoned = called::abandoned();
        let hang = abandoned > called::TOO_MANY_ABANDONED;
        if hang && !self.hang {
            tracing::warn!(abandoned, "no more jobs of `fn` tasks are leased until bodies return that were given up");
        }
        std::mem::replace(&mut self.hang, hang) != hang
    }

    fn to_lease(&self) -> Arc<[&'static str]> {
        if self.hang { self.without_threads.clone() } else { self.all.clone() }
    }

    /// Waits until it may be time to look whether bodies have returned.
    async fn may_change(&self) {
        if !self.hang {
            return std::future::pending().await;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Leases on jobs that are yet to come, and when they were asked for.
type Coming = Option<(BoxFuture<'static, Result<Vec<Job>>>, Uptime)>;

/// What a suspect needs to be started at once when it is leased: only then is a further loss its own.
struct Seat {
    slot: Slot,
    turn: SuspectPermit,
}

impl Dispatcher {
    /// One that listens to `queues`, runs `concurrency` jobs at once, and tells when it has nothing to do.
    pub(crate) fn new(floor: Arc<Floor>, queues: Arc<[String]>, concurrency: usize, idle: watch::Sender<bool>) -> Self {
        let tasks = Tasks::of(&floor);
        let ask = Ask {
            worker: floor.id,
            queues,
            tasks: tasks.all.clone(),
            limit: 0,
            suspects: Suspects::PassOver,
            now: Timestamp::UNIX_EPOCH,
        };
        let slots = Arc::new(Semaphore::new(concurrency));
        Self {
            floor,
            ask,
            tasks,
            slots,
            concurrency,
            ready: VecDeque::new(),
            next_due: None,
            suspects: false,
            owed: false,
            turn: None,
            idle,
            trouble: None,
        }
    }

    pub(crate) async fn run(mut self) {
        let mut news = self.floor.app.store.notifier().work();
        let stopping = self.floor.stopping.clone();
        let (mut look, mut coming) = (true, Coming::None);
        while !stopping.is_cancelled() {
            if self.tasks.have_changed() {
                self.take_back(coming.take()).await;
                self.ask.tasks = self.tasks.to_lease();
                look = true;
            }
            coming = coming.or_else(|| self.ask_ahead());
            // Or jobs that come would put off those whose time has come.
            look |= self.next_due.is_some_and(|due| due < self.floor.app.now());
            // Before jobs that were leased ahead take all slots: a suspect would wait for as long as there are any.
            let seat = if self.owed { self.seat() } else { None };
            self.start_ready();
            if seat.is_some() || look && self.is_short() {
                let seat = seat.or_else(|| self.seat());
                look = self.lease(seat, &mut coming).await;
                continue;
            }
            let idle = !look && self.is_idle();
            // The last attempt may have left a job due, and has rung for it before it was gone.
            if idle && news.take_notification() {
                look = true;
                continue;
            }
            // Or the job is leased already.
            if let Some(jobs) = arrived(&mut coming).now_or_never() {
                look |= !self.accept(jobs).await;
                continue;
            }
            self.idle.send_replace(idle);
            tokio::select! {
                // News first: an attempt that has settled may have left a job to look at.
                biased;
                jobs = arrived(&mut coming) => look |= !self.accept(jobs).await,
                () = news.wait() => look = true,
                () = self.due(), if !look => look = true,
                () = self.tasks.may_change() => {}
                turn = self.next_turn() => self.turn = Some(turn),
                () = self.slot_or_settlement(look) => {}
                () = stopping.cancelled() => {}
            }
        }
        self.take_back(coming).await;
        self.give_back().await;
    }

    /// Starts jobs that are leased, as far as there are slots.
    fn start_ready(&mut self) {
        while let Some(job) = self.ready.pop_front() {
            let Ok(slot) = self.slots.clone().try_acquire_owned() else {
                self.ready.push_front(job);
                return;
            };
            self.start(job, slot, None);
        }
    }

    fn start(&self, job: Job, slot: Slot, turn: Option<SuspectPermit>) {
        let lease = self.lease_of(&job);
        let span = telemetry::process(&job);
        // In a box: a runtime moves what it is given several times, and this is large.
        let attempt = Box::pin(runner::run(self.floor.clone(), job, lease, slot, turn));
        if span.is_disabled() {
            self.floor.attempts.spawn(attempt);
        } else {
            self.floor.attempts.spawn(attempt.instrument(span));
        }
    }

    /// A seat for a suspect, if a slot is free and no other suspect of this application runs.
    fn seat(&mut self) -> Option<Seat> {
        let turn = self.turn.take().or_else(|| self.floor.app.suspects.try_take())?;
        let slot = self.slots.clone().try_acquire_owned().ok()?;
        Some(Seat { slot, turn })
    }

    /// Whether it is time to lease more: not for each job that ends, but when half of what was leased ahead is gone.
    fn is_short(&self) -> bool {
        self.ready.len() <= self.concurrency / 2
    }

    /// How many more jobs to lease: as many as run at once may be ready beside those that run.
    fn room(&self) -> usize {
        (self.concurrency + self.slots.available_permits()).saturating_sub(self.ready.len())
    }

    /// Asks for jobs that are yet to come, for slots that are free then; not while the leases may be lost.
    fn ask_ahead(&self) -> Coming {
        let (asked, slots) = (self.floor.app.clock.uptime(), self.slots.clone());
        if !self.floor.held.holds(asked) {
            return None;
        }
        let ask = Ask { limit: self.concurrency, now: self.floor.app.now(), ..self.ask.clone() };
        Some((self.floor.app.store.lease_on_enqueue(ask, Arc::new(move || slots.available_permits()))?, asked))
    }

    /// Takes over leases on jobs that have come; gives whether the store has answered.
    async fn accept(&mut self, (jobs, asked): (Result<Vec<Job>>, Uptime)) -> bool {
        let (now, got) = (self.floor.app.now(), self.floor.app.clock.uptime());
        match jobs {
            Ok(jobs) if !jobs.is_empty() => {
                for job in jobs {
                    if self.floor.held.insert(self.lease_of(&job), asked, got) {
                        self.ready.push_back(job);
                    } else {
                        self.decline(&job, now);
                    }
                }
            }
            // An answer to nobody's question would come again at once.
            Ok(_) => self.pause().await,
            Err(error) => {
                self.floor.app.outage.failed(&mut self.trouble, "lease jobs as they come", &error);
                self.pause().await;
                return false;
            }
        }
        true
    }

    /// Takes back the question for jobs that are yet to come.
    async fn take_back(&mut self, mut coming: Coming) {
        if coming.is_none() {
            return;
        }
        // Where the store is locked for longer, their leases run out.
        _ = tokio::time::timeout(Duration::from_secs(5), self.floor.app.store.stop_lease_on_enqueue(self.floor.id))
            .await;
        if let Some(jobs) = arrived(&mut coming).now_or_never() {
            self.accept(jobs).await;
        }
    }

    /// Leases as many jobs as there is room for, a suspect among them if there is a seat for it; gives whether there may
    /// be more.
    async fn lease(&mut self, mut seat: Option<Seat>, coming: &mut Coming) -> bool {
        let now = self.floor.app.now();
        let asked = self.floor.app.clock.uptime();
        if !self.floor.held.holds(asked) {
            // What it took now could pass on to another worker before it is started.
            self.pause().await;
            return true;
        }
        let limit = self.room() + usize::from(seat.is_some());
        let suspects = seat.as_ref().map(|seat| seat.turn.ask()).unwrap_or_default();
        let ask = Ask { limit, suspects, now, ..self.ask.clone() };
        let leased = self.floor.app.store.lease(ask).await;
        // What came meanwhile may have come before these, or after them.
        let first = self.ready.len();
        if let Some(jobs) = arrived(coming).now_or_never() {
            self.accept(jobs).await;
        }
        match leased {
            Ok(Leased { jobs, next_due, suspects }) => {
                if let Some(trouble) = self.trouble.take() {
                    trouble.over();
                }
                let more = jobs.len() == limit;
                let got = self.floor.app.clock.uptime();
                for job in jobs {
                    if !self.floor.held.insert(self.lease_of(&job), asked, got) {
                        self.decline(&job, now);
                        continue;
                    }
                    match seat.take_if(|_| job.standing.suspect.is_some() && !self.floor.stopping.is_cancelled()) {
                        Some(Seat { slot, turn }) => self.start(job, slot, Some(turn)),
                        None => self.ready.push_back(job),
                    }
                }
                self.ready.make_contiguous()[first..].sort_by_key(|job| (Reverse(job.call.priority), job.call.id));
                self.next_due = next_due;
                self.suspects = suspects;
                self.owed = suspects && seat.is_none();
                more
            }
            Err(error) => {
                drop(seat);
                self.floor.app.outage.failed(&mut self.trouble, "lease jobs", &error);
                // Nothing rings when a store is back.
                self.pause().await;
                true
            }
        }
    }

    async fn pause(&self) {
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
            () = self.floor.stopping.cancelled() => {}
        }
    }

    /// Gives back a job whose lease may have been lost before its answer came; if it was, that changes nothing.
    fn decline(&self, job: &Job, now: Timestamp) {
        let (floor, settlement) = (self.floor.clone(), Settlement::given_back(job, self.lease_of(job), now));
        self.floor.attempts.spawn(async move { floor.settle(settlement).await });
    }

    fn lease_of(&self, job: &Job) -> Lease {
        Lease { job: job.call.id, attempt: job.standing.attempt, worker: self.floor.id }
    }

    /// Waits until the next job that is not due yet is.
    async fn due(&self) {
        let Some(due) = self.next_due else { return std::future::pending().await };
        self.floor.app.clock.sleep_until(due).await;
    }

    /// Waits until a suspect that waits can have a seat.
    async fn next_turn(&self) -> SuspectPermit {
        if !self.owed {
            return std::future::pending().await;
        }
        drop(self.slots.acquire().await);
        self.floor.app.suspects.take().await
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
        let due = self.next_due.is_some_and(|due| due <= self.floor.app.now());
        !due && !self.suspects && self.ready.is_empty() && self.floor.held.is_empty()
    }

    /// Gives back what was leased and not started.
    async fn give_back(mut self) {
        let now = self.floor.app.now();
        let jobs: Vec<_> = self.ready.drain(..).collect();
        let settlements = jobs.iter().map(|job| {
            let lease = self.lease_of(job);
            let floor = &self.floor;
            async move {
                floor.settle(Settlement::given_back(job, lease, now)).await;
                floor.held.remove(lease);
            }
        });
        futures::future::join_all(settlements).await;
    }
}

/// Waits for leases on jobs that are yet to come; without a question for them, for ever.
async fn arrived(coming: &mut Coming) -> (Result<Vec<Job>>, Uptime) {
    let Some((jobs, asked)) = coming else { return std::future::pending().await };
    let arrived = (jobs.await, *asked);
    *coming = None;
    arrived
}
