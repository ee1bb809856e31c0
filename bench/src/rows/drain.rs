//! How fast jobs that wait are worked off.

use super::jobs::{enqueue, run_all};
use crate::{
    place::Place,
    row::{Floor, Round, Row, Scale},
    usage::Stopwatch,
};

pub(crate) const SHALLOW: Row = Row {
    name: "drain",
    what: "20,000 waiting jobs run and done, 64 at a time",
    floor: |_| Some(Floor::None),
    measure: |scale| Box::pin(measure(scale, 20_000)),
    ..Row::PLAIN
};

pub(crate) const DEEP: Row = Row {
    name: "drain-deep",
    what: "the same with 300,000",
    most_rounds: 1,
    measure: |scale| Box::pin(measure(scale, 300_000)),
    ..SHALLOW
};

async fn measure(scale: &Scale, jobs: u64) -> anyhow::Result<Round> {
    let (place, jobs) = (Place::new(scale)?, scale.of(jobs));
    let app = place.app().await?;
    enqueue(&app, jobs).await?;
    let start = Stopwatch::start()?;
    run_all(&app).await?;
    Ok(start.rate(jobs)?.over(None))
}
