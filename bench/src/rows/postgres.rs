//! Some of the same on Postgres: on a server of its own, as it is by default, on the same machine.

use std::sync::LazyLock;

use qtasks::QueueTasks;
use qtasks_tests::servers::postgres::Postgres;

use super::{jobs, start, steps};
use crate::row::{Floor, Round, Row, Scale};

pub(crate) const JOBS: Row = Row {
    name: "pg-jobs",
    what: "Postgres: jobs enqueued, run and done, 50 calls in flight",
    floor: Floor::AtLeast(10_000.0),
    measure: |scale| Box::pin(measure_jobs(scale)),
    ..Row::PLAIN
};

pub(crate) const STEPS: Row = Row {
    name: "pg-steps",
    what: "Postgres: steps of 100 generators with checkpoint = \"each\"",
    floor: Floor::AtLeast(10_000.0),
    measure: |scale| Box::pin(measure_steps(scale)),
    ..Row::PLAIN
};

pub(crate) const START: Row = Row {
    name: "pg-start",
    what: "Postgres: from before an enqueue to the start on an idle worker",
    measure: |scale| Box::pin(measure_start(scale)),
    ..start::ROW
};

/// Postgres then keeps every row that ever was.
pub(crate) const HELD: Row = Row {
    name: "pg-held",
    what: "Postgres: the last of 500,000 jobs, a transaction held; over the first",
    floor: Floor::Part(0.7),
    most_rounds: 1,
    measure: |scale| Box::pin(measure_held(scale)),
    ..Row::PLAIN
};

static SERVER: LazyLock<Postgres> = LazyLock::new(|| Postgres::start(&[]));

async fn measure_jobs(scale: &Scale) -> anyhow::Result<Round> {
    let app = QueueTasks::open(&SERVER.url()).await?;
    Ok(jobs::through(&app, scale.of(100_000)).await?.alone())
}

async fn measure_steps(scale: &Scale) -> anyhow::Result<Round> {
    let app = QueueTasks::open(&SERVER.url()).await?;
    Ok(steps::through(&app, scale.of(100_000)).await?.alone())
}

async fn measure_start(scale: &Scale) -> anyhow::Result<Round> {
    start::times(&QueueTasks::open(&SERVER.url()).await?, scale).await
}

async fn measure_held(scale: &Scale) -> anyhow::Result<Round> {
    const PARTS: u64 = 10;
    let app = QueueTasks::open(&SERVER.url()).await?;
    let (client, connection) =
        qtasks::postgres::tokio_postgres::connect(&SERVER.database(), qtasks::postgres::tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class").await?;
    let (mut first, mut last) = (None, None);
    for _ in 0..PARTS {
        let rate = jobs::through(&app, scale.of(500_000) / PARTS).await?;
        first.get_or_insert(rate.per_second);
        last = Some(rate);
    }
    client.batch_execute("COMMIT").await?;
    Ok(last.expect("there are parts").over(first.expect("there are parts")))
}
