//! Whether the memory of a generator grows with the number of its values.

use std::sync::{Mutex, PoisonError};

use anyhow::{bail, ensure};
use qtasks::{Count, prelude::*};

use crate::{
    part::Part,
    place::Place,
    row::{Floor, Round, Row, Scale, Unit},
    usage,
};

pub(crate) const ROW: Row = Row {
    name: "memory",
    what: "after 10,000,000 values into `Count`; over that after 10 %",
    unit: Unit::Mebibytes,
    floor: |_| Some(Floor::Times(1.2)),
    most_rounds: 1,
    measure: |scale| Box::pin(measure(scale)),
    part: |knowing| Box::pin(generate(knowing)),
    ..Row::PLAIN
};

/// Memory in use, when it was looked at.
static SEEN: Mutex<Vec<f64>> = Mutex::new(Vec::new());

#[qtask]
async fn very_many(up_to: u64) -> Result<Count, TaskError> {
    for value in 0..up_to {
        if value == up_to / 10 || value + 1 == up_to {
            let memory = usage::memory().map_err(|error| TaskError::discard(error.to_string()))?;
            SEEN.lock().unwrap_or_else(PoisonError::into_inner).push(memory);
        }
        yield_!(value);
    }
    Ok(())
}

async fn measure(scale: &Scale) -> anyhow::Result<Round> {
    let (place, values) = (Place::new(scale)?, scale.of(10_000_000));
    let line = Part::start(ROW.name, &[place.url(), values.to_string()])?.line().await?;
    let (early, late): (f64, f64) = serde_json::from_str(&line)?;
    Ok(Round::Figure { this: late, baseline: Some(early), processor: None })
}

/// In a process that has done nothing before: memory that was in use once can hide a growth.
async fn generate(knowing: Vec<String>) -> anyhow::Result<()> {
    let [url, values] = &knowing[..] else { bail!("it takes a store and a number of values") };
    let values = values.parse::<u64>()?;
    let app = QueueTasks::open(url).await?;
    let job = app.enqueue(very_many(values)).await?;
    app.worker().run_until_idle().await?;
    ensure!(job.result().await? == values);
    println!("{}", serde_json::to_string(&*SEEN.lock().unwrap_or_else(PoisonError::into_inner))?);
    Ok(())
}
