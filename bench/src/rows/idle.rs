//! What a worker costs that has nothing to do.

use std::time::Duration;

use crate::{
    place::Place,
    row::{Floor, Round, Row, Scale, Unit},
    usage::Threads,
};

pub(crate) const ROW: Row = Row {
    name: "idle",
    what: "an idle worker's share of one processor",
    unit: Unit::Percent,
    floor: |_| Some(Floor::Below(1.0)),
    most_rounds: 1,
    measure: |scale| Box::pin(measure(scale)),
    ..Row::PLAIN
};

async fn measure(scale: &Scale) -> anyhow::Result<Round> {
    let place = Place::new(scale)?;
    let worker = place.app().await?.worker().start().await?;
    // It opens its connections, and looks at what there is.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let time = Duration::from_secs(scale.of(10));
    let before = Threads::now()?;
    tokio::time::sleep(time).await;
    let this = Threads::now()?.since(&before).as_secs_f64() / time.as_secs_f64() * 100.0;
    worker.shutdown().await?;
    Ok(Round::Figure { this, baseline: None, processor: None })
}
