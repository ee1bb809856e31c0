//! What a worker has done lately, which it adds to the store now and then.

use std::{
    collections::HashMap,
    mem,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{
    environment::App,
    error::{Result, chain},
    model::job::{Ending, JobCall, StateKind},
    store::{Lane, Rate, RateNumbers, RateSpan, Settlement},
};

/// How often a worker writes what it has done.
const EVERY: Duration = Duration::from_secs(10);
/// For how long minutes are kept.
const MINUTES: SignedDuration = SignedDuration::from_hours(72);
/// For how long hours are kept.
const HOURS: SignedDuration = SignedDuration::from_hours(90 * 24);

/// What a worker has done since it last wrote that: by queue, then by task.
#[derive(Default)]
pub(crate) struct Rates {
    lanes: Mutex<HashMap<String, HashMap<String, RateNumbers>>>,
}

impl Rates {
    /// Counts an attempt that has ended with this settlement, and has recorded so many values.
    pub(crate) fn ended(&self, call: &JobCall, settlement: &Settlement, values: u64) {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        match lanes.get_mut(&call.queue).and_then(|tasks| tasks.get_mut(&call.task)) {
            Some(numbers) => count(numbers, settlement, values),
            None => {
                let tasks = lanes.entry(call.queue.clone()).or_default();
                count(tasks.entry(call.task.clone()).or_default(), settlement, values);
            }
        }
    }

    /// What was done, as of the minute and the hour that it is now.
    fn take(&self, now: Timestamp) -> Vec<Rate> {
        let lanes = mem::take(&mut *self.lanes.lock().unwrap_or_else(PoisonError::into_inner));
        let mut rates = Vec::new();
        for (queue, tasks) in lanes {
            for (task, numbers) in tasks {
                let lane = Lane { queue: queue.clone(), task };
                let rate = |span: RateSpan| Rate { span, from: span.start(now), lane: lane.clone(), numbers };
                rates.extend([RateSpan::Minute, RateSpan::Hour].map(rate));
            }
        }
        rates
    }
}

fn count(numbers: &mut RateNumbers, settlement: &Settlement, values: u64) {
    numbers.attempts += u64::from(settlement.attempt.is_some());
    numbers.values += values;
    match settlement.outcome.next.kind() {
        StateKind::Done => numbers.done += 1,
        StateKind::Dead => numbers.dead += 1,
        StateKind::Cancelled => numbers.cancelled += 1,
        StateKind::Waiting | StateKind::Running => {}
    }
    let Some(attempt) = &settlement.attempt else { return };
    numbers.failed += u64::from(matches!(attempt.ending, Ending::Failed { .. }));
    if let Some(started) = attempt.started {
        numbers.ran(attempt.ended.duration_since(started).unsigned_abs());
    }
}

/// Writes what the worker has done, each ten seconds and at its end. It is statistics: what cannot be written is lost.
pub(crate) async fn keep_writing(rates: &Rates, app: &App, finished: CancellationToken) {
    while !finished.is_cancelled() {
        tokio::select! {
            () = sleep(EVERY) => {}
            () = finished.cancelled() => {}
        }
        let done = rates.take(app.clock.now());
        if done.is_empty() {
            continue;
        }
        if let Err(error) = app.store.add_rates(done).await {
            tracing::debug!(error = chain(&error), "what the worker has done lately was not counted");
        }
    }
}

/// Deletes what was done so long ago that it is kept no more.
pub(crate) async fn prune(app: &App) -> Result<()> {
    let now = app.clock.now();
    let before = |age| now.checked_sub(age).unwrap_or(Timestamp::MIN);
    app.store.prune_rates(before(MINUTES), before(HOURS)).await
}
