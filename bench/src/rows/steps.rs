//! How many steps become durable when a hundred bodies wait for each of theirs.

use std::time::Instant;

use futures::future::try_join_all;
use qtasks::{Count, prelude::*};

use super::raw;
use crate::{
    place::Place,
    row::{Floor, Round, Row, Scale, per_second},
};

pub(crate) const ROW: Row = Row {
    name: "steps",
    what: "steps of 100 generators with checkpoint = \"each\"; over raw ones",
    floor: Floor::AtLeast(80_000.0),
    measure: |scale| Box::pin(measure(scale)),
    ..Row::PLAIN
};

const GENERATORS: u64 = 100;

#[qtask(checkpoint = "each")]
async fn one_by_one(up_to: u64) -> Count {
    for value in 0..up_to {
        yield_!(value);
    }
}

async fn measure(scale: &Scale) -> anyhow::Result<Round> {
    let (place, steps) = (Place::new(scale)?, scale.of(200_000));
    let app = place.app().await?;
    let each = steps / GENERATORS;
    let jobs = app.enqueue_all((0..GENERATORS).map(|_| one_by_one(each))).await?;
    let start = Instant::now();
    let worker = app.worker().concurrency(GENERATORS as usize).start().await?;
    let counts = try_join_all(jobs.iter().map(|job| job.result())).await?;
    let this = per_second(steps, start.elapsed());
    anyhow::ensure!(counts.iter().all(|count| *count == each));
    worker.shutdown().await?;
    Ok(Round::Figure { this, baseline: Some(raw::steps(&place, GENERATORS, steps)?) })
}
