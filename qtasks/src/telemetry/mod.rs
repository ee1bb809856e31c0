//! What is logged of jobs through `tracing`, with its spans, and what is counted. All names are in this folder.
//!
//! No argument, value or reply is logged; of an error, the text that its author wrote.

#[allow(dead_code, reason = "without its features nothing reads what is noted")]
pub(crate) mod numbers;
#[cfg(feature = "opentelemetry")]
pub(crate) mod opentelemetry;
#[cfg(not(feature = "opentelemetry"))]
#[path = "no_opentelemetry.rs"]
pub(crate) mod opentelemetry;
pub(crate) mod spans;
pub(crate) mod trace;
pub(crate) mod values;

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use tracing::{Level, Span, debug, error, event_enabled, info, warn};

use self::{
    numbers::{Called, EndOfAttempt, Event, Lane, OTHER, Operation, Timer, note},
    spans::failed,
};
use crate::{
    error::{Error, chain},
    model::{
        job::{Ending, Job, JobCall, JobId, NextState, Standing, State, StateKind, WorkerId},
        lifecycle::Outcome,
        schedule::ScheduleError,
    },
};

/// The lane of a job of a task that the program knows.
fn lane(job: &Job) -> Lane<'_> {
    Lane { queue: &job.call.queue, task: &job.call.task }
}

/// Says in its span and in numbers what came of a lease: so many jobs, or an error.
pub(crate) fn leased(span: &Span, timer: Timer, jobs: Result<usize, &Error>) {
    let (jobs, error_type) = match jobs {
        Ok(jobs) => (jobs, None),
        Err(error) => (0, Some(spans::call_failed(span, error))),
    };
    spans::received(span, jobs);
    note(&Event::Called(Operation::Receive, Called { took: timer.elapsed(), jobs, queue: None, error_type }));
}

/// Says that the attempt at a job starts.
pub(crate) fn starts(job: &Job, now: Timestamp) {
    let waited = match job.standing.state {
        State::Running { due, .. } => Duration::try_from(now.duration_since(due)).unwrap_or_default(),
        _ => Duration::ZERO,
    };
    note(&Event::Started(lane(job), waited));
    debug!(
        target: "qtasks", job = %job.call.id, task = job.call.task, queue = job.call.queue, attempt = job.standing.attempt,
        "the attempt starts"
    );
}

/// Says how far the clock of this machine is ahead of that of the store's server, and whether that is far. It is logged when it
/// has become so.
pub(crate) fn clock_is(ahead: SignedDuration, was_far: bool) -> bool {
    const FAR: SignedDuration = SignedDuration::from_millis(250);
    note(&Event::ClockAhead(ahead.as_secs_f64()));
    let is_far = ahead.abs() > FAR;
    if is_far && !was_far {
        let (far, side) = (format!("{:#}", ahead.abs()), if ahead.is_positive() { "ahead of" } else { "behind" });
        warn!(
            target: "qtasks",
            "the clock of this machine is {far} {side} that of the store's server, whose time is used for due times and schedules; \
             the times of log lines are not"
        );
    }
    is_far
}

/// Times the handler of a value, where the value is one that is timed.
#[inline]
pub(crate) fn handled(task: &str, timer: Option<Timer>) {
    if let Some(timer) = timer {
        note(&Event::Handled { task, took: timer.elapsed() });
    }
}

/// Counts a job that a schedule has enqueued.
pub(crate) fn enqueued(queue: &str, task: &str) {
    note(&Event::Enqueued(Lane { queue, task }));
}

pub(crate) fn schedule_fired(schedule: &str, tick: Timestamp, now: Timestamp) {
    note(&Event::Fired { schedule, lag: now.duration_since(tick).as_secs_f64() });
    debug!(target: "qtasks", schedule, %tick, late = %now.duration_since(tick), "the schedule fires");
}

pub(crate) fn schedule_missed(schedule: &str, missed: u64, last: Option<Timestamp>) {
    let last = last.map(tracing::field::display);
    warn!(target: "qtasks", schedule, missed, last, "no worker fired the schedule in time, and ticks of it are passed over");
}

/// A tick at which a job was to be enqueued that something stands before.
pub(crate) fn tick_refused(schedule: &str, tick: Timestamp, error: &Error) {
    warn!(target: "qtasks", schedule, %tick, error = chain(error), "the tick enqueues no job");
}

