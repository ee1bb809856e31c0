//! How soon whoever watches a job sees a value that was handled.

use std::time::{Duration, SystemTime};

use qtasks::prelude::*;

use crate::{
    part::Part,
    place::Place,
    row::{Floor, Round, Row, Scale, Unit},
};

pub(crate) const HERE: Row = Row {
    name: "watch",
    what: "from a handler's return to a subscriber in the same process",
    unit: Unit::Milliseconds,
    floor: |_| Some(Floor::Below(5.0)),
    measure: |scale| Box::pin(measure(scale, Watcher::Here)),
    ..Row::PLAIN
};

pub(crate) const ELSEWHERE: Row = Row {
    name: "watch-far",
    what: "the same, to a subscriber in another process",
    floor: |_| Some(Floor::Below(50.0)),
    measure: |scale| Box::pin(measure(scale, Watcher::Elsewhere)),
    part: |knowing| Box::pin(print(knowing)),
    ..HERE
};

enum Watcher {
    Here,
    Elsewhere,
}

async fn time_of_day(_: u64) -> Duration {
    since_1970()
}

/// Long pauses between its values, so that each finds everybody at rest.
#[qtask(generate_handler = time_of_day, checkpoint = "each")]
async fn ticks(count: u64) -> Vec<Duration> {
    for tick in 0..count {
        tokio::time::sleep(Duration::from_millis(5)).await;
        yield_!(tick);
    }
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

async fn measure(scale: &Scale, watcher: Watcher) -> anyhow::Result<Round> {
    let place = Place::new(scale)?;
    let app = place.app().await?;
    let job = app.enqueue(ticks(scale.of(500))).await?;
    let mut other = match watcher {
        Watcher::Here => None,
        Watcher::Elsewhere => Some(Part::start(ELSEWHERE.name, &[place.url(), job.id().to_string()])?),
    };
    let worker = app.worker().start().await?;
    let times = match &mut other {
        None => watch(&job).await?,
        Some(other) => serde_json::from_str(&other.line().await?)?,
    };
    worker.shutdown().await?;
    Ok(Round::Times(times))
}

/// Watches in a process of its own, and prints what was found.
async fn print(knowing: Vec<String>) -> anyhow::Result<()> {
    let [url, job] = &knowing[..] else { anyhow::bail!("it watches a job of a store") };
    let app = QueueTasks::open(url).await?;
    let times = watch(&app.job::<ticks>(job.parse()?).await?).await?;
    println!("{}", serde_json::to_string(&times)?);
    Ok(())
}

async fn watch(job: &JobHandle<Vec<Duration>>) -> qtasks::Result<Vec<Duration>> {
    let (mut values, mut times) = (job.stream(), Vec::new());
    while let Some(handled) = values.next().await {
        times.push(since_1970().saturating_sub(handled?));
    }
    Ok(times)
}
