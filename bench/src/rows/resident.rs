//! How much memory of the process a waiting job takes, and a running generator.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use anyhow::bail;
use qtasks::{Count, prelude::*};
use tokio::sync::Notify;

use super::{
    raw,
    size::{each, waits},
};
use crate::{
    part::Part,
    place::Place,
    row::{Floor, Round, Row, Scale, Unit},
    target::Kind,
    usage,
};

pub(crate) const JOB: Row = Row {
    name: "resident-job",
    what: "memory of the process for a waiting job on the memory store",
    unit: Unit::Bytes,
    floor: |kind| (kind == Kind::Sqlite).then_some(Floor::None),
    on_disk: false,
    most_rounds: 1,
    measure: |scale| Box::pin(measure_jobs(scale)),
    part: |knowing| Box::pin(enqueue(knowing)),
    ..Row::PLAIN
};

pub(crate) const BODY: Row = Row {
    name: "resident-body",
    what: "memory of the process for a generator whose handler waits",
    floor: |_| Some(Floor::None),
    measure: |scale| Box::pin(measure_bodies(scale)),
    part: |knowing| Box::pin(run(knowing)),
    ..JOB
};

/// What is there before this many have been is what the process takes anyway.
const BEFORE: u64 = 1_000;

async fn measure_jobs(scale: &Scale) -> anyhow::Result<Round> {
    let jobs = scale.of(100_000);
    let mut part = Part::start(JOB.name, &[jobs.to_string()])?;
    let before = memory_of(&mut part).await?;
    each(memory_of(&mut part).await? - before, jobs)
}

/// In a process that has done nothing before: memory that was in use once can hide what is taken.
async fn enqueue(knowing: Vec<String>) -> anyhow::Result<()> {
    let [jobs] = &knowing[..] else { bail!("it takes a number of jobs") };
    let app = QueueTasks::open("memory:").await?;
    for jobs in [BEFORE, jobs.parse()?] {
        for _ in 0..jobs / 1_000 {
            app.enqueue_all((0..1_000).map(|_| waits(raw::filling()))).await?;
        }
        println!("{}", usage::memory()?);
    }
    Ok(())
}

/// The generators whose handler waits,
static WAITING: AtomicU64 = AtomicU64::new(0);
/// and who waits for more of them.
static ONE_MORE: Notify = Notify::const_new();

async fn never_returns(_: u64) -> u64 {
    WAITING.fetch_add(1, Relaxed);
    ONE_MORE.notify_one();
    std::future::pending().await
}

#[qtask(generate_handler = never_returns)]
async fn waits_in_its_handler() -> Count {
    yield_!(1_u64);
}

async fn measure_bodies(scale: &Scale) -> anyhow::Result<Round> {
    let (place, bodies) = (Place::new(scale)?, scale.of(10_000));
    let app = place.app().await?;
    let mut part = Part::start(BODY.name, &[place.url(), bodies.to_string()])?;
    app.enqueue_all((0..BEFORE).map(|_| waits_in_its_handler())).await?;
    let before = memory_of(&mut part).await?;
    app.enqueue_all((0..bodies).map(|_| waits_in_its_handler())).await?;
    each(memory_of(&mut part).await? - before, bodies)
}

/// In a process where nothing is enqueued. It runs all bodies at once, and is killed while they wait.
async fn run(knowing: Vec<String>) -> anyhow::Result<()> {
    let [url, bodies] = &knowing[..] else { bail!("it takes a store and a number of bodies") };
    let all = BEFORE + bodies.parse::<u64>()?;
    let _worker = QueueTasks::open(url).await?.worker().concurrency(usize::try_from(all)?).start().await?;
    for waiting in [BEFORE, all] {
        while WAITING.load(Relaxed) < waiting {
            ONE_MORE.notified().await;
        }
        println!("{}", usage::memory()?);
    }
    std::future::pending().await
}

async fn memory_of(part: &mut Part) -> anyhow::Result<f64> {
    Ok(part.line().await?.parse()?)
}
