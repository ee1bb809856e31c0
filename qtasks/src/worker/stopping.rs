//! Says what the stop of a worker waits for.

use std::{fmt::Write as _, time::Duration};

use tokio::time::{Instant, sleep, timeout};

use super::{called, shared::Floor};
use crate::{execution::context::TaskContext, model::job::Lease};

/// How long a stop takes before it says so for the first time; each time after that it takes twice as long. Without an end to
/// that, a clock that a test has paused would run from one to the next.
const FIRST: Duration = Duration::from_secs(5);

/// So many jobs are named.
const NAMED: usize = 10;

/// Says again and again what the stop of a worker waits for: as news while bodies may go on, and as a warning when their grace
/// is over.
pub(crate) async fn report(floor: &Floor) {
    let begun = Instant::now();
    let news = at_growing_intervals(|| {
        tracing::info!(after = ?begun.elapsed(), grace = ?floor.grace, "the worker is stopping and waits for {}", waits(floor));
    });
    _ = timeout(floor.grace, news).await;
    at_growing_intervals(|| {
        tracing::warn!(after = ?begun.elapsed(), "the worker is still stopping: it waits for {}", waits(floor));
    })
    .await;
}

async fn at_growing_intervals(say: impl Fn()) {
    let mut wait = FIRST;
    loop {
        sleep(wait).await;
        say();
        wait = wait.saturating_mul(2);
    }
}

/// What is waited for, in words.
pub(crate) fn waits(floor: &Floor) -> String {
    let mut under_way = floor.held.all();
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
    waits.extend(floor.store.trouble().map(|trouble| trouble.to_string()));
    let hung = called::abandoned();
    if hung > 0 {
        waits.push(format!("besides, bodies of `fn` tasks that were to stop go on in this process, {hung} in number"));
    }
    waits.join("; ")
}

fn names(jobs: &[(Lease, Option<TaskContext>)]) -> String {
    let mut names = String::new();
    for (place, (lease, context)) in jobs.iter().take(NAMED).enumerate() {
        let between = if place == 0 { "" } else { ", " };
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
