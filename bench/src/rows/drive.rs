//! What a value costs that is hashed, encoded and kept, where no disk is waited for.

use std::time::Instant;

use qtasks::{Count, prelude::*};

use super::run::{add_two, bare};
use crate::row::{Floor, Round, Row, Unit, nanoseconds};

pub(crate) const ROW: Row = Row {
    name: "drive",
    what: "the same through a worker on the memory store",
    unit: Unit::Nanoseconds,
    floor: |_| Some(Floor::Times(8.0)),
    on_disk: false,
    measure: |scale| Box::pin(measure(scale.of(2_000_000))),
    ..Row::PLAIN
};

#[qtask(generate_handler = add_two)]
async fn drive_numbers(up_to: u64) -> Count {
    for value in 0..up_to {
        yield_!(value);
    }
}

async fn measure(values: u64) -> anyhow::Result<Round> {
    let app = QueueTasks::open("memory:").await?;
    let job = app.enqueue(drive_numbers(values)).await?;
    let start = Instant::now();
    let worker = app.worker().start().await?;
    anyhow::ensure!(job.result().await? == values);
    let this = nanoseconds(values, start.elapsed());
    worker.shutdown().await?;
    Ok(Round::Figure { this, baseline: Some(nanoseconds(values, bare(values).await)), processor: None })
}
