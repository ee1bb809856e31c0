//! How many jobs that do nothing go from their enqueueing to their end.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use anyhow::ensure;
use futures::stream::{self, TryStreamExt as _};
use qtasks::{
    QueueTasks,
    job::StateKind,
    qtask,
    store::{Budget, Find},
};
use tokio::sync::Notify;

use super::raw;
use crate::{
    place::Place,
    row::{Floor, Round, Row, Scale},
    target::Kind,
    usage::{Rate, Stopwatch},
};

pub(crate) const ROW: Row = Row {
    name: "jobs",
    what: "jobs enqueued, run and done, 50 calls in flight; over raw lives",
    floor: |kind| {
        Some(match kind {
            Kind::Sqlite => Floor::Part(0.35),
            Kind::Redis(_) => Floor::AtLeast(25_000.0),
            Kind::Postgres => Floor::AtLeast(10_000.0),
        })
    },
    measure: |scale| Box::pin(measure(scale)),
    ..Row::PLAIN
};

/// The jobs that have not run yet,
static LEFT: AtomicU64 = AtomicU64::new(0);
/// and who waits for the last of them.
static NONE_LEFT: Notify = Notify::const_new();

#[qtask]
async fn nothing(_text: String) {
    if LEFT.fetch_sub(1, Relaxed) == 1 {
        NONE_LEFT.notify_one();
    }
}

/// One by one, fifty at a time.
async fn produce(app: QueueTasks, jobs: u64) -> qtasks::Result<()> {
    let calls = stream::iter((0..jobs).map(|_| Ok(nothing(raw::filling()))));
    calls.try_for_each_concurrent(50, |call| async { app.enqueue(call).await.map(drop) }).await
}

async fn measure(scale: &Scale) -> anyhow::Result<Round> {
    let (place, jobs) = (Place::new(scale)?, scale.of(100_000));
    let this = through(scale, &place.app().await?, jobs).await?;
    Ok(this.over(raw::lives(scale, &place, jobs).await?))
}

/// How many jobs go through in a second.
pub(crate) async fn through(scale: &Scale, app: &QueueTasks, jobs: u64) -> anyhow::Result<Rate> {
    LEFT.store(jobs, Relaxed);
    let worker = app.worker().concurrency(64).start().await?;
    let start = Stopwatch::start(&scale.target)?;
    tokio::spawn(produce(app.clone(), jobs)).await??;
    NONE_LEFT.notified().await;
    // Which ends when all are settled.
    worker.shutdown().await?;
    let this = start.rate(jobs)?;
    none_is_left(app).await?;
    Ok(this)
}

/// Enqueues so many, for [`run_all`].
pub(crate) async fn enqueue(app: &QueueTasks, jobs: u64) -> anyhow::Result<()> {
    for _ in 0..jobs / 1_000 {
        app.enqueue_all((0..1_000).map(|_| nothing(raw::filling()))).await?;
    }
    LEFT.store(jobs, Relaxed);
    Ok(())
}

/// Runs all that were enqueued.
pub(crate) async fn run_all(app: &QueueTasks) -> anyhow::Result<()> {
    let worker = app.worker().concurrency(64).start().await?;
    NONE_LEFT.notified().await;
    worker.shutdown().await?;
    Ok(())
}

pub(super) async fn none_is_left(app: &QueueTasks) -> anyhow::Result<()> {
    for state in [StateKind::Waiting, StateKind::Running] {
        ensure!(
            app.find(Find::default().state(state).oldest_first()).budget(Budget::jobs(1)).await?.jobs.is_empty(),
            "a job is {state} at the end"
        );
    }
    Ok(())
}
