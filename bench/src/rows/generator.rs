//! How fast one generator goes that does not wait for its steps.

use qtasks::{Count, prelude::*};

use super::raw::sqlite;
use crate::{
    place::Place,
    row::{Floor, Round, Row, Scale},
    target::Kind,
    usage::Stopwatch,
};

pub(crate) const ROW: Row = Row {
    name: "generator",
    what: "values of one generator; over raw steps in batches of 1,000",
    floor: |kind| {
        Some(match kind {
            Kind::Sqlite => Floor::AtLeast(150_000.0),
            Kind::Redis(_) | Kind::Postgres => Floor::None,
        })
    },
    measure: |scale| Box::pin(measure(scale)),
    ..Row::PLAIN
};

#[qtask]
async fn runs_ahead(up_to: u64) -> Count {
    for value in 0..up_to {
        yield_!(value);
    }
}

async fn measure(scale: &Scale) -> anyhow::Result<Round> {
    let (place, values) = (Place::new(scale)?, scale.of(1_000_000));
    let app = place.app().await?;
    let job = app.enqueue(runs_ahead(values)).await?;
    let start = Stopwatch::start(&scale.target)?;
    let worker = app.worker().start().await?;
    anyhow::ensure!(job.result().await? == values);
    let this = start.rate(values)?;
    worker.shutdown().await?;
    Ok(this.over(sqlite::on(scale, || sqlite::appends(&place, values))?))
}
