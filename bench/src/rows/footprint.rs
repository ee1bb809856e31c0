//! What jobs that run once leave behind in Postgres.

use anyhow::{Context as _, anyhow};
use qtasks_tests::servers::postgres::tell;

use super::jobs::{enqueue, none_is_left, run_all, through};
use crate::{
    place::Place,
    row::{Floor, Round, Row, Scale, Unit},
    target::Kind,
};

pub(crate) const LOG: Row = Row {
    name: "log",
    what: "bytes of the server's log (WAL) for a job enqueued, run and done",
    unit: Unit::Bytes,
    floor: |kind| (kind == Kind::Postgres).then_some(Floor::Below(1_200.0)),
    own_server: true,
    on_disk: false,
    most_rounds: 1,
    measure: |scale| Box::pin(measure(scale, "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')")),
    ..Row::PLAIN
};

pub(crate) const DEAD: Row = Row {
    name: "dead",
    what: "dead rows that a hundred jobs leave, in all tables",
    unit: Unit::Percent,
    floor: |kind| (kind == Kind::Postgres).then_some(Floor::Below(20.0)),
    measure: |scale| Box::pin(measure(scale, "SELECT 100 * sum(n_dead_tup) FROM pg_stat_user_tables")),
    ..LOG
};

pub(crate) const GROWTH: Row = Row {
    name: "growth",
    what: "bytes of tables and indexes for a job that is kept",
    floor: |kind| (kind == Kind::Postgres).then_some(Floor::None),
    measure: |scale| Box::pin(measure(scale, SIZE)),
    ..LOG
};

pub(crate) const OLD_SNAPSHOT: Row = Row {
    name: "old-snapshot",
    what: "waiting jobs worked off while a transaction stays open: the last 50,000 of 500,000 over the first",
    unit: Unit::PerSecond,
    floor: |kind| (kind == Kind::Postgres).then_some(Floor::Part(0.9)),
    on_disk: true,
    measure: |scale| Box::pin(measure_with_an_old_snapshot(scale)),
    ..LOG
};

/// How many bytes the tables and indexes of the database take.
pub(super) const SIZE: &str = "SELECT pg_database_size(current_database())";

/// What a job adds to what the query says.
async fn measure(scale: &Scale, query: &'static str) -> anyhow::Result<Round> {
    let (place, jobs) = (Place::new(scale)?, scale.of(100_000));
    let app = place.app().await?;
    let before = ask(&place, query)?;
    through(scale, &app, jobs).await?;
    drop(app);
    // Each backend adds its counts when it ends, or is idle for a second.
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    let this = (ask(&place, query)? - before) / jobs as f64;
    Ok(Round::Figure { this, baseline: None, processor: None })
}

pub(super) fn ask(place: &Place, query: &str) -> anyhow::Result<f64> {
    let answer = tell(&database(place)?, query).map_err(|error| anyhow!(error))?;
    Ok(answer.trim().parse().unwrap_or(0.0))
}

fn database(place: &Place) -> anyhow::Result<String> {
    let url = place.url();
    url.split_once('?').map(|(database, _)| database.to_owned()).context("the URL names a schema")
}

async fn measure_with_an_old_snapshot(scale: &Scale) -> anyhow::Result<Round> {
    use qtasks::postgres::tokio_postgres::{NoTls, connect};
    let (place, jobs) = (Place::new(scale)?, scale.of(50_000));
    let app = place.app().await?;
    enqueue(&app, jobs).await?;
    let (holder, connection) = connect(&database(&place)?, NoTls).await?;
    tokio::spawn(connection);
    holder.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1").await?;
    let mut rates = Vec::new();
    for _ in 0..10 {
        let start = std::time::Instant::now();
        run_all(&app).await?;
        rates.push(crate::row::per_second(jobs, start.elapsed()));
        none_is_left(&app).await?;
        enqueue(&app, jobs).await?;
    }
    Ok(Round::Figure { this: rates[9], baseline: Some(rates[0]), processor: None })
}
