//! A worker to be killed on any store: it knows no task with a handler for the transactions of one, with which a worker
//! starts nowhere else.

// What only those use who start it and look at what it did.
#![allow(dead_code)]

mod tasks;
mod worker;

use std::{path::PathBuf, time::Duration};

use clap::Parser;

/// Works on a store until it is killed.
#[derive(Parser)]
struct Args {
    #[arg(long)]
    work_on: String,
    #[arg(long)]
    ledger: PathBuf,
    /// How many jobs it runs at a time.
    #[arg(long)]
    jobs: usize,
    /// How many milliseconds a handler takes.
    #[arg(long, default_value_t = 0)]
    pause: u64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Args { work_on, ledger, jobs, pause } = Args::parse();
    worker::work(&work_on, &ledger, jobs, Duration::from_millis(pause)).await
}
