//! Numbers by the facade `metrics`: all that a dashboard of workers needs. The program installs a recorder, such as an exporter
//! for Prometheus.

use std::{sync::Once, time::Duration};

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

use super::event::{Called, EndOfAttempt, Event, Lane, Operation, Stored};
use crate::model::job::StateKind;

pub(super) const IS_ON: bool = true;

const ENQUEUED: &str = "qtasks_enqueued_total";
const STARTED: &str = "qtasks_started_total";
const ENDED: &str = "qtasks_ended_total";
const ATTEMPTS_FAILED: &str = "qtasks_attempts_failed_total";
const VALUES: &str = "qtasks_values_total";
const SKIPPED: &str = "qtasks_skipped_total";
const LOST: &str = "qtasks_lost_total";
const WAIT: &str = "qtasks_wait_seconds";
const RUN: &str = "qtasks_run_seconds";
const COMMIT: &str = "qtasks_commit_seconds";
const HANDLER: &str = "qtasks_handler_seconds";
const RECOVERY: &str = "qtasks_recovery_seconds";
const WAITING: &str = "qtasks_waiting";
const RUNNING: &str = "qtasks_running";
const DEAD: &str = "qtasks_dead";
const OLDEST_DUE: &str = "qtasks_oldest_due_seconds";
const PAUSED: &str = "qtasks_paused";
const SLOTS: &str = "qtasks_slots";
const SLOTS_USED: &str = "qtasks_slots_used";
const SCHEDULE_LAG: &str = "qtasks_schedule_lag_seconds";
const CLOCK_SKEW: &str = "qtasks_clock_skew_seconds";

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
        Event::Started(lane, waited) => {
            count(STARTED, lane, None, 1);
            time(WAIT, lane, *waited);
        }
        Event::Ended(lane, end) => ended(lane, end),
        Event::Lost(lane, next, silent) => {
            count(LOST, lane, None, 1);
            if let Some(silent) = silent {
                time(RECOVERY, lane, *silent);
            }
            job_ended(lane, *next);
        }
        Event::Called(Operation::Receive, _) => {}
        Event::Called(operation, Called { took, .. }) => {
            histogram!(COMMIT, "operation" => operation.name()).record(took.as_secs_f64());
        }
        Event::Handled { task, took } => histogram!(HANDLER, "task" => (*task).to_owned()).record(took.as_secs_f64()),
        Event::Stored(lane, stored) => of_store(lane, stored),
        Event::Paused { scope, is_paused } => gauge!(PAUSED, "scope" => (*scope).to_owned()).set(u8::from(*is_paused)),
        Event::Fired { schedule, lag } => gauge!(SCHEDULE_LAG, "schedule" => (*schedule).to_owned()).set(*lag),
        Event::ClockAhead(seconds) => gauge!(CLOCK_SKEW).set(*seconds),
        Event::Slots(more) => gauge!(SLOTS).increment(*more),
        Event::SlotsUsed(more) => gauge!(SLOTS_USED).increment(*more),
    }
}

/// Sets what the whole store has of a lane.
fn of_store(lane: &Lane<'_>, stored: &Stored) {
    let set = |name: &'static str, to: f64| {
        let [queue, task] = [lane.queue, lane.task].map(str::to_owned);
        gauge!(name, "queue" => queue, "task" => task).set(to);
    };
    set(WAITING, stored.waiting as f64);
    set(RUNNING, stored.running as f64);
    set(DEAD, stored.dead as f64);
    set(OLDEST_DUE, stored.oldest.as_secs_f64());
}

fn time(name: &'static str, lane: &Lane<'_>, time: Duration) {
    let [queue, task] = [lane.queue, lane.task].map(str::to_owned);
    histogram!(name, "queue" => queue, "task" => task).record(time.as_secs_f64());
}

fn ended(lane: &Lane<'_>, end: &EndOfAttempt) {
    time(RUN, lane, end.took);
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
        describe_histogram!(WAIT, Unit::Seconds, "the time from when a job was due until an attempt at it started");
        describe_histogram!(RUN, Unit::Seconds, "the time from the start of an attempt until its end is durable");
        describe_histogram!(COMMIT, Unit::Seconds, "the time that a call took which enqueues, records or settles");
        describe_histogram!(HANDLER, Unit::Seconds, "the time that a handler took for a value");
        describe_histogram!(
            RECOVERY,
            Unit::Seconds,
            "the time from the last sign of a worker that is gone until a job of it is given back"
        );
        describe_gauge!(WAITING, "how many jobs wait in the store");
        describe_gauge!(RUNNING, "how many jobs run on the store");
        describe_gauge!(DEAD, "how many dead jobs the store has");
        describe_gauge!(OLDEST_DUE, Unit::Seconds, "for how long the job has been due that is next in line");
        describe_gauge!(PAUSED, "1 for what is paused");
        describe_gauge!(SLOTS, "how many jobs the workers of this process may run at once");
        describe_gauge!(SLOTS_USED, "how many jobs they run");
        describe_gauge!(SCHEDULE_LAG, Unit::Seconds, "how long after its last tick a schedule has fired");
        describe_gauge!(CLOCK_SKEW, Unit::Seconds, "how far the clock of this machine is ahead of the store's server");
    });
}
