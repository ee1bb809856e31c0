//! A store of one's own: jobs in a log file. It is written with the public API alone, and keeps the rules of every store.
//!
//! ```sh
//! cargo run --example log_store              # in a temporary file
//! cargo run --example log_store -- jobs.log  # in a file of yours
//! cargo test --test log_store                # the rules, each a test of its own
//! ```
//!
//! The file holds what every call has changed, and the rest is in memory: so it is for one process, and for as many jobs
//! as fit there. What it shows is how a store is made: it decides nothing about tasks, and reads no clock.

mod draft;
mod log;
mod store;
mod table;

use std::{path::PathBuf, sync::Arc};

use qtasks::{
    prelude::*,
    store::{Budget, Find},
};

use crate::store::LogStore;

async fn square(n: u64) -> u64 {
    n * n
}

#[qtask(generate_handler = square)]
async fn squares(up_to: u64) -> Vec<u64> {
    for n in 1..=up_to {
        yield_!(n);
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let path = std::env::args().nth(1).map_or_else(|| folder.path().join("jobs.log"), PathBuf::from);

    // Where others say `.store("sqlite:qtasks.db")`.
    let app = QueueTasks::builder().store_at(Arc::new(LogStore::open(path)?)).build().await?;
    let worker = app.worker().start().await?;

    let job = app.enqueue(squares(5)).await?;
    println!("{:?}", job.result().await?);
    println!(
        "jobs in the log: {}",
        app.find(Find::default().oldest_first()).budget(Budget::jobs(usize::MAX)).await?.jobs.len()
    );

    worker.shutdown().await?;
    Ok(())
}
