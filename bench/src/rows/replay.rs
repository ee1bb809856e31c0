//! How fast a body comes back to where it was.

use std::time::Duration;

use anyhow::ensure;
use qtasks::{Count, TaskError, prelude::*};

use super::raw::sqlite;
use crate::{
    place::Place,
    row::{Floor, Round, Row, Scale, per_second},
    target::Kind,
};

pub(crate) const ROW: Row = Row {
    name: "replay",
    what: "recorded steps replayed; over raw ones read",
    floor: |kind| {
        Some(match kind {
            Kind::Sqlite => Floor::AtLeast(1_000_000.0),
            Kind::Redis(_) | Kind::Postgres => Floor::None,
        })
    },
    measure: |scale| Box::pin(measure(scale)),
    ..Row::PLAIN
};

#[qtask(echo = true)]
async fn goes_twice(ctx: TaskContext, up_to: u64) -> Result<Count, TaskError> {
    for value in 0..up_to {
        yield_!(value);
    }
    match ctx.attempt() {
        1 => Err(TaskError::snooze(Duration::ZERO)),
        _ => Ok(()),
    }
}

async fn measure(scale: &Scale) -> anyhow::Result<Round> {
    let (place, values) = (Place::new(scale)?, scale.of(1_000_000));
    let app = place.app().await?;
    let job = app.enqueue(goes_twice(values)).await?;
    app.worker().run_until_idle().await?;
    ensure!(job.result().await? == values);
    let attempts = job.status().await?.attempts;
    ensure!(attempts.len() == 2, "{attempts:?}");
    // From its start to its end in the store: reading ahead counts too.
    let lap = attempts[1].ended.duration_since(attempts[1].started.expect("it was started here"));
    let this = per_second(values, lap.try_into()?);
    Ok(Round::Figure { this, baseline: sqlite::on(scale, || sqlite::reads(&place, values))?, processor: None })
}
