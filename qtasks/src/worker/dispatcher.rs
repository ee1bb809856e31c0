//! Leases jobs from the store and starts their attempts.

use std::{
    cmp::Reverse,
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesOrdered};
use jiff::Timestamp;
use tokio::sync::{Semaphore, watch};
use tracing::Instrument as _;

use super::{
    pace::Pace,
    pauses::PauseWatch,
    runner,
    shared::{JobPermit, WorkerShared},
    thread_body,
};
use crate::{
    clock::Uptime,
    environment::{outage::FailingCaller, suspects::SuspectPermit},
    error::Result,
    model::job::{Job, Lease},
    store::{Ask, Leased, Settlement, Suspects},
    telemetry::{self, numbers::Timer, spans},
};

/// Leases jobs for one worker and starts their attempts, as far as there are free slots.
pub(crate) struct Dispatcher {
    shared: Arc<WorkerShared>,
    ask: Ask,
    tasks: Tasks,
    /// All queues that the worker listens to.
    queues: Arc<[String]>,
    pauses: PauseWatch,
    slots: Arc<Semaphore>,
    concurrency: usize,
    /// The jobs that are leased and not started yet.
    ready: VecDeque<Job>,
    /// How many jobs were started.
    started: u64,
    pace: Pace,
    /// How many jobs are to be ready beside those that run, at the present pace.
    target: usize,
    /// How many more may become ready, for the store to know.
    spare: Arc<AtomicUsize>,
    /// When the next job comes due, as the store last answered.
    next_due: Option<Timestamp>,
    /// Whether due suspects wait in the store.
    suspects_wait: bool,
    /// Whether the last lease passed suspects over because one could not be started at once.
    suspects_passed_over: bool,
    /// The permit of the next suspect, while a slot for it is yet to become free.
    suspect_permit: Option<SuspectPermit>,
    idle: watch::Sender<bool>,
    /// There while no jobs can be leased.
    failing: Option<FailingCaller>,
}