pub(crate) fn schedule_unreadable(schedule: &str, error: &ScheduleError) {
    warn!(target: "qtasks", schedule, %error, "this worker does not fire a schedule that it cannot read");
}

/// A job was not started in time, and has ended without an attempt.
pub(crate) fn expired(job: &Job) {
    let JobCall { id, task, queue, .. } = &job.call;
    info!(target: "qtasks", job = %id, task, queue, "the job has expired: it was not started in time");
}

pub(crate) fn schedule_left(schedule: &str) {
    info!(target: "qtasks", schedule, "no running worker has the schedule in its code any more; it does not fire");
}

/// How an attempt ended, to be logged when that is settled.
pub(crate) struct End<'j> {
    job: &'j Job,
    /// How many steps the attempt has added.
    steps: u64,
    /// How many values the attempt has skipped.
    skipped: u64,
    ending: Ending,
    failures: u32,
    next: StateKind,
    due: Option<Timestamp>,
    began: Timer,
    /// How the attempt failed, if it did.
    error_type: Option<&'static str>,
}

impl<'j> End<'j> {
    pub(crate) fn new(
        job: &'j Job,
        (steps, skipped): (u64, u64),
        outcome: &Outcome,
        ending: Ending,
        began: Timer,
        error_type: Option<&'static str>,
    ) -> Self {
        let has_failed = matches!(ending, Ending::Failed { .. } | Ending::Discarded { .. });
        let error_type = has_failed.then(|| error_type.unwrap_or("failed"));
        let due = match outcome.next {
            NextState::Waiting { due } => Some(due),
            _ => None,
        };
        let Outcome { failures, next, .. } = outcome;
        Self { job, steps, skipped, ending, failures: *failures, next: next.kind(), due, began, error_type }
    }

    /// Logs the end of the attempt, which is written by now.
    pub(crate) fn log(self) {
        let Self { job, steps, skipped, ending, failures, next, due, began, error_type } = self;
        note(&Event::Ended(lane(job), EndOfAttempt { took: began.elapsed(), steps, skipped, error_type, next }));
        let (id, task, attempt) = (job.call.id, &job.call.task, job.standing.attempt);
        let span = Span::current();
        span.record("qtasks.steps", steps);
        span.record("qtasks.outcome", next.as_str());
        if skipped > SHOWN {
            warn!(target: "qtasks", job = %id, task, attempt, skipped, "values were skipped");
        }
        match (ending, due) {
            (Ending::Failed { error }, Some(next_try)) => warn!(
                target: "qtasks", job = %id, task, attempt, failures, %next_try, error,
                "the attempt failed, and the job is tried again"
            ),
            (Ending::Failed { error } | Ending::Discarded { reason: error }, _) => dead(job, failures, &error),
            (Ending::Snoozed, Some(next_try)) => {
                debug!(target: "qtasks", job = %id, task, attempt, %next_try, "the task goes on later")
            }
            (Ending::Cancelled { reason }, _) => {
                debug!(target: "qtasks", job = %id, task, attempt, reason, "the job was cancelled by its task")
            }
            (Ending::Released, _) => {
                debug!(target: "qtasks", job = %id, task, attempt, "the job is given back, and goes on without a failure")
            }
            _ => debug!(target: "qtasks", job = %id, task, attempt, steps, "the attempt ends well"),
        }
    }
}

fn dead(job: &Job, failures: u32, error: &str) {
    error!(
        target: "qtasks", job = %job.call.id, task = job.call.task, attempt = job.standing.attempt, failures, error,
        "the job is dead: no further try is made by itself"
    );
}

/// Whether a subscriber listens to what is logged of lost attempts.
pub(crate) fn lost_is_logged() -> bool {
    event_enabled!(target: "qtasks", Level::INFO)
}

/// Logs why an attempt may not go on, by what the store has of the job now.
pub(crate) fn lost_attempt(job: &Job, found: Option<&Standing>) {
    let now = found.map(|found| &found.state);
    let (id, task, attempt) = (job.call.id, &job.call.task, job.standing.attempt);
    match now {
        Some(State::Cancelled { reason }) => {
            debug!(target: "qtasks", job = %id, task, attempt, reason, "the job was cancelled while it ran")
        }
        Some(running @ State::Running { worker, .. }) if *running != job.standing.state => info!(
            target: "qtasks", job = %id, task, attempt, %worker,
            "the attempt has lost its lease, and the job runs elsewhere; what it still does is not written"
        ),
        state => info!(
            target: "qtasks", job = %id, task, attempt, state = state.map_or("unknown", State::name),
            "the attempt has lost its lease; what it still does is not written"
        ),
    }
    failed("lost");
}

