//! The handler writes each value in the transaction in which that value is recorded: what it writes is there exactly once,
//! without an `ON CONFLICT`, whenever the process dies.
//!
//! ```sh
//! cargo run --example save_ids_once              # in a temporary file
//! cargo run --example save_ids_once -- users.db  # in a file of yours
//! ```

use qtasks::{
    prelude::*,
    sqlite::{Transaction, rusqlite},
};
use rusqlite::Connection;

// All that is written to the store waits for this: what takes its time belongs into the body of the task.
fn save_to_db(tx: &Transaction<'_>, value: String) -> rusqlite::Result<String> {
    tx.execute("INSERT INTO users (value) VALUES (?1)", [&value])?;
    println!("saved: {value}");
    Ok(value)
}

#[qtask(generate_handler = save_to_db)]
fn ids() -> Vec<String> {
    for id in 0..5 {
        yield_!(format!("user_{id}"));
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let temporary = || folder.path().join("users.db").display().to_string();
    let path = std::env::args().nth(1).unwrap_or_else(temporary);

    // Jobs and users share one file: that is what makes one transaction of both.
    Connection::open(&path)?.execute_batch("CREATE TABLE IF NOT EXISTS users (value TEXT)")?;
    let app = QueueTasks::open(&format!("sqlite:{path}")).await?;
    let worker = app.worker().start().await?;

    let job = app.enqueue(ids()).await?;
    println!("{:?}", job.result().await?);

    worker.shutdown().await?;
    Ok(())
}
