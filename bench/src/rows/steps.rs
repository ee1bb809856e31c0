//! How many steps become durable when a hundred bodies wait for each of theirs.

use qtasks::{Count, prelude::*};

use super::raw::sqlite;
use crate::{
    place::Place,
    row::{Floor, Round, Row, Scale},
    target::Kind,
    usage::Stopwatch,
};

pub(crate) const ROW: Row = Row {
    name: "steps",
    what: "steps of 100 generators with checkpoint = \"each\"; over raw ones",
    floor: |kind| {
        Some(match kind {
            Kind::Sqlite => Floor::AtLeast(80_000.0),
            Kind::Redis(_) => Floor::None,
            Kind::Postgres => Floor::AtLeast(10_000.0),
        })
    },
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
    let (app, each) = (place.app().await?, steps / GENERATORS);
    let jobs = app.enqueue_all((0..GENERATORS).map(|_| one_by_one(each))).await?;
    let start = Stopwatch::start(&scale.target)?;
    app.worker().concurrency(GENERATORS as usize).run_until_idle().await?;
    let this = start.rate(steps)?;
    for job in jobs {
        anyhow::ensure!(job.result().await? == each);
    }
    Ok(this.over(sqlite::on(scale, || sqlite::steps(&place, GENERATORS, steps))?))
}
