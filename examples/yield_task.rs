//! An async task yields; each value goes through an async handler; what the handler returns is the result.
//!
//! ```sh
//! cargo run --example yield_task
//! QTASKS_URL=redis://localhost cargo run -p qtasks-examples --features redis --example yield_task
//! ```

use qtasks::prelude::*;
use qtasks_examples::store_url;

async fn yield_func(result: i64) -> i64 {
    println!("Обработан: {result}");
    result + 2
}

#[qtask(generate_handler = yield_func, echo = true)]
#[allow(clippy::mut_range_bound)] // the range is made from the first `n`, as on the page
async fn test_yield(mut n: i64) -> Vec<i64> {
    for _ in 0..n {
        n += 1;
        yield_!(n);
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // A folder that is deleted at the end; your own program would say `sqlite:qtasks.db`, and keep its jobs.
    let folder = tempfile::tempdir()?;
    let file = format!("sqlite:{}/qtasks.db", folder.path().display());
    let app = QueueTasks::open(&store_url(&file)).await?;
    let worker = app.worker().start().await?;

    let job = app.enqueue(test_yield(5)).await?;
    println!("{:?}", job.result().await?);

    worker.shutdown().await?;
    Ok(())
}
