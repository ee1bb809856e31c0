//! One process works, another watches the values as they come; all they share is a SQLite file.
//!
//! ```sh
//! cargo run --example stream                   # both at once, in a temporary file
//! cargo run --example stream -- work jobs.db   # or each in a terminal of its own, in any order
//! cargo run --example stream -- watch jobs.db
//! ```

use std::{
    process::{self, Command},
    time::Duration,
};

use qtasks::prelude::*;

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
        ["work", file] => work(file).await,
        ["watch", file] => watch(file).await,
        _ => anyhow::bail!("usage: stream [work FILE | watch FILE]"),
    }
}

/// Works until Ctrl-C.
async fn work(file: &str) -> anyhow::Result<()> {
    let app = QueueTasks::open(&format!("sqlite:{file}")).await?;
    app.worker().start().await?.until_signal().await?;
    Ok(())
}

/// Enqueues a job, and prints its values as soon as they are durable.
async fn watch(file: &str) -> anyhow::Result<()> {
    let app = QueueTasks::open(&format!("sqlite:{file}")).await?;
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
    let file = folder.path().join("jobs.db").display().to_string();
    let mut worker = Command::new(std::env::current_exe()?).args(["work", &file]).spawn()?;
    let watched = watch(&file).await;
    worker.kill()?;
    worker.wait()?;
    watched
}
