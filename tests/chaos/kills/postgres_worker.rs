//! A worker to be killed on Postgres, whose handlers can write in its transactions.

// What only those use who start it and look at what it did.
#![allow(dead_code)]

mod saves_on_postgres;
mod tasks;
mod worker;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    worker::work_as_told().await
}
