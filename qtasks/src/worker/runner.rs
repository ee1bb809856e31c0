//! Takes one leased job through its attempt: start the body, watch over it, make durable what it handled, settle.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use futures::{
    FutureExt as _,
    future::{Either, select},
};
use jiff::Timestamp;
use tokio::time::sleep;
use tracing::Instrument as _;

use super::{
    body::{Body, time_limit},
    replay::{memos, steps},
    shared::{JobPermit, WorkerShared},
};
use crate::{
    environment::suspects::SuspectPermit,
    error::{Error, Result, chain},
    execution::{
        attempt::Attempt,
        body::{Ended, Outcome},
        context::TaskContext,
        journal::{Count, Journal},
        stopped::Stopped,
    },
    model::{
        job::{self, Job, Lease},
        lifecycle::{self, Verdict},
        retry::Retry,
    },
    schema::Checkpoint,
    store::{Hold, Record, Settlement, Written},
    task::registry::Registration,
    telemetry::{self, End},
};

/// Runs one attempt of `job`, which is leased, and settles it. The slot is free again when the body has ended, the turn
/// of a suspect when that is durable, or before, when it has [passed](pass_turn).
pub(crate) async fn run(
    shared: Arc<WorkerShared>,
    job: Job,
    lease: Lease,
    permit: JobPermit,
    mut turn: Option<SuspectPermit>,
) {
    telemetry::starts(&job);
    let started = shared.app.now();
    let task = shared.app.registry.get(&job.call.task);
    let verdict = match task {
        Some(task) => attempt(&shared, &job, lease, task, turn.as_mut()).await,
        None => Some(Progressed::RELEASED),
    };
    drop(permit);
    let is_settled = match verdict {
        Some(Progressed { verdict, steps, skipped }) => {
            let retry = task.map_or(Retry::DEFAULT, |task| task.schema().retry);
            settle(&shared, &Over { job: &job, lease, started, steps, skipped, retry }, verdict).await
        }
        None => false,
    };
    shared.leases.remove(lease);
    drop(turn);
    if !is_settled && telemetry::lost_is_heard() {
        // Not here: the worker would wait for it when it stops.
        tokio::spawn(say_why_lost(shared, job).in_current_span());
    }
}

/// Says of a lost lease where it went, as far as the store can tell.
async fn say_why_lost(shared: Arc<WorkerShared>, job: Job) {
    let found = shared.app.store.standing(job.call.id).await.ok().flatten();
    telemetry::lost_attempt(&job, found.as_ref().map(|(standing, _)| standing));
}

struct Progressed {
    verdict: Verdict,
    steps: u64,
    skipped: u64,
}

impl Progressed {
    /// The attempt has done nothing, and gives the job back.
    const RELEASED: Self = Self { verdict: Verdict::Released, steps: 0, skipped: 0 };
}

