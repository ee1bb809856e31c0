//! Takes one leased job through its attempt. Each stage is a type: `Leased`, `Started`, `Ran`, `Flushed`, `Settled`.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::{Arc, OnceLock},
    time::Duration,
};

use futures::{
    FutureExt as _,
    future::{Either, select},
};
use tokio::time::sleep;
use tracing::Instrument as _;

use super::{
    around::{self, Came},
    body::{Begun, Body, time_limit},
    replay::{memos, steps},
    settling::{AttemptEnd, Flushed, LeaseLost, Leased},
    shared::{JobPermit, Settled, WorkerShared},
};
use crate::{
    around::Ended as SeenEnd,
    environment::suspects::{RunningSuspect, SuspectPermit},
    execution::{
        attempt::Attempt,
        body::{Ended, Running},
        context::TaskContext,
        journal::{EntryCount, Journal},
        state::States,
        stopped::Stopped,
    },
    model::{
        job::{Job, Lease, Suspect},
        lifecycle::Verdict,
        retry::Retry,
    },
    schema::{Checkpoint, TaskExecSchema},
    store::{Record, Written},
    task::registry::Registration,
    telemetry::{
        self,
        numbers::{Event, Timer, note},
    },
};

/// Runs one attempt of `job`, which is leased, and settles it. The job's permit is free again when the body has ended. That of
/// a suspect is free when the end is durable, and its turn before that, when it has [passed](Started::pass_turn).
pub(crate) async fn run(
    shared: Arc<WorkerShared>,
    job: Job,
    lease: Lease,
    permit: JobPermit,
    mut suspect_permit: Option<SuspectPermit>,
) {
    let (began, timer) = (shared.app.now(), Timer::start());
    telemetry::starts(&job, began);
    // A store need not notify of a lease.
    shared.app.store.notifier().notify_jobs([job.call.id]);
    let stop = shared.pauses.stop_of(&job.call);
    let leased = Leased { shared: &shared, job: &job, lease, began, timer, stop: &stop };
    let slot = UsedSlot::take();
    let flushed = leased.attempt(suspect_permit.as_mut()).await;
    drop((permit, slot));
    let settled = match flushed {
        Ok(flushed) => flushed.settle().await,
        Err(LeaseLost) => Settled::LeaseLost,
    };
    shared.leases.remove(lease);
    drop(suspect_permit);
    if matches!(settled, Settled::LeaseLost) && telemetry::lost_is_logged() {
        // Not here: the worker would wait for it when it stops.
        tokio::spawn(log_lost(shared, job).in_current_span());
    }
}

/// Logs of an attempt that lost its lease what became of the job, as far as the store knows.
async fn log_lost(shared: Arc<WorkerShared>, job: Job) {
    let found = shared.app.store.standing(job.call.id).await.ok().flatten();
    telemetry::lost_attempt(&job, found.as_ref().map(|(standing, _)| standing));
}

/// A slot of the process, counted as used until this is dropped.
struct UsedSlot;

impl UsedSlot {
    fn take() -> Self {
        note(&Event::SlotsUsed(1.0));
        Self
    }
}

impl Drop for UsedSlot {
    fn drop(&mut self) {
        note(&Event::SlotsUsed(-1.0));
    }
}

/// What came of the start of a leased job.
enum Start<'a> {
    Started(Started<'a>),
    /// The worker stops, or the job was paused, before the body could be started.
    NotNow,
    LeaseLost,
}

