//! What `app.run` costs a value.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use genawaiter::{GeneratorState, sync::Gen};
use qtasks::{Count, prelude::*};

use crate::row::{Floor, Round, Row, Unit, nanoseconds};

pub(crate) const ROW: Row = Row {
    name: "run",
    what: "a value of `app.run`; over a bare genawaiter loop",
    unit: Unit::Nanoseconds,
    floor: |_| Some(Floor::Times(2.0)),
    on_disk: false,
    measure: |scale| Box::pin(measure(scale.of(10_000_000))),
    ..Row::PLAIN
};

pub(crate) async fn add_two(value: u64) -> u64 {
    black_box(value + 2)
}

#[qtask(generate_handler = add_two)]
async fn run_numbers(up_to: u64) -> Count {
    for value in 0..up_to {
        yield_!(value);
    }
}

/// So few values that often nothing disturbs.
const SLICE: u64 = 20_000;

async fn measure(values: u64) -> anyhow::Result<Round> {
    let app = QueueTasks::open("memory:").await?;
    let (mut this, mut baseline) = (Duration::MAX, Duration::MAX);
    for _ in 0..values / SLICE {
        let start = Instant::now();
        anyhow::ensure!(app.run(run_numbers(SLICE)).await? == SLICE);
        this = this.min(start.elapsed());
        baseline = baseline.min(bare(SLICE).await);
    }
    Ok(Round::Figure { this: nanoseconds(SLICE, this), baseline: Some(nanoseconds(SLICE, baseline)), processor: None })
}

/// The time of the same loop with nothing of qtasks.
pub(crate) async fn bare(values: u64) -> Duration {
    let start = Instant::now();
    let mut generator = Gen::new(async |co| {
        for value in 0..black_box(values) {
            co.yield_(value).await;
        }
    });
    let mut count = 0;
    while let GeneratorState::Yielded(value) = generator.async_resume().await {
        add_two(value).await;
        count += 1;
    }
    black_box(count);
    start.elapsed()
}
