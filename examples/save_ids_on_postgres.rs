//! The same as `save_ids_once` on Postgres: the handler writes each value in the transaction in which that value is recorded,
//! and what it writes is there exactly once, whenever the process dies.
//!
//! ```sh
//! cargo run --example save_ids_on_postgres -- postgres://me:secret@localhost/app
//! ```

use anyhow::Context as _;
use qtasks::{
    postgres::{
        Transaction,
        tokio_postgres::{self, NoTls},
    },
    prelude::*,
};

// Others may wait for what this locks: what takes its time belongs into the body of the task.
async fn save_to_db(tx: &mut Transaction<'_>, value: String) -> Result<String, tokio_postgres::Error> {
    tx.execute("INSERT INTO users (value) VALUES ($1)", &[&value]).await?;
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
    let url = std::env::args().nth(1).context("which database? `postgres://me:secret@localhost/app`, say")?;

    // Jobs and users share one database: that is what makes one transaction of both.
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
    tokio::spawn(connection);
    client.batch_execute("CREATE TABLE IF NOT EXISTS users (value TEXT)").await?;
    let app = QueueTasks::open(&url).await?;
    let worker = app.worker().start().await?;

    let job = app.enqueue(ids()).await?;
    println!("{:?}", job.result().await?);

    worker.shutdown().await?;
    Ok(())
}
