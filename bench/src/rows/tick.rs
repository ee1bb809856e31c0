//! How soon after its tick a schedule has a job that runs.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use qtasks::{jiff::Timestamp, prelude::*};

use crate::{
    place::Place,
    row::{Floor, Round, Row, Scale, Unit},
};

pub(crate) const ROW: Row = Row {
    name: "tick",
    what: "from a tick of a schedule to the start of its job",
    unit: Unit::Milliseconds,
    floor: |_| Some(Floor::Below(10.0)),
    measure: |scale| Box::pin(measure(scale)),
    ..Row::PLAIN
};

/// How long after its tick each job has started.
static LATE: Mutex<Vec<Duration>> = Mutex::new(Vec::new());

#[qtask(echo = true)]
async fn tells_how_late_it_is(ctx: TaskContext, number: u64) {
    let late = Timestamp::now().duration_since(ctx.tick().expect("a schedule enqueues it"));
    LATE.lock().unwrap_or_else(PoisonError::into_inner).push(late.try_into().unwrap_or_default());
    _ = number;
}

async fn measure(scale: &Scale) -> anyhow::Result<Round> {
    let (place, schedules) = (Place::new(scale)?, 10);
    let app = place.app().await?;
    for number in 0..schedules {
        app.schedule(&format!("tick-{number}"), tells_how_late_it_is(number), "* * * * * *").await?;
    }
    let worker = app.worker().start().await?;
    let late = || LATE.lock().unwrap_or_else(PoisonError::into_inner);
    while (late().len() as u64) < scale.of(100) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    worker.shutdown().await?;
    Ok(Round::Times(std::mem::take(&mut *late())))
}