/// Logs that a job is taken over from a worker that is gone: one that has ended, or was silent for so long.
pub(crate) fn taken_over(job: &Job, is_known: bool, from: WorkerId, silent: Option<Duration>, outcome: &Outcome) {
    let Outcome { failures, next, .. } = outcome;
    let task = if is_known { &*job.call.task } else { OTHER };
    note(&Event::Lost(Lane { queue: &job.call.queue, task }, next.kind(), silent));
    let (id, task, attempt) = (job.call.id, &job.call.task, job.standing.attempt);
    match silent {
        None => info!(
            target: "qtasks", job = %id, task, attempt, worker = %from, failures,
            "a job is taken over: the process that ran it has ended"
        ),
        Some(silent) => info!(
            target: "qtasks", job = %id, task, attempt, worker = %from, failures, silent = ?silent,
            "a job is taken over: the worker that ran it is silent"
        ),
    }
    if let NextState::Dead { error } = next {
        dead(job, *failures, error);
    }
}

/// Logs that what stands around attempts has panicked when it was told of the end of a lost job.
pub(crate) fn around_panicked(job: &Job, error: &str) {
    warn!(
        target: "qtasks", job = %job.call.id, task = job.call.task, error,
        "what stands around attempts panicked when it was told that this job has ended"
    );
}

/// How many skipped values of an attempt are logged; the others are counted.
const SHOWN: u64 = 3;

/// How many values of an attempt were skipped.
#[derive(Debug, Default)]
pub(crate) struct Skips(AtomicU64);

impl Skips {
    pub(crate) fn count(&self) -> u64 {
        self.0.load(Relaxed)
    }

    /// Counts another skipped value, and logs the first ones.
    pub(crate) fn add(&self, job: JobId, task: &str, attempt: u32, seq: u64, error: &str) {
        if self.0.fetch_add(1, Relaxed) < SHOWN {
            warn!(target: "qtasks", %job, task, attempt, seq, error, "a value is skipped: its handler failed");
        }
    }
}

/// Logs that an outage of the store begins.
pub(crate) fn store_fails(doing: &str, error: &Error) {
    let error = crate::error::chain(error);
    warn!(
        target: "qtasks", doing, error,
        "the store does not do what it is asked to; it is asked until it does, and nothing is lost"
    );
}

/// Logs that the store still fails, after so long.
pub(crate) fn store_fails_still(away: Duration, doing: &str, error: &Error) {
    let (away, error) = (away.as_secs(), crate::error::chain(error));
    warn!(target: "qtasks", away, doing, error, "the store is still away");
}

/// Logs that one try failed.
pub(crate) fn try_fails(doing: &str, error: &Error) {
    debug!(target: "qtasks", doing, error = crate::error::chain(error), "the store did not do this; trying again");
}

/// Logs that an outage of the store is over, after so long.
pub(crate) fn store_is_back(away: Duration) {
    warn!(target: "qtasks", away = away.as_secs(), "the store does again what it is asked to");
}

/// Warns of a lane with due jobs whose task no worker has been seen to know.
pub(crate) fn task_unserved(queue: &str, task: &str) {
    warn!(
        target: "qtasks", task, queue,
        "jobs are due of a task that no running worker is seen to know; is its crate mentioned (`use emails as _;`) in the \
         binary of a worker?"
    );
}

/// Warns of a lane with due jobs in a queue to which no worker has been seen to listen.
pub(crate) fn queue_unserved(queue: &str, task: &str) {
    warn!(
        target: "qtasks", queue, task,
        "jobs are due in a queue that no running worker is seen to listen to; start one with `.queues([..])`"
    );
}

/// Warns of a caller that waits although no worker runs.
pub(crate) fn no_worker(call: &JobCall) {
    warn!(
        target: "qtasks", job = %call.id, queue = call.queue, task = call.task,
        "a caller waits for a job that is due, and no worker runs; start one with `app.worker().start()`, and keep it"
    );
}
