//! How fast jobs that wait are worked off.

use super::jobs::{enqueue, none_is_left, run_all};
use crate::{
    place::Place,
    row::{Floor, Round, Row, Scale},
    target::Kind,
    usage::Stopwatch,
};

pub(crate) const FEW: Row = Row {
    name: "drain-few",
    what: "10,000 waiting jobs run and done, 64 at a time",
    floor: |_| Some(Floor::None),
    measure: |scale| Box::pin(measure(scale, 10_000)),
    ..Row::PLAIN
};

pub(crate) const MANY: Row =
    Row { name: "drain", what: "the same with 20,000", measure: |scale| Box::pin(measure(scale, 20_000)), ..FEW };

pub(crate) const DEEP: Row = Row {
    name: "drain-deep",
    what: "the same with 300,000",
    most_rounds: 1,
    measure: |scale| Box::pin(measure(scale, 300_000)),
    ..FEW
};

pub(crate) const MILLION: Row = Row {
    name: "drain-million",
    what: "the same with 1,000,000",
    floor: |kind| (kind == Kind::Sqlite).then_some(Floor::None),
    measure: |scale| Box::pin(measure(scale, 1_000_000)),
    ..DEEP
};

async fn measure(scale: &Scale, jobs: u64) -> anyhow::Result<Round> {
    let (place, jobs) = (Place::new(scale)?, scale.of(jobs));
    let app = place.app().await?;
    enqueue(&app, jobs).await?;
    let start = Stopwatch::start(&scale.target)?;
    run_all(&app).await?;
    let this = start.rate(jobs)?;
    none_is_left(&app).await?;
    Ok(this.over(None))
}
