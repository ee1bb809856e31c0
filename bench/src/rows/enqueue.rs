//! How many calls are enqueued durably when a hundred do so at once, each one by one.

use futures::future::try_join_all;
use qtasks::{QueueTasks, qtask};

use super::raw::{filling, sqlite};
use crate::{
    place::Place,
    row::{Floor, Round, Row, Scale},
    target::Kind,
    usage::Stopwatch,
};

pub(crate) const ROW: Row = Row {
    name: "enqueue",
    what: "enqueues of 100 producers; over raw inserts in batches of 100",
    floor: |kind| {
        Some(match kind {
            Kind::Sqlite => Floor::Part(0.4),
            Kind::Redis(_) | Kind::Postgres => Floor::None,
        })
    },
    measure: |scale| Box::pin(measure(scale)),
    ..Row::PLAIN
};

const PRODUCERS: u64 = 100;

#[qtask]
async fn enqueued(_text: String) {}

async fn measure(scale: &Scale) -> anyhow::Result<Round> {
    let (place, calls) = (Place::new(scale)?, scale.of(100_000));
    let app = place.app().await?;
    let start = Stopwatch::start(&scale.target)?;
    let producers = (0..PRODUCERS).map(|_| tokio::spawn(produce(app.clone(), calls / PRODUCERS)));
    for produced in try_join_all(producers).await? {
        produced?;
    }
    let this = start.rate(calls)?;
    Ok(this.over(sqlite::on(scale, || sqlite::inserts(&place, calls))?))
}

async fn produce(app: QueueTasks, calls: u64) -> qtasks::Result<()> {
    for _ in 0..calls {
        app.enqueue(enqueued(filling())).await?;
    }
    Ok(())
}
