//! The spans of what is done with jobs. All their names and fields are here.
//!
//! Names with a dot are those of OpenTelemetry's
//! [conventions for messaging](https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/), as of August 2026, or
//! our own beside them. `tracing` wants the names of spans to be known at compile time, so `otel.name` has the whole one.

use tracing::{Level, Span, debug_span, field::Empty, info_span, span_enabled, trace_span};

use crate::{
    error::Error,
    model::job::{Job, JobId, WorkerId},
};

/// The span of an attempt, from its start to its settlement: what its body and its handler log is within it.
///
/// A subscriber that prints the user's lines puts the fields of this span before each. So those come first that a reader looks
/// for.
pub(crate) fn process(job: &Job, schedule: Option<String>) -> Span {
    info_span!(
        target: "qtasks",
        parent: None,
        "process",
        qtasks.task = job.call.task,
        messaging.message.id = %job.call.id,
        qtasks.attempt = job.standing.attempt,
        messaging.destination.name = job.call.queue,
        qtasks.failures = job.standing.failures,
        qtasks.first_step = job.counts.steps,
        qtasks.schedule = schedule,
        messaging.client.id = job.lease().map(|lease| tracing::field::display(lease.worker)),
        messaging.system = "qtasks",
        messaging.operation.name = "process",
        messaging.operation.type = "process",
        otel.name = format!("process {}", job.call.queue),
        otel.kind = "consumer",
        qtasks.steps = Empty,
        qtasks.outcome = Empty,
        error.type = Empty,
        otel.status_code = Empty,
    )
}

/// Records in the span of the attempt how it failed: `failed`, `panicked`, `timed_out`, `diverged`, `undecodable` or `lost`.
pub(crate) fn failed(how: &'static str) {
    record_failure(&Span::current(), how);
}

/// A job to be enqueued, for the span of that.
pub(crate) struct Sent<'j> {
    pub(crate) id: JobId,
    pub(crate) queue: &'j str,
    pub(crate) task: &'j str,
}

/// The span of an enqueue, within that of the caller. The context that goes with a job is the caller's and not that of this span, so
/// by the conventions its kind is `client`, and not `producer`.
pub(crate) fn send<'j>(jobs: impl ExactSizeIterator<Item = Sent<'j>>) -> Span {
    if !span_enabled!(target: "qtasks", Level::DEBUG) {
        return Span::none();
    }
    let jobs: Vec<_> = jobs.collect();
    let is_batch = jobs.len() != 1;
    let queue = common(jobs.iter().map(|job| job.queue));
    debug_span!(
        target: "qtasks",
        "send",
        qtasks.task = common(jobs.iter().map(|job| job.task)),
        messaging.message.id = (!is_batch).then(|| tracing::field::display(jobs[0].id)),
        messaging.batch.message_count = is_batch.then_some(jobs.len()),
        messaging.destination.name = queue,
        messaging.system = "qtasks",
        messaging.operation.name = "send",
        messaging.operation.type = "send",
        otel.name = queue.map_or("send".to_owned(), |queue| format!("send {queue}")),
        otel.kind = "client",
        error.type = Empty,
        otel.status_code = Empty,
    )
}

/// What all have in common, if they do.
fn common<'j>(mut all: impl Iterator<Item = &'j str>) -> Option<&'j str> {
    let first = all.next()?;
    all.all(|other| other == first).then_some(first)
}

/// The span of a lease of up to so many jobs. It has their number when they are there.
pub(crate) fn receive(worker: WorkerId) -> Span {
    trace_span!(
        target: "qtasks",
        parent: None,
        "receive",
        messaging.batch.message_count = Empty,
        messaging.client.id = %worker,
        messaging.system = "qtasks",
        messaging.operation.name = "receive",
        messaging.operation.type = "receive",
        otel.name = "receive",
        otel.kind = "client",
        error.type = Empty,
        otel.status_code = Empty,
    )
}

/// The span of a batch of settlements.
pub(crate) fn settle(count: usize) -> Span {
    trace_span!(
        target: "qtasks",
        parent: None,
        "settle",
        messaging.batch.message_count = count,
        messaging.system = "qtasks",
        messaging.operation.name = "settle",
        messaging.operation.type = "settle",
        otel.name = "settle",
        otel.kind = "client",
        error.type = Empty,
        otel.status_code = Empty,
    )
}

/// The span of one value while its handler runs, within that of the attempt.
pub(crate) fn handle(task: &str, seq: u64) -> Span {
    trace_span!(
        target: "qtasks",
        "handle",
        qtasks.task = task,
        qtasks.step = seq,
        otel.name = format!("handle {task}"),
        otel.kind = "internal",
        error.type = Empty,
        otel.status_code = Empty,
    )
}

/// Records in the span of a value that its handler failed.
pub(crate) fn handler_failed(span: &Span) {
    record_failure(span, "failed");
}

/// Records how many jobs a lease gave.
pub(crate) fn received(span: &Span, count: usize) {
    span.record("messaging.batch.message_count", count);
}

/// Records in the span of a call of the store that it failed; gives how.
pub(crate) fn call_failed(span: &Span, error: &Error) -> &'static str {
    let how = error_type(error);
    record_failure(span, how);
    how
}

fn record_failure(span: &Span, how: &'static str) {
    span.record("error.type", how);
    span.record("otel.status_code", "ERROR");
}

fn error_type(error: &Error) -> &'static str {
    match error {
        Error::InDoubt { .. } => "in_doubt",
        Error::Duplicate { .. } => "duplicate",
        Error::OtherTask { .. } | Error::OtherArguments { .. } => "other_call",
        error if error.is_store_trouble() => "store_away",
        error if error.is_refusal() => "refused",
        _ => "failed",
    }
}
