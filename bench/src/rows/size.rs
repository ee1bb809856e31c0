//! How much of a Redis server's memory a job takes that waits, and a step, whatever is in them.

use anyhow::{Context as _, ensure};
use qtasks::{Count, prelude::*};

use super::raw;
use crate::{
    place::Place,
    row::{Floor, Round, Row, Scale, Unit},
    target::Kind,
};

pub(crate) const JOB: Row = Row {
    name: "size-job",
    what: "the server's memory for a queued job with 100 bytes of arguments",
    unit: Unit::Bytes,
    floor: |kind| (kind == Kind::Redis).then_some(Floor::Below(700.0)),
    own_server: true,
    on_disk: false,
    most_rounds: 1,
    measure: |scale| Box::pin(measure_jobs(scale)),
    ..Row::PLAIN
};

pub(crate) const STEP: Row = Row {
    name: "size-step",
    what: "the same for a step, with 7 bytes of reply",
    floor: |kind| (kind == Kind::Redis).then_some(Floor::Below(32.0)),
    measure: |scale| Box::pin(measure_steps(scale)),
    ..JOB
};

#[qtask]
async fn waits(_text: String) {}

#[qtask]
async fn counts(up_to: u64) -> Count {
    for value in 0..up_to {
        yield_!(1_000_000 + value);
    }
}

async fn measure_jobs(scale: &Scale) -> anyhow::Result<Round> {
    let (place, jobs) = (Place::new(scale)?, scale.of(100_000));
    let app = place.app().await?;
    let before = used(scale)?;
    for _ in 0..jobs / 1_000 {
        app.enqueue_all((0..1_000).map(|_| waits(raw::filling()))).await?;
    }
    each(used(scale)? - before, jobs)
}

async fn measure_steps(scale: &Scale) -> anyhow::Result<Round> {
    let (place, steps) = (Place::new(scale)?, scale.of(1_000_000));
    let app = place.app().await?;
    let job = app.enqueue(counts(steps)).await?;
    let before = used(scale)?;
    app.worker().run_until_idle().await?;
    ensure!(job.result().await? == steps);
    each(used(scale)? - before, steps)
}

fn each(bytes: f64, count: u64) -> anyhow::Result<Round> {
    Ok(Round::Figure { this: bytes / count as f64, baseline: None, processor: None })
}

/// The memory that the server has in use, without what it holds for its connections and for its file.
fn used(scale: &Scale) -> anyhow::Result<f64> {
    let server = scale.target.redis().context("it looks into its own server")?;
    let told = server.tell("INFO memory")?;
    let figure = |name: &str| -> anyhow::Result<f64> {
        let line = told.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        Ok(line.with_context(|| format!("no {name}"))?.trim().parse()?)
    };
    Ok(figure("used_memory")? - figure("mem_clients_normal")? - figure("mem_aof_buffer")?)
}
