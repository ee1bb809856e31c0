//! How fast several processes work off one store, and how evenly they share its jobs.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use anyhow::{bail, ensure};
use qtasks::{QueueTasks, qtask};

use super::{jobs::none_is_left, raw};
use crate::{
    part::{self, Part},
    place::Place,
    row::{Floor, Round, Row, Scale, Unit},
    usage::{Rate, Stopwatch, Threads},
};

pub(crate) const TWO: Row = Row {
    name: "workers-2",
    what: "100,000 waiting jobs worked off by 2 processes; over 1",
    floor: |_| Some(Floor::None),
    measure: |scale| Box::pin(measure_rate(scale, 2)),
    part: |knowing| Box::pin(work(knowing)),
    ..Row::PLAIN
};

pub(crate) const FOUR: Row = Row {
    name: "workers-4",
    what: "the same by 4 processes; over 1",
    measure: |scale| Box::pin(measure_rate(scale, 4)),
    ..TWO
};

pub(crate) const SHARES_OF_TWO: Row = Row {
    name: "shares-2",
    what: "the least share that one of 2 such processes has; over the most",
    unit: Unit::Percent,
    measure: |scale| Box::pin(measure_shares(scale, 2)),
    ..TWO
};

pub(crate) const SHARES_OF_FOUR: Row = Row {
    name: "shares-4",
    what: "the same of 4",
    measure: |scale| Box::pin(measure_shares(scale, 4)),
    ..SHARES_OF_TWO
};

/// The jobs that this process has run.
static RAN: AtomicU64 = AtomicU64::new(0);

#[qtask]
async fn counted(_text: String) {
    RAN.fetch_add(1, Relaxed);
}

async fn measure_rate(scale: &Scale, processes: usize) -> anyhow::Result<Round> {
    let (this, _) = work_off(scale, processes).await?;
    let (alone, _) = work_off(scale, 1).await?;
    Ok(this.over(alone.per_second))
}

async fn measure_shares(scale: &Scale, processes: usize) -> anyhow::Result<Round> {
    let (_, mut ran) = work_off(scale, processes).await?;
    ran.sort_unstable();
    let percent = |ran: u64| ran as f64 * 100.0 / scale.of(JOBS) as f64;
    Ok(Round::Figure { this: percent(ran[0]), baseline: Some(percent(ran[processes - 1])), processor: None })
}

const JOBS: u64 = 100_000;

/// Works off a queue by so many processes that begin at once; with the number of jobs that each has run.
async fn work_off(scale: &Scale, processes: usize) -> anyhow::Result<(Rate, Vec<u64>)> {
    let (place, jobs) = (Place::new(scale)?, scale.of(JOBS));
    let app = place.app().await?;
    for _ in 0..jobs / 1_000 {
        app.enqueue_all((0..1_000).map(|_| counted(raw::filling()))).await?;
    }
    let mut parts = Vec::new();
    for _ in 0..processes {
        let mut part = Part::start(TWO.name, &[place.url()])?;
        ensure!(part.line().await? == "ready");
        parts.push(part);
    }
    let start = Stopwatch::start(&scale.target)?;
    for part in &mut parts {
        part.go_on().await?;
    }
    let (mut ran, mut processor) = (Vec::new(), Duration::ZERO);
    for part in &mut parts {
        let (jobs, spent): (u64, Duration) = serde_json::from_str(&part.line().await?)?;
        ran.push(jobs);
        processor += spent;
    }
    let rate = start.rate_of(jobs, processor)?;
    none_is_left(&app).await?;
    ensure!(ran.iter().sum::<u64>() == jobs, "{jobs} jobs were run as {ran:?}");
    Ok((rate, ran))
}

/// In a process of its own: says how many jobs it has run, and how long it has been on processors.
async fn work(knowing: Vec<String>) -> anyhow::Result<()> {
    let [url] = &knowing[..] else { bail!("it works on a store") };
    let app = QueueTasks::open(url).await?;
    println!("ready");
    part::wait().await?;
    let before = Threads::now()?;
    app.worker().concurrency(64).run_until_idle().await?;
    println!("{}", serde_json::to_string(&(RAN.load(Relaxed), Threads::now()?.since(&before)))?);
    Ok(())
}
