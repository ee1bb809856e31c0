//! One process works, another watches the values as they come; all they share is a store, such as a SQLite file.
//!
//! ```sh
//! cargo run --example stream                          # both at once, in a temporary file
//! cargo run --example stream -- work sqlite:jobs.db   # or each in a terminal of its own, in any order
//! cargo run --example stream -- watch sqlite:jobs.db
//! ```

use std::{
    process::{self, Command},
    time::Duration,
};

use qtasks::prelude::*;
use qtasks_examples::store_url;

async fn square(n: u64) -> u64 {
    println!("[process {}] works on {n}", process::id());
    tokio::time::sleep(Duration::from_millis(100)).await;
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
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => work_and_watch().await,
        ["work", url] => work(url).await,
        ["watch", url] => watch(url).await,
        _ => anyhow::bail!("usage: stream [work URL | watch URL]"),
    }
}

/// Works until Ctrl-C.
async fn work(url: &str) -> anyhow::Result<()> {
    let app = QueueTasks::open(url).await?;
    app.worker().start().await?.until_signal().await?;
    Ok(())
}

/// Enqueues a job, and prints its values as soon as they are durable.
async fn watch(url: &str) -> anyhow::Result<()> {
    let app = QueueTasks::open(url).await?;
    let job = app.enqueue(squares(10)).await?;
    let mut values = job.stream();
    while let Some(value) = values.next().await {
        println!("[process {}] sees {}", process::id(), value?);
    }
    println!("{:?}", job.result().await?);
    Ok(())
}

/// Watches, while this program, started once more, works.
async fn work_and_watch() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let url = store_url(&format!("sqlite:{}/jobs.db", folder.path().display()));
    let mut worker = Command::new(std::env::current_exe()?).args(["work", &url]).spawn()?;
    let watched = watch(&url).await;
    worker.kill()?;
    worker.wait()?;
    watched
}
