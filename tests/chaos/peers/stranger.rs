//! A worker process of another program on the same store: it knows none of the tasks of the others.

use std::{io, process::exit};

use anyhow::bail;
use qtasks::prelude::*;

#[qtask]
async fn something_else() {}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [url, queues, concurrency] = &args[..] else { bail!("usage: stranger URL QUEUE,QUEUE CONCURRENCY") };
    let app = QueueTasks::open(url).await?;
    let _worker = app.worker().queues(queues.split(',')).concurrency(concurrency.parse()?).start().await?;
    println!("works");
    // Nothing is said: the only news is the end.
    io::copy(&mut io::stdin(), &mut io::sink())?;
    exit(1);
}