/// What the attempt came to; nothing when its lease is lost, for then it is no longer ours to say.
async fn attempt(
    shared: &Arc<WorkerShared>,
    job: &Job,
    lease: Lease,
    task: &'static Registration,
    turn: Option<&mut SuspectPermit>,
) -> Option<Progressed> {
    let schema = task.schema();
    let (wait, recorded) = match schema.generating.map(|generating| generating.checkpoint) {
        Some(Checkpoint::Within(wait)) => (wait, job.counts.steps),
        Some(Checkpoint::Each) => (Duration::ZERO, job.counts.steps),
        None => (Duration::ZERO, 0),
    };
    let holder = shared.clone();
    let holds = Arc::new(move || holder.leases.holds(holder.app.clock.soon()));
    let next = Count { steps: job.counts.steps, memos: job.counts.memos };
    let journal = Journal::new(lease, holds, next, wait, shared.flush_requests.clone());
    let memos = memos(shared, job, schema, &journal);
    let (stopping, app) = (shared.stopping.clone(), shared.app.clone());
    let context = TaskContext::new(job.call.id, job.standing.attempt, schema, Some(memos), stopping, app);
    if !shared.leases.start(lease, journal.clone(), Some(context.clone())) {
        return None;
    }
    // Where a body does not yield, nothing else keeps it from running beside one that somebody else has begun.
    tokio::select! {
        biased;
        held = journal.held() => held.ok()?,
        () = shared.grace_is_over() => return Some(Progressed::RELEASED),
    }
    let attempt = Attempt::stored(
        context.clone(),
        shared.app.states.clone(),
        shared.app.limits,
        journal.clone(),
        recorded,
        steps(shared, job, schema),
    );
    let suspect = turn.as_ref().map(|turn| turn.for_body());
    let (begun, time_up) = time_limit(job.call.max_time.or(schema.max_time));
    let mut time_up = pin!(time_up.fuse());
    // Reading the arguments is the task's own code too.
    let start = catch_unwind(AssertUnwindSafe(|| task.start(&job.call.args, attempt)));
    let run = async {
        let verdict = match start.unwrap_or_else(|payload| Err(Stopped::panic(payload))) {
            Ok(body) => {
                let body = Body::start(body.guarded(context.clone()), begun, suspect, shared.app.clock.hold());
                watch_over(shared, job, &journal, body, time_up.as_mut()).await
            }
            Err(stopped) => stopped.verdict(),
        };
        // Also where the body goes on, which could not be stopped.
        context.end_attempt();
        // An attempt that ends in an error first makes durable what it handled. A handler in a transaction may fail only
        // then: that came first, whatever the body came to by running ahead of it.
        match finish(shared, &journal, time_up).await {
            Ok(()) => verdict,
            Err(stopped) => stopped.verdict(),
        }
    };
    let verdict = beside(run, pass_turn(shared, job, &journal, turn)).await;
    journal.fence();
    Some(Progressed { verdict: verdict?, steps: journal.steps() - job.counts.steps, skipped: journal.skips().count() })
}

/// Waits for the end of the body, and stops it when its time is up, its worker stops, its lease is lost, or what it yielded
/// failed behind it.
async fn watch_over(
    shared: &Arc<WorkerShared>,
    job: &Job,
    journal: &Journal,
    mut body: Body,
    time_up: impl Future<Output = Duration>,
) -> Option<Verdict> {
    let polled = matches!(body, Body::OnRuntime(_));
    let stop = tokio::select! {
        biased;
        outcome = body.outcome() => return of(outcome),
        () = journal.lost() => Stop::Lost,
        // One that is called, and cannot be stopped, learns of it at its next yield.
        () = journal.handler_failed(), if polled => Stop::Handler,
        limit = time_up => Stop::TimeUp(limit),
        () = shared.grace_is_over() => Stop::Worker,
    };
    match stop {
        Stop::TimeUp(limit) => journal.halt(Stopped::TimeUp(limit)),
        Stop::Worker => journal.halt(Stopped::Released),
        Stop::Lost | Stop::Handler => {}
    }
    let stopped = body.stop().await;
    if !stopped {
        tracing::warn!(
            job = %job.call.id, task = job.call.task, attempt = job.standing.attempt,
            "the body cannot be stopped and is left to end by itself; what it still writes is fenced off"
        );
    }
    match stop {
        Stop::Lost => None,
        Stop::Worker | Stop::Handler => Some(Verdict::Released),
        Stop::TimeUp(limit) => Stopped::TimeUp(limit).verdict(),
    }
}

/// Does `work`, and meanwhile the `other`, which is dropped where it takes longer.
async fn beside<T>(work: impl Future<Output = T>, other: impl Future<Output = ()>) -> T {
    match select(pin!(work), pin!(other)).await {
        Either::Left((done, _)) => done,
        Either::Right(((), work)) => work.await,
    }
}

