//! Has a job done on a store, and says what came of it. A process of its own, for whom it trusts stands in its environment.

use qtasks::prelude::*;

#[qtask]
async fn double(number: u64) -> u64 {
    number * 2
}

#[tokio::main]
async fn main() -> qtasks::Result<()> {
    let url = std::env::args().nth(1).expect("it is told a URL");
    let app = QueueTasks::open(&url).await?;
    let job = app.enqueue(double(21)).await?;
    app.worker().run_until_idle().await?;
    println!("{}", job.result().await?);
    Ok(())
}
