//! How long a body takes to go on from its last step, however many there are.

use std::time::Duration;

use anyhow::ensure;
use qtasks::{BoxError, Count, TaskError, prelude::*};

use crate::{
    place::Place,
    row::{Floor, Round, Row, Scale, Unit},
};

pub(crate) const ROW: Row = Row {
    name: "cursor",
    what: "an attempt that goes on after 10,000,000 steps, less one that begins; the baseline is that one",
    unit: Unit::Milliseconds,
    floor: |_| Some(Floor::Below(50.0)),
    most_rounds: 1,
    measure: |scale| Box::pin(measure(scale)),
    ..Row::PLAIN
};

#[qtask(echo = true, resume = "cursor")]
async fn goes_on(ctx: TaskContext, up_to: u64) -> Result<Count, BoxError> {
    let next = ctx.last_step::<u64>().await?.map_or(0, |(_seq, last)| last + 1);
    for value in next..up_to {
        yield_!(value);
    }
    if ctx.attempt() == 1 {
        return Err(TaskError::snooze(Duration::ZERO).into());
    }
    yield_!(up_to.max(next));
    Ok(())
}

async fn measure(scale: &Scale) -> anyhow::Result<Round> {
    let place = Place::new(scale)?;
    let app = place.app().await?;
    let many = second_attempt(&app, scale.of(10_000_000)).await?;
    let none = second_attempt(&app, 0).await?;
    Ok(Round::Figure { this: many - none, baseline: Some(none), processor: None })
}

/// How many milliseconds the second attempt lasts, which begins after that many steps and adds one.
async fn second_attempt(app: &QueueTasks, steps: u64) -> anyhow::Result<f64> {
    let job = app.enqueue(goes_on(steps)).await?;
    app.worker().run_until_idle().await?;
    ensure!(job.result().await? == steps + 1);
    let attempts = job.status().await?.attempts;
    ensure!(attempts.len() == 2, "{attempts:?}");
    Ok(attempts[1].ended.duration_since(attempts[1].started.expect("it was started here")).as_secs_f64() * 1e3)
}
