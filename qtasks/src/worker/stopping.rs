//! Logs what the stop of a worker waits for.

use std::{fmt::Write as _, time::Duration};

use tokio::time::{Instant, sleep, timeout};

use super::{shared::WorkerShared, thread_body};
use crate::{execution::context::TaskContext, model::job::Lease};

/// How long a stop takes before that is logged for the first time. Each further time comes after twice as long: at equal
/// intervals, a clock that a test has paused would run from one to the next without an end.
const FIRST: Duration = Duration::from_secs(5);

/// How many jobs are named; the others are counted.
const NAMED: usize = 10;

/// Logs at growing intervals what the stop of a worker waits for: as information while bodies have their grace, and as a
/// warning when that is over.
pub(crate) async fn report(shared: &WorkerShared) {
    let begun = Instant::now();
    let during_grace = at_growing_intervals(|| {
        tracing::info!(after = ?begun.elapsed(), grace = ?shared.grace, "the worker is stopping and waits for {}", waits(shared));
    });
    _ = timeout(shared.grace, during_grace).await;
    at_growing_intervals(|| {
        tracing::warn!(after = ?begun.elapsed(), "the worker is still stopping: it waits for {}", waits(shared));
    })
    .await;
}

async fn at_growing_intervals(log: impl Fn()) {
    let mut wait = FIRST;
    loop {
        sleep(wait).await;
        log();
        wait = wait.saturating_mul(2);
    }
}

/// What the stop waits for, as a sentence of the log.
pub(crate) fn waits(shared: &WorkerShared) -> String {
    let mut under_way = shared.leases.all();
    under_way.sort_by_key(|(lease, _)| lease.job);
    let runs = |(_, context): &(Lease, Option<TaskContext>)| context.as_ref().is_some_and(|context| !context.is_over());
    let (bodies, ended): (Vec<_>, Vec<_>) = under_way.into_iter().partition(runs);
    let mut waits = Vec::new();
    if !bodies.is_empty() {
        waits.push(format!("bodies that run, {} in number: {}", bodies.len(), names(&bodies)));
    }
    if !ended.is_empty() {
        waits.push(format!("the store to write what became of jobs, {} in number: {}", ended.len(), names(&ended)));
    }
    if waits.is_empty() {
        waits.push("the store to answer".to_owned());
    }
    waits.extend(shared.store.failing_calls().map(|failing| failing.to_string()));
    let abandoned = thread_body::abandoned();
    if abandoned > 0 {
        waits.push(format!(
            "besides, bodies of `fn` tasks that were to stop go on in this process, {abandoned} in number"
        ));
    }
    waits.join("; ")
}

fn names(jobs: &[(Lease, Option<TaskContext>)]) -> String {
    let mut names = String::new();
    for (position, (lease, context)) in jobs.iter().take(NAMED).enumerate() {
        let between = if position == 0 { "" } else { ", " };
        let task = context.as_ref().map_or("not started", |context| context.task().name);
        let on_thread =
            if context.as_ref().is_some_and(|context| !context.task().awaiting) { ", on a thread" } else { "" };
        _ = write!(names, "{between}{task} (job {}, attempt {}{on_thread})", lease.job, lease.attempt);
    }
    if jobs.len() > NAMED {
        _ = write!(names, " and {} more", jobs.len() - NAMED);
    }
    names
}
