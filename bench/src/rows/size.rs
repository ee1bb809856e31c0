//! How much room a job takes that waits, and a step of one, whatever is in them.

use anyhow::{Context as _, bail, ensure};
use qtasks::{Count, prelude::*};

use super::{
    footprint::{SIZE, ask},
    raw,
};
use crate::{
    place::Place,
    row::{Floor, Round, Row, Scale, Unit},
    target::Kind,
};

pub(crate) const JOB: Row = Row {
    name: "size-job",
    what: "bytes for a waiting job with 100 bytes of arguments",
    unit: Unit::Bytes,
    floor: |kind| {
        Some(match kind {
            Kind::Redis(_) => Floor::Below(700.0),
            Kind::Sqlite | Kind::Postgres => Floor::None,
        })
    },
    own_server: true,
    on_disk: false,
    most_rounds: 1,
    measure: |scale| Box::pin(measure_jobs(scale)),
    ..Row::PLAIN
};

pub(crate) const STEP: Row = Row {
    name: "size-step",
    what: "the same for a step, with 7 bytes of reply",
    floor: |kind| matches!(kind, Kind::Redis(_)).then_some(Floor::Below(32.0)),
    measure: |scale| Box::pin(measure_steps(scale)),
    ..JOB
};

#[qtask]
pub(super) async fn waits(_text: String) {}

#[qtask]
async fn counts(up_to: u64) -> Count {
    for value in 0..up_to {
        yield_!(1_000_000 + value);
    }
}

async fn measure_jobs(scale: &Scale) -> anyhow::Result<Round> {
    let (place, jobs) = (Place::new(scale)?, scale.of(100_000));
    let app = place.app().await?;
    let before = used(scale, &place)?;
    for _ in 0..jobs / 1_000 {
        app.enqueue_all((0..1_000).map(|_| waits(raw::filling()))).await?;
    }
    each(used(scale, &place)? - before, jobs)
}

async fn measure_steps(scale: &Scale) -> anyhow::Result<Round> {
    let (place, steps) = (Place::new(scale)?, scale.of(1_000_000));
    let app = place.app().await?;
    let job = app.enqueue(counts(steps)).await?;
    let before = memory(scale)?;
    app.worker().run_until_idle().await?;
    ensure!(job.result().await? == steps);
    each(memory(scale)? - before, steps)
}

/// So many bytes of so many.
pub(super) fn each(bytes: f64, count: u64) -> anyhow::Result<Round> {
    Ok(Round::Figure { this: bytes / count as f64, baseline: None, processor: None })
}

/// What the store takes: a SQLite file, with what of it stands in its log alone; the memory of Redis; tables and indexes of
/// Postgres.
fn used(scale: &Scale, place: &Place) -> anyhow::Result<f64> {
    match scale.target.kind() {
        Kind::Sqlite => file(place),
        Kind::Redis(_) => memory(scale),
        Kind::Postgres => ask(place, SIZE),
    }
}

fn file(place: &Place) -> anyhow::Result<f64> {
    let url = place.url();
    let Some(("sqlite", path)) = url.split_once(':') else { bail!("`{url}` names no file") };
    let query = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size";
    Ok(rusqlite::Connection::open(path)?.query_row(query, [], |row| row.get(0))?)
}

/// The memory that a Redis server has in use, without what it holds for its connections and for its file.
fn memory(scale: &Scale) -> anyhow::Result<f64> {
    let server = scale.target.redis().context("it looks into its own server")?;
    let told = server.tell("INFO memory")?;
    let figure = |name: &str| -> anyhow::Result<f64> {
        let line = told.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        Ok(line.with_context(|| format!("no {name}"))?.trim().parse()?)
    };
    Ok(figure("used_memory")? - figure("mem_clients_normal")? - figure("mem_aof_buffer")?)
}
