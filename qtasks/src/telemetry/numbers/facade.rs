//! Numbers by the facade `metrics`: all that a dashboard of workers needs. The program installs a recorder, such as an exporter
//! for Prometheus.

use std::sync::Once;

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

use super::event::{Called, EndOfAttempt, Event, Lane, Operation};
use crate::model::job::StateKind;

pub(super) const IS_ON: bool = true;

const ENQUEUED: &str = "qtasks_enqueued_total";
const STARTED: &str = "qtasks_started_total";
const ENDED: &str = "qtasks_ended_total";
const ATTEMPTS_FAILED: &str = "qtasks_attempts_failed_total";
const VALUES: &str = "qtasks_values_total";
const SKIPPED: &str = "qtasks_skipped_total";
const LOST: &str = "qtasks_lost_total";
const RUN: &str = "qtasks_run_seconds";
const COMMIT: &str = "qtasks_commit_seconds";
const SLOTS: &str = "qtasks_slots";
const SLOTS_USED: &str = "qtasks_slots_used";

const COUNTERS: [(&str, &str); 7] = [
    (ENQUEUED, "jobs that this process has enqueued"),
    (STARTED, "attempts that have begun"),
    (ENDED, "jobs that have ended, by their outcome: done, dead or cancelled"),
    (ATTEMPTS_FAILED, "attempts that have failed, by how they did"),
    (VALUES, "values that were handled and recorded"),
    (SKIPPED, "values that were skipped"),
    (LOST, "jobs that this process has taken over from workers that are gone"),
];

pub(super) fn note(event: &Event<'_>) {
    describe();
    match event {
        Event::Enqueued(lane) => count(ENQUEUED, lane, Some(("outcome", "new")), 1),
        Event::Started(lane) => count(STARTED, lane, None, 1),
        Event::Ended(lane, end) => ended(lane, end),
        Event::Lost(lane, next) => {
            count(LOST, lane, None, 1);
            job_ended(lane, *next);
        }
        Event::Called(Operation::Receive, _) => {}
        Event::Called(operation, Called { took, .. }) => {
            histogram!(COMMIT, "operation" => operation.name()).record(took.as_secs_f64());
        }
        Event::Slots(more) => gauge!(SLOTS).increment(*more),
        Event::SlotsUsed(more) => gauge!(SLOTS_USED).increment(*more),
    }
}

fn ended(lane: &Lane<'_>, end: &EndOfAttempt) {
    let [queue, task] = [lane.queue, lane.task].map(str::to_owned);
    histogram!(RUN, "queue" => queue, "task" => task).record(end.took.as_secs_f64());
    for (name, more) in [(VALUES, end.steps.saturating_sub(end.skipped)), (SKIPPED, end.skipped)] {
        if more > 0 {
            count(name, lane, None, more);
        }
    }
    if let Some(error_type) = end.error_type {
        count(ATTEMPTS_FAILED, lane, Some(("error_type", error_type)), 1);
    }
    job_ended(lane, end.next);
}

fn job_ended(lane: &Lane<'_>, state: StateKind) {
    if state.is_ended() {
        count(ENDED, lane, Some(("outcome", state.as_str())), 1);
    }
}

fn count(name: &'static str, lane: &Lane<'_>, more: Option<(&'static str, &'static str)>, by: u64) {
    let [queue, task] = [lane.queue, lane.task].map(str::to_owned);
    match more {
        Some((label, value)) => counter!(name, "queue" => queue, "task" => task, label => value).increment(by),
        None => counter!(name, "queue" => queue, "task" => task).increment(by),
    }
}

/// Says once what the numbers are.
fn describe() {
    static DESCRIBED: Once = Once::new();
    DESCRIBED.call_once(|| {
        for (name, what) in COUNTERS {
            describe_counter!(name, what);
        }
        describe_histogram!(RUN, Unit::Seconds, "the time from the start of an attempt until its end is durable");
        describe_histogram!(COMMIT, Unit::Seconds, "the time that a call took which enqueues, records or settles");
        describe_gauge!(SLOTS, "how many jobs the workers of this process may run at once");
        describe_gauge!(SLOTS_USED, "how many jobs they run");
    });
}
