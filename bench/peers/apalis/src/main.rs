//! Jobs a second that apalis runs, on SQLite, Redis or Postgres:
//!
//!     QTASKS_BESIDE=ADDRESS qtasks-peer-apalis through|drain JOBS
//!
//! `through` enqueues them one by one, 50 in flight, while the worker runs; `drain` works off those that wait.

use std::{
    env,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use apalis::prelude::*;
use apalis_postgres::{PgPool, PostgresStorage};
use apalis_redis::RedisStorage;
use apalis_sqlite::{SqliteConnectOptions, SqlitePool, SqlitePoolOptions, SqliteStorage};
use futures::{FutureExt as _, TryFutureExt as _, future::try_join_all};
use serde::{Deserialize, Serialize};

/// As for qtasks.
const IN_FLIGHT: u64 = 50;
const CONCURRENCY: usize = 64;
/// Larger ones "can improve throughput", say the documents of `Config::batch_size`; it is 10 by default.
const BATCH: usize = 100;
/// How often a worker looks that is told of nothing. Without it, it looks every 30 s, which is its heartbeat.
const LOOK: Duration = Duration::from_millis(2);

#[derive(Serialize, Deserialize)]
struct Filling {
    text: String,
}

fn filling() -> Filling {
    Filling { text: "x".repeat(88) }
}

/// The jobs that have not run yet.
static LEFT: AtomicU64 = AtomicU64::new(0);

async fn nothing(_filling: Filling, worker: WorkerContext) -> Result<(), BoxDynError> {
    if LEFT.fetch_sub(1, Relaxed) == 1 {
        worker.stop()?;
    }
    Ok(())
}

/// Measures what `$backend` runs, which takes from `$storage`: from its start until all that it ran is settled.
macro_rules! measure {
    ($storage:expr, $backend:expr, $drains:expr, $jobs:expr) => {{
        let (mut storage, drains, jobs) = ($storage, $drains, $jobs);
        LEFT.store(jobs, Relaxed);
        for _ in 0..if drains { jobs / 1_000 } else { 0 } {
            storage.push_bulk((0..1_000).map(|_| filling()).collect()).await?;
        }
        let worker = WorkerBuilder::new("peer").backend($backend).concurrency(CONCURRENCY);
        let worker = worker.parallelize(tokio::spawn).build(nothing);
        let start = Instant::now();
        let producers = (0..if drains { 0 } else { IN_FLIGHT }).map(|_| {
            let mut storage = storage.clone();
            async move {
                for _ in 0..jobs / IN_FLIGHT {
                    storage.push(filling()).await?;
                }
                anyhow::Ok(())
            }
        });
        let produced = tokio::spawn(try_join_all(producers.collect::<Vec<_>>()));
        tokio::try_join!(worker.run().map_err(anyhow::Error::from), produced.map(|produced| produced?))?;
        jobs as f64 / start.elapsed().as_secs_f64()
    }};
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let [work, jobs] = &arguments[..] else { bail!("it takes `through` or `drain`, and a number of jobs") };
    let address = env::var("QTASKS_BESIDE").context("QTASKS_BESIDE is the address of an empty database")?;
    let (drains, jobs) = (work == "drain", jobs.parse::<u64>()?);
    let rate = match address.split_once(':') {
        Some(("sqlite", _)) => on_sqlite(&address, drains, jobs).await?,
        Some(("redis", _)) => on_redis(&address, drains, jobs).await?,
        _ => on_postgres(&address, drains, jobs).await?,
    };
    println!("{rate:.0}");
    Ok(())
}

/// By one connection: more of them wait for each other, until one gives up.
async fn on_sqlite(address: &str, drains: bool, jobs: u64) -> anyhow::Result<f64> {
    let place: SqliteConnectOptions = address.parse()?;
    let place = place.create_if_missing(true).busy_timeout(Duration::from_secs(60));
    // `setup` turns `synchronous` off for the connection that it gets: that one is closed, so that all commits reach the disk.
    let first = SqlitePool::connect_with(place.clone()).await?;
    SqliteStorage::setup(&first).await?;
    first.close().await;
    let pool = SqlitePoolOptions::new().max_connections(1).connect_with(place).await?;
    let config = apalis_sqlite::Config::default().batch_size(BATCH);
    let storage = SqliteStorage::new(&pool).with_config(config);
    Ok(measure!(storage.clone(), storage.poll_with_interval(LOOK), drains, jobs))
}

async fn on_redis(address: &str, drains: bool, jobs: u64) -> anyhow::Result<f64> {
    let config = apalis_redis::Config::default().batch_size(BATCH);
    let storage = RedisStorage::new(apalis_redis::connect(address).await?).with_config(config);
    Ok(measure!(storage.clone(), storage.poll_with_interval(LOOK), drains, jobs))
}

/// With its notifications of jobs that are enqueued.
async fn on_postgres(address: &str, drains: bool, jobs: u64) -> anyhow::Result<f64> {
    let pool = PgPool::connect(address).await?;
    PostgresStorage::setup(&pool).await?;
    let config = apalis_postgres::Config::default().batch_size(BATCH);
    let storage = PostgresStorage::new(&pool).with_config(config);
    Ok(measure!(storage.clone(), storage.with_pubsub().poll_with_interval(LOOK), drains, jobs))
}