impl<'a> Leased<'a> {
    /// Runs the job as far as its end is to be settled. A job whose task is unknown, or that the worker cannot start any more,
    /// is given back.
    async fn attempt(self, suspect_permit: Option<&mut SuspectPermit>) -> Result<Flushed<'a>, LeaseLost> {
        let Some(task) = self.shared.app.registry.get(&self.job.call.task) else {
            return Ok(self.unstarted(Verdict::GivenBack, Retry::DEFAULT));
        };
        if let Some(reason) = self.expired().await {
            return Ok(self.unstarted(Verdict::Cancelled(reason), task.schema().retry));
        }
        match self.start(task).await {
            Start::Started(started) => started.run(suspect_permit).await,
            Start::NotNow => Ok(self.unstarted(Verdict::GivenBack, task.schema().retry)),
            Start::LeaseLost => Err(LeaseLost),
        }
    }

    /// Makes the journal and the context of the attempt, and waits until the lease holds for sure.
    async fn start(self, task: &'static Registration) -> Start<'a> {
        let Self { shared, job, lease, .. } = self;
        let journal = self.journal(task.schema());
        let memos = memos(shared, job, task.schema(), &journal);
        let (stop, app) = (self.stop.clone(), shared.app.clone());
        let context = TaskContext::new(job.call.id, job.standing.attempt, task.schema(), Some(memos), stop, app);
        if !shared.leases.start(lease, journal.clone(), Some(context.clone())) {
            return Start::LeaseLost;
        }
        // A body that does not yield never asks whether the lease holds: so here, or it could run beside one that another
        // worker has started.
        // Both at one moment: while the worker waits to read what is paused, the lease may be lost.
        let may_start = async {
            let mut pauses = shared.pauses.changes();
            loop {
                if journal.held().await.is_err() {
                    return Err(LeaseLost);
                }
                pauses.mark_unchanged();
                if let Some(allowed) = shared.pauses.allows(&job.call, &shared.app) {
                    return Ok(allowed);
                }
                if pauses.changed().await.is_err() {
                    return Ok(false);
                }
            }
        };
        let may_start = tokio::select! {
            biased;
            may_start = may_start => may_start,
            () = shared.grace_is_over() => Ok(false),
        };
        if matches!(may_start, Ok(false)) {
            return Start::NotNow;
        }
        if may_start.is_ok() {
            Start::Started(Started { leased: self, error_type: OnceLock::new(), task, journal, context })
        } else {
            Start::LeaseLost
        }
    }

    fn journal(&self, schema: &TaskExecSchema) -> Arc<Journal> {
        let wait = match schema.generating.map(|generating| generating.checkpoint) {
            Some(Checkpoint::Within(wait)) => wait,
            Some(Checkpoint::Each) | None => Duration::ZERO,
        };
        let shared = self.shared.clone();
        let holds = Arc::new(move || shared.leases.holds(shared.app.clock.soon()));
        let next = EntryCount { steps: self.job.counts.steps, memos: self.job.counts.memos };
        Journal::new(self.lease, holds, next, wait, self.shared.flush_requests.clone())
    }
}

/// An attempt whose lease holds, so that its body may start.
struct Started<'a> {
    leased: Leased<'a>,
    /// How the attempt has failed, if it has.
    error_type: OnceLock<&'static str>,
    task: &'static Registration,
    journal: Arc<Journal>,
    context: TaskContext,
}

