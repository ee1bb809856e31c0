//! A worker to be killed on any store: it knows no task with a handler for the transactions of one, with which a worker
//! starts nowhere else.

// What only those use who start it and look at what it did.
#![allow(dead_code)]

mod tasks;
mod worker;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    worker::work_as_told().await
}
