//! A worker to be killed on SQLite, whose handlers can write in its transactions.

// What only those use who start it and look at what it did.
#![allow(dead_code)]

mod saves_on_sqlite;
mod tasks;
mod worker;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    worker::work_as_told().await
}