impl<'a> Started<'a> {
    /// Runs the body, makes durable what it handled, and meanwhile passes the turn of a suspect.
    async fn run(self, suspect_permit: Option<&mut SuspectPermit>) -> Result<Flushed<'a>, LeaseLost> {
        let running_suspect = suspect_permit.as_ref().map(|permit| permit.for_body());
        let max_time = self.leased.job.call.max_time.or(self.task.schema().max_time);
        let (begun, time_up) = time_limit(max_time);
        let app = &self.leased.shared.app;
        let run = pin!(async {
            if app.around.is_empty() {
                self.run_alone(self.body(app.states.clone()), begun, running_suspect, time_up).await
            } else {
                Box::pin(self.run_within_around(begun, running_suspect, time_up)).await
            }
        });
        let flushed = match (suspect_permit, self.leased.job.standing.suspect) {
            (Some(permit), Some(suspect)) => beside(run, Box::pin(self.pass_turn(permit, suspect))).await,
            _ => run.await,
        };
        self.journal.fence();
        flushed
    }

    fn verdict_of(&self, stopped: Stopped) -> Result<Verdict, LeaseLost> {
        // The first failure is the one that counts, and the word is used only if it does.
        _ = self.error_type.set(stopped.how());
        stopped.verdict().ok_or(LeaseLost)
    }

    async fn run_alone(
        &self,
        body: Result<Running, Stopped>,
        begun: Begun,
        running_suspect: Option<RunningSuspect>,
        time_up: impl Future<Output = Duration>,
    ) -> Result<Flushed<'a>, LeaseLost> {
        let mut time_up = pin!(time_up.fuse());
        let ran = self.run_body(body, begun, running_suspect, time_up.as_mut()).await;
        ran.flush(time_up).await
    }

    /// Runs the body, and makes durable what it handled, within what stands around all attempts.
    async fn run_within_around(
        &self,
        begun: Begun,
        running_suspect: Option<RunningSuspect>,
        time_up: impl Future<Output = Duration> + Send,
    ) -> Result<Flushed<'a>, LeaseLost> {
        let Leased { shared, job, .. } = self.leased;
        let attempt = |states: States| {
            let missing = shared.app.not_provided(&job.call.task, &states);
            let body = missing.map_or_else(|| self.body(states), Err);
            self.run_alone(body, begun, running_suspect, time_up)
        };
        let end = |came: &Result<Flushed<'a>, LeaseLost>| match came {
            Ok(flushed) => SeenEnd::of(&flushed.verdict),
            Err(LeaseLost) => SeenEnd::lost(),
        };
        match around::within(&self.leased, self.journal.lost(), attempt, end).await {
            // A stop costs no failure, whatever stands around makes of it.
            Came::Ran(Ok(flushed), Some(verdict)) if flushed.verdict != Verdict::Released => {
                Ok(Flushed { verdict, ..flushed })
            }
            Came::Ran(flushed, _) => flushed,
            Came::Instead(verdict) => self.stop_short(verdict).await,
            Came::CutShort => self.stop_short(Verdict::Released).await,
        }
    }

    /// Ends an attempt that did not run to its end: makes durable what it handled so far.
    async fn stop_short(&self, verdict: Verdict) -> Result<Flushed<'a>, LeaseLost> {
        self.context.end_attempt();
        self.journal.halt(Stopped::Said { text: String::new(), verdict: verdict.clone() });
        Ran { started: self, verdict: Ok(verdict) }.flush(std::future::pending()).await
    }

    /// The body with its arguments. Reading those is code of the task's own too, and may panic.
    fn body(&self, states: States) -> Result<Running, Stopped> {
        let Leased { shared, job, .. } = self.leased;
        let schema = self.task.schema();
        let attempt = Attempt::stored(
            self.context.clone(),
            shared.app.settings(states),
            self.journal.clone(),
            if schema.generating.is_some() { job.counts.steps } else { 0 },
            steps(shared, job, schema),
        );
        catch_unwind(AssertUnwindSafe(|| self.task.start(&job.call.args, attempt)))
            .unwrap_or_else(|payload| Err(Stopped::panic(payload)))
    }

    async fn run_body(
        &self,
        body: Result<Running, Stopped>,
        begun: Begun,
        running_suspect: Option<RunningSuspect>,
        time_up: impl Future<Output = Duration>,
    ) -> Ran<'_, 'a> {
        let verdict = match body {
            Ok(body) => {
                let hold = self.leased.shared.app.clock.hold();
                let body = Body::start(body.guarded(self.context.clone()), begun, running_suspect, hold);
                self.watch_over(body, time_up).await
            }
            Err(stopped) => self.verdict_of(stopped),
        };
        // Also where the body could not be stopped, and goes on.
        self.context.end_attempt();
        Ran { started: self, verdict }
    }

    /// Waits for the end of the body. Stops it when its time is up, the worker stops, the lease is lost, or the handler of a
    /// value that it yielded has failed behind it.
    async fn watch_over(&self, mut body: Body, time_up: impl Future<Output = Duration>) -> Result<Verdict, LeaseLost> {
        let (journal, is_on_runtime) = (&self.journal, matches!(body, Body::OnRuntime(_)));
        let stop = tokio::select! {
            biased;
            outcome = body.outcome() => return match outcome {
                Ok(Ended(output)) => Ok(Verdict::Done(output)),
                Err(stopped) => self.verdict_of(stopped),
            },
            () = journal.lost() => Stop::LeaseLost,
            // A body on a thread cannot be stopped, and learns of it at its next yield.
            () = journal.handler_failed(), if is_on_runtime => Stop::HandlerFailed,
            limit = time_up => Stop::TimeUp(limit),
            () = self.leased.shared.grace_is_over_since(self.leased.stop) => Stop::WorkerStops,
        };
        match stop {
            Stop::TimeUp(limit) => journal.halt(Stopped::TimeUp(limit)),
            Stop::WorkerStops => journal.halt(Stopped::Released),
            Stop::LeaseLost | Stop::HandlerFailed => {}
        }
        if !body.stop().await {
            let job = self.leased.job;
            tracing::warn!(
                job = %job.call.id, task = job.call.task, attempt = job.standing.attempt,
                "the body cannot be stopped and is left to end by itself; what it still writes is fenced off"
            );
        }
        match stop {
            Stop::LeaseLost => Err(LeaseLost),
            Stop::WorkerStops | Stop::HandlerFailed => Ok(Verdict::Released),
            Stop::TimeUp(limit) => self.verdict_of(Stopped::TimeUp(limit)),
        }
    }

    /// Passes the turn of a suspect on when it has made a step, or lived so long that the next may start beside it. The store
    /// records that first: from then on the job is not to blame when the process is killed.
    async fn pass_turn(&self, permit: &mut SuspectPermit, suspect: Suspect) {
        let Leased { shared, job, lease, .. } = self.leased;
        tokio::select! {
            biased;
            // The store has recorded that together with the step.
            () = self.journal.has_more_than(job.counts.steps) => {}
            () = sleep(suspect.turn()) => {
                let record = Arc::new([Record {
                    lease,
                    steps: Vec::new(),
                    memos: Vec::new(),
                    jobs: Vec::new(),
                    progress: None,
                    passed: true,
                }]);
                let written = shared.store.persist("record that a suspect has had its turn", || {
                    shared.app.store.record(record.clone())
                });
                if !matches!(written.await.as_deref(), Ok([Written::Yes])) {
                    return;
                }
            }
        }
        permit.pass();
    }
}

