//! How soon another worker goes on with a job whose process was killed.

use std::time::{Duration, Instant};

use anyhow::bail;
use qtasks::{Count, prelude::*};

use crate::{
    part::Part,
    place::Place,
    row::{Floor, Round, Row, Scale, Unit},
    target::Kind,
};

pub(crate) const ROW: Row = Row {
    name: "kill",
    what: "SIGKILL of a worker to the next call of the handler elsewhere",
    unit: Unit::Milliseconds,
    floor: |kind| {
        Some(match kind {
            Kind::Sqlite | Kind::Postgres => Floor::Below(1_000.0),
            Kind::Redis(_) => Floor::Below(5_000.0),
        })
    },
    measure: |scale| Box::pin(measure(scale)),
    part: |knowing| Box::pin(work(knowing)),
    ..Row::PLAIN
};

async fn tell(value: u64) -> u64 {
    println!("{value}");
    tokio::time::sleep(Duration::from_millis(10)).await;
    value
}

#[qtask(generate_handler = tell, checkpoint = "each")]
async fn without_end() -> Count {
    for value in 0.. {
        yield_!(value);
    }
}

async fn measure(scale: &Scale) -> anyhow::Result<Round> {
    let place = Place::new(scale)?;
    let app = place.app().await?;
    app.enqueue(without_end()).await?;
    let mut runs = worker(&place).await?;
    runs.line().await?;
    let mut times = Vec::new();
    for _ in 0..scale.of(10) {
        let mut waits = worker(&place).await?;
        // At any time between two renewals.
        tokio::time::sleep(Duration::from_millis(500 + fastrand::u64(..1000))).await;
        let killed = Instant::now();
        runs.kill()?;
        waits.line().await?;
        times.push(killed.elapsed());
        runs = waits;
    }
    Ok(Round::Times(times))
}

/// A process with a worker that has started.
async fn worker(place: &Place) -> anyhow::Result<Part> {
    let mut worker = Part::start(ROW.name, &[place.url()])?;
    worker.line().await?;
    Ok(worker)
}

async fn work(knowing: Vec<String>) -> anyhow::Result<()> {
    let [url] = &knowing[..] else { bail!("it works on a store") };
    let worker = QueueTasks::open(url).await?.worker().start().await?;
    let signal = worker.until_signal();
    println!("started");
    Ok(signal.await?)
}