/// The tasks whose jobs are leased: all that the program knows and has the states for. While too many threads hang in
/// abandoned bodies, those with bodies on threads are left out.
struct Tasks {
    all: Arc<[&'static str]>,
    without_threads: Arc<[&'static str]>,
    threads_hang: bool,
}

impl Tasks {
    fn of(shared: &WorkerShared) -> Self {
        let schemas = || shared.app.registry.schemas().filter(|task| shared.app.lack(task).is_none());
        let all = schemas().map(|task| task.name).collect();
        let without_threads = schemas().filter(|task| task.awaiting).map(|task| task.name).collect();
        Self { all, without_threads, threads_hang: false }
    }

    fn have_changed(&mut self) -> bool {
        let abandoned = thread_body::abandoned();
        let hang = abandoned > thread_body::TOO_MANY_ABANDONED;
        if hang && !self.threads_hang {
            tracing::warn!(abandoned, "no more jobs of `fn` tasks are leased until bodies return that were given up");
        }
        std::mem::replace(&mut self.threads_hang, hang) != hang
    }

    fn to_lease(&self) -> Arc<[&'static str]> {
        if self.threads_hang { self.without_threads.clone() } else { self.all.clone() }
    }

    /// Waits a second while threads hang: then abandoned bodies may have returned.
    async fn may_change(&self) {
        if !self.threads_hang {
            return std::future::pending().await;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// The store's answers to leases on jobs that are yet to be enqueued, in their order, and when the worker asked for each.
type LeasesAhead = FuturesOrdered<BoxFuture<'static, (Result<Vec<Job>>, Uptime)>>;

/// So many leases ahead: further jobs come while the worker takes in those of the first.
const AHEAD: usize = 8;

/// What it takes to start a suspect in the moment in which it is leased: only then is a further loss its own.
struct SuspectStart {
    permit: JobPermit,
    suspect_permit: SuspectPermit,
}

impl Dispatcher {
    /// A dispatcher that listens to `queues`, runs `concurrency` jobs at once, and sends to `idle` whether it has nothing to do.
    pub(crate) fn new(
        shared: Arc<WorkerShared>,
        queues: Arc<[String]>,
        concurrency: usize,
        idle: watch::Sender<bool>,
    ) -> Self {
        let tasks = Tasks::of(&shared);
        let ask = Ask {
            worker: shared.id,
            queues: queues.clone(),
            tasks: tasks.all.clone(),
            limit: 0,
            suspects: Suspects::PassOver,
            now: Timestamp::UNIX_EPOCH,
        };
        let slots = Arc::new(Semaphore::new(concurrency));
        Self {
            pauses: shared.pauses.watch(),
            shared,
            ask,
            tasks,
            queues,
            slots,
            concurrency,
            ready: VecDeque::new(),
            started: 0,
            pace: Pace::new(concurrency),
            target: 0,
            spare: Arc::default(),
            next_due: None,
            suspects_wait: false,
            suspects_passed_over: false,
            suspect_permit: None,
            idle,
            failing: None,
        }
    }

    pub(crate) async fn run(mut self) {
        let mut work = self.shared.app.store.notifier().work();
        let stopping = self.shared.stopping.clone();
        let (mut look_for_jobs, mut ahead) = (true, LeasesAhead::new());
        while !stopping.is_cancelled() {
            if self.tasks.have_changed() | self.pauses.have_changed(self.shared.app.now()) {
                self.change_lanes(&mut ahead).await;
                look_for_jobs = true;
            }
            self.lease_ahead(&mut ahead);
            // Otherwise jobs that are enqueued would put off those that have come due.
            look_for_jobs |= self.next_due.is_some_and(|due| due < self.shared.app.now());
            // Before the ready jobs take all slots: a suspect would wait as long as there are any.
            let suspect_start = if self.suspects_passed_over { self.suspect_start() } else { None };
            self.start_ready();
            self.set_target();
            if suspect_start.is_some() || look_for_jobs && self.is_short() {
                let suspect_start = suspect_start.or_else(|| self.suspect_start());
                look_for_jobs = self.lease(suspect_start, &mut ahead).await;
                continue;
            }
            let idle = !look_for_jobs && self.is_idle();
            // The last attempt may have left a job due. Then the store notified of that before the attempt was gone.
            if idle && work.take_notification() {
                look_for_jobs = true;
                continue;
            }
            // Or the last attempt enqueued a job, which is leased already.
            if let Some(jobs) = arrived(&mut ahead).now_or_never() {
                look_for_jobs |= !self.accept(jobs).await;
                continue;
            }
            self.idle.send_replace(idle);
            tokio::select! {
                // Jobs and notifications first: an attempt that has settled may have left a job to look for.
                biased;
                jobs = arrived(&mut ahead) => look_for_jobs |= !self.accept(jobs).await,
                () = work.wait() => look_for_jobs = true,
                () = self.due(), if !look_for_jobs => look_for_jobs = true,
                () = self.tasks.may_change() => {}
                () = self.pauses.may_change(&self.shared.app) => {}
                suspect_permit = self.next_suspect_permit() => self.suspect_permit = Some(suspect_permit),
                () = self.slot_or_settlement(look_for_jobs) => {}
                () = stopping.cancelled() => {}
            }
        }
        self.stop_leasing_ahead(&mut ahead).await;
        give_back(self.shared, self.ready.into()).await;
    }

    /// Leases from other lanes from now on, since tasks have become fit to run or not, or something was paused or resumed.
    async fn change_lanes(&mut self, ahead: &mut LeasesAhead) {
        self.stop_leasing_ahead(ahead).await;
        self.ask.queues = self.pauses.open_queues(&self.queues);
        self.ask.tasks = self.pauses.open_tasks(&self.tasks.to_lease());
        let is_paused = |job: &Job| self.pauses.keep(&job.call.queue, &job.call.task);
        let (paused, open): (Vec<_>, Vec<_>) = self.ready.drain(..).partition(is_paused);
        self.ready = open.into();
        // Not here: a store that is away would hold up the other lanes.
        self.shared.attempts.spawn(give_back(self.shared.clone(), paused));
    }

    /// Starts the jobs that are ready, as far as there are free slots.
    fn start_ready(&mut self) {
        while let Some(job) = self.ready.pop_front() {
            let Ok(permit) = self.slots.clone().try_acquire_owned() else {
                self.ready.push_front(job);
                return;
            };
            self.start(job, permit, None);
        }
    }

    fn start(&mut self, job: Job, permit: JobPermit, suspect_permit: Option<SuspectPermit>) {
        self.started += 1;
        let lease = self.lease_of(&job);
        let span = spans::process(&job, self.shared.app.schedule_names.of(job.call.id));
        self.shared.app.trace.relate(&span, &job);
        // In a box: a runtime moves a future several times, and this one is large.
        let attempt = Box::pin(runner::run(self.shared.clone(), job, lease, permit, suspect_permit));
        if span.is_disabled() {
            self.shared.attempts.spawn(attempt);
        } else {
            self.shared.attempts.spawn(attempt.instrument(span));
        }
    }

    /// What it takes to start a suspect, if a slot is free and no other suspect of this application has the turn.
    fn suspect_start(&mut self) -> Option<SuspectStart> {
        let suspect_permit = self.suspect_permit.take().or_else(|| self.shared.app.suspects.try_take())?;
        let permit = self.slots.clone().try_acquire_owned().ok()?;
        Some(SuspectStart { permit, suspect_permit })
    }

    /// Sets how many jobs are to be ready, by how fast they end.
    fn set_target(&mut self) {
        let running = self.concurrency - self.slots.available_permits();
        let ended = self.started.saturating_sub(running as u64);
        self.target = self.pace.ahead(ended, self.shared.app.clock.uptime());
        self.spare.store(self.target.saturating_sub(self.ready.len()), Relaxed);
    }

    /// Whether it is time to lease more: not for each job that ends, but when half of the ready jobs are gone.
    fn is_short(&self) -> bool {
        self.ready.len() <= self.target / 2 && self.room() > 0
    }

    /// How many more jobs to lease: for the free slots, and so that enough are ready.
    fn room(&self) -> usize {
        (self.target + self.slots.available_permits()).saturating_sub(self.ready.len())
    }

    /// Asks the store to lease jobs in the commits that enqueue them, for slots that are free then. Asks nothing while the
    /// worker's leases may be lost.
    fn lease_ahead(&self, ahead: &mut LeasesAhead) {
        let asked = self.shared.app.clock.uptime();
        while ahead.len() < AHEAD && self.shared.leases.holds(asked) {
            let (slots, spare) = (self.slots.clone(), self.spare.clone());
            let free = Arc::new(move || slots.available_permits() + spare.load(Relaxed));
            let ask = Ask { limit: usize::MAX, now: self.shared.app.now(), ..self.ask.clone() };
            let Some(jobs) = self.shared.app.store.lease_on_enqueue(ask, free) else { return };
            ahead.push_back(Box::pin(jobs.map(move |jobs| (jobs, asked))));
        }
    }

    /// Enters jobs that were leased as they were enqueued; gives whether the store has answered.
    async fn accept(&mut self, (jobs, asked): (Result<Vec<Job>>, Uptime)) -> bool {
        let (now, got) = (self.shared.app.now(), self.shared.app.clock.uptime());
        match jobs {
            Ok(jobs) if !jobs.is_empty() => {
                for job in jobs {
                    if self.shared.leases.insert(self.lease_of(&job), asked, got) {
                        self.ready.push_back(job);
                    } else {
                        self.decline(&job, now);
                    }
                }
            }
            // The store keeps no such question, and would answer the next one at once too.
            Ok(_) => self.pause().await,
            Err(error) => {
                self.shared.app.outage.failed(&mut self.failing, "lease jobs as they come", &error);
                self.pause().await;
                return false;
            }
        }
        true
    }

    /// Takes back what [`lease_ahead`](Self::lease_ahead) asked for, and enters the jobs that came before that.
    async fn stop_leasing_ahead(&mut self, ahead: &mut LeasesAhead) {
        if ahead.is_empty() {
            return;
        }
        // Where the store does not answer in time, the leases on such jobs run out.
        _ = tokio::time::timeout(Duration::from_secs(5), self.shared.app.store.stop_lease_on_enqueue(self.shared.id))
            .await;
        while let Some(jobs) = arrived(ahead).now_or_never() {
            if !matches!(&jobs.0, Ok(none) if none.is_empty()) {
                self.accept(jobs).await;
            }
        }
        *ahead = LeasesAhead::new();
    }

    /// Leases as many jobs as there is room for, and a suspect if one can be started; gives whether there may be more.
    async fn lease(&mut self, mut suspect_start: Option<SuspectStart>, ahead: &mut LeasesAhead) -> bool {
        let now = self.shared.app.now();
        let asked = self.shared.app.clock.uptime();
        if !self.shared.leases.holds(asked) {
            // Another worker could take over what this one leased now, before it is started.
            self.pause().await;
            return true;
        }
        let limit = self.room() + usize::from(suspect_start.is_some());
        let suspects =
            suspect_start.as_ref().map(|suspect_start| suspect_start.suspect_permit.ask()).unwrap_or_default();
        let ask = Ask { limit, suspects, now, ..self.ask.clone() };
        let leased = self.lease_traced(ask).await;
        // Jobs that were leased ahead meanwhile are put in order with these below.
        let first = self.ready.len();
        while let Some(jobs) = arrived(ahead).now_or_never() {
            self.accept(jobs).await;
        }
        match leased {
            Ok(Leased { jobs, next_due, suspects }) => {
                if let Some(failing) = self.failing.take() {
                    failing.answered();
                }
                let more = jobs.len() == limit;
                let got = self.shared.app.clock.uptime();
                for job in jobs {
                    if !self.shared.leases.insert(self.lease_of(&job), asked, got) {
                        self.decline(&job, now);
                        continue;
                    }
                    match suspect_start
                        .take_if(|_| job.standing.suspect.is_some() && !self.shared.stopping.is_cancelled())
                    {
                        Some(SuspectStart { permit, suspect_permit }) => self.start(job, permit, Some(suspect_permit)),
                        None => self.ready.push_back(job),
                    }
                }
                self.ready.make_contiguous()[first..].sort_by_key(|job| (Reverse(job.call.priority), job.call.id));
                self.next_due = next_due;
                self.suspects_wait = suspects;
                self.suspects_passed_over = suspects && suspect_start.is_none();
                more
            }
            Err(error) => {
                drop(suspect_start);
                self.shared.app.outage.failed(&mut self.failing, "lease jobs", &error);
                // The store does not notify when it is back.
                self.pause().await;
                true
            }
        }
    }

    async fn lease_traced(&self, ask: Ask) -> Result<Leased> {
        let (span, timer) = (spans::receive(self.shared.id), Timer::start());
        let leased = self.shared.app.store.lease(ask).instrument(span.clone()).await;
        telemetry::leased(&span, timer, leased.as_ref().map(|leased| leased.jobs.len()));
        leased
    }

    async fn pause(&self) {
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
            () = self.shared.stopping.cancelled() => {}
        }
    }

    /// Gives back a job whose lease may have been lost before the store's answer came. If it was lost, this changes nothing.
    fn decline(&self, job: &Job, now: Timestamp) {
        let (shared, settlement) = (self.shared.clone(), Settlement::given_back(job, self.lease_of(job), now));
        self.shared.attempts.spawn(async move { shared.settle(settlement).await });
    }

    fn lease_of(&self, job: &Job) -> Lease {
        Lease { job: job.call.id, attempt: job.standing.attempt, worker: self.shared.id }
    }

    /// Waits until the next job comes due.
    async fn due(&self) {
        let Some(due) = self.next_due else { return std::future::pending().await };
        self.shared.app.clock.sleep_until(due).await;
    }

    /// Waits until a suspect that was passed over can be started, and gives the permit for it.
    async fn next_suspect_permit(&self) -> SuspectPermit {
        if !self.suspects_passed_over {
            return std::future::pending().await;
        }
        drop(self.slots.acquire().await);
        self.shared.app.suspects.take().await
    }

    /// Waits for a free slot while there are jobs to start or to look for, and else until the last attempt has settled.
    async fn slot_or_settlement(&self, look_for_jobs: bool) {
        if !self.ready.is_empty() || look_for_jobs {
            drop(self.slots.acquire().await);
        } else {
            self.shared.leases.emptied().await;
        }
    }

    fn is_idle(&self) -> bool {
        let due = self.next_due.is_some_and(|due| due <= self.shared.app.now());
        !due && !self.suspects_wait && self.ready.is_empty() && self.shared.leases.is_empty()
    }
}

/// Gives back jobs that were leased and not started.
async fn give_back(shared: Arc<WorkerShared>, jobs: Vec<Job>) {
    let now = shared.app.now();
    let settlements = jobs.iter().map(|job| {
        let shared = &shared;
        async move {
            let lease = Lease { job: job.call.id, attempt: job.standing.attempt, worker: shared.id };
            shared.settle(Settlement::given_back(job, lease, now)).await;
            shared.leases.remove(lease);
        }
    });
    futures::future::join_all(settlements).await;
}

/// Waits for the answer to the first lease ahead; for ever where there is none.
async fn arrived(ahead: &mut LeasesAhead) -> (Result<Vec<Job>>, Uptime) {
    let Some(arrived) = ahead.next().await else { return std::future::pending().await };
    arrived
}