/// Why a body is stopped.
enum Stop {
    LeaseLost,
    /// The journal has the reason.
    HandlerFailed,
    WorkerStops,
    TimeUp(Duration),
}

/// Does `work`, and meanwhile the `other`, which is dropped where it takes longer.
async fn beside<T>(work: impl Future<Output = T> + Unpin, other: impl Future<Output = ()> + Unpin) -> T {
    match select(work, other).await {
        Either::Left((done, _)) => done,
        Either::Right(((), work)) => work.await,
    }
}

/// An attempt whose body has ended, or was left to end by itself. Its last steps may not be durable yet.
struct Ran<'s, 'a> {
    started: &'s Started<'a>,
    verdict: Result<Verdict, LeaseLost>,
}

impl<'a> Ran<'_, 'a> {
    /// Waits until all is durable that the attempt handled, also where the body ended in an error. The handler of a value may
    /// fail only here, in its transaction: that counts, for it came before the end of the body, which ran ahead of it.
    async fn flush(self, time_up: impl Future<Output = Duration>) -> Result<Flushed<'a>, LeaseLost> {
        let Started { leased, task, journal, .. } = self.started;
        let verdict = match finish(leased, journal, time_up).await {
            Ok(()) => self.verdict?,
            Err(stopped) => self.started.verdict_of(stopped)?,
        };
        let (steps, skipped) = (journal.steps() - leased.job.counts.steps, journal.skips().count());
        let error_type = self.started.error_type.get().copied();
        let end = AttemptEnd { leased: *leased, steps, skipped, error_type, retry: task.schema().retry, counts: true };
        Ok(Flushed { end, verdict })
    }
}

/// Waits until the journal is written. Handlers in transactions may not go on for longer than a body.
async fn finish(
    Leased { shared, stop, .. }: &Leased<'_>,
    journal: &Journal,
    time_up: impl Future<Output = Duration>,
) -> Result<(), Stopped> {
    let reason = tokio::select! {
        biased;
        finished = journal.finish() => return finished,
        limit = time_up => Stopped::TimeUp(limit),
        () = shared.grace_is_over_since(stop) => Stopped::Released,
    };
    journal.halt(reason);
    tokio::select! {
        biased;
        finished = journal.finish() => finished,
        // The recorder writes nothing more.
        () = shared.given_up.cancelled() => Err(Stopped::Fenced),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_future<A, B, C, D, E, F: Future>(_: impl Fn(A, B, C, D, E) -> F) -> usize {
        size_of::<F>()
    }

    /// Each attempt allocates that much, and moves much of it.
    #[test]
    fn what_is_seldom_needed_makes_no_attempt_larger() {
        let size = size_of_future(run);
        assert!(size <= 3_100, "an attempt takes {size} bytes");
    }
}