/// Passes the turn of a suspect on when it has made a step, or lived so long that the next may start beside it. The store
/// knows of that first: from then on the job is not to blame when the process is killed.
async fn pass_turn(shared: &WorkerShared, job: &Job, journal: &Journal, turn: Option<&mut SuspectPermit>) {
    let (Some(turn), Some(suspect)) = (turn, job.standing.suspect) else { return };
    tokio::select! {
        biased;
        // The store has taken note of that with the step.
        () = journal.has_more_than(job.counts.steps) => {}
        () = sleep(suspect.turn()) => {
            let record = Arc::new([Record {
                lease: journal.lease(),
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
    turn.pass();
}

/// Waits until all is durable that was handled. Handlers in transactions may not go on for longer than a body.
async fn finish(
    shared: &WorkerShared,
    journal: &Journal,
    time_up: impl Future<Output = Duration>,
) -> Result<(), Stopped> {
    let reason = tokio::select! {
        biased;
        finished = journal.finish() => return finished,
        limit = time_up => Stopped::TimeUp(limit),
        () = shared.grace_is_over() => Stopped::Released,
    };
    journal.halt(reason);
    tokio::select! {
        biased;
        finished = journal.finish() => finished,
        // Nothing is written any more.
        () = shared.given_up.cancelled() => Err(Stopped::Fenced),
    }
}

enum Stop {
    Lost,
    /// The journal knows why.
    Handler,
    Worker,
    TimeUp(Duration),
}

fn of(outcome: Outcome) -> Option<Verdict> {
    match outcome {
        Ok(Ended(output)) => Some(Verdict::Done(output)),
        Err(stopped) => stopped.verdict(),
    }
}

/// An attempt that is over.
struct Over<'a> {
    job: &'a Job,
    lease: Lease,
    started: Timestamp,
    /// How many it has added,
    steps: u64,
    /// and how many values were skipped.
    skipped: u64,
    retry: Retry,
}

impl<'a> Over<'a> {
    /// How it is settled, and what is said of it when that is written.
    fn settlement(&self, verdict: Verdict, now: Timestamp) -> (Settlement, End<'a>) {
        let Self { job, lease, started, steps, skipped, retry } = self;
        // Only a result is made of all steps. Of none, a server can have lost none.
        let needed = matches!(verdict, Verdict::Done(_)).then_some(job.counts.steps + steps).filter(|steps| *steps > 0);
        let (outcome, ending) = lifecycle::settle(&job.standing, verdict, *steps > 0, retry, fastrand::f64(), now);
        let end = End::new(job, *steps, *skipped, &outcome, ending.clone());
        let (number, worker, started) = (lease.attempt, lease.worker, Some(*started));
        let attempt = job::Attempt { number, worker, started, ended: now, ending };
        let hold = Hold::Lease(*lease);
        let settlement = Settlement { hold, outcome, steps: needed, attempt: Some(attempt), now };
        (settlement, end)
    }
}

/// What is said of an attempt of which the store does not keep its own words either.
const REFUSED: &str = "the store refuses what the attempt came to, and the text that says why";

/// Settles an attempt. One that came to something which the store refuses has failed, in the store's own words, which are
/// short. Gives whether the lease was not lost before.
async fn settle(shared: &WorkerShared, over: &Over<'_>, verdict: Verdict) -> bool {
    let job = over.job;
    let (settlement, mut end) = over.settlement(verdict, shared.app.now());
    let mut came = shared.settle(settlement).await;
    if let Some(error) = refusal(&came) {
        let error = chain(error);
        tracing::warn!(error, job = %job.call.id, attempt = job.standing.attempt, "what the attempt came to is refused; it has failed");
        (came, end) = settle_refused(shared, over, error).await;
    }
    match came {
        Some(Ok(Written::Yes)) => end.say(),
        Some(Ok(Written::Fenced)) => return false,
        Some(Err(error)) => {
            let error = chain(&error);
            tracing::error!(error, job = %job.call.id, attempt = job.standing.attempt, "the attempt cannot be settled; its lease will run out");
        }
        None => {}
    }
    true
}

/// Settles an attempt as one that has failed, with ever less that the store could refuse, rather than again and again.
async fn settle_refused<'a>(
    shared: &WorkerShared,
    over: &Over<'a>,
    error: String,
) -> (Option<Result<Written>>, End<'a>) {
    let failed = |error: &str| {
        over.settlement(Verdict::Failed { error: error.to_owned(), wait: None, again: true }, shared.app.now())
    };
    let (last, last_end) = failed(REFUSED);
    let without_trace = Settlement { attempt: None, ..last };
    for (settlement, end) in [failed(&error), failed(REFUSED)] {
        let came = shared.settle(settlement).await;
        if refusal(&came).is_none() {
            return (came, end);
        }
    }
    (shared.settle(without_trace).await, last_end)
}

fn refusal(came: &Option<Result<Written>>) -> Option<&Error> {
    came.as_ref()?.as_ref().err().filter(|error| error.is_refusal())
}
