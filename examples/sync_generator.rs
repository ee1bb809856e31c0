//! A `fn` task and a `fn` handler: no async in either, so both may block. They run on a thread of their own.
//!
//! ```sh
//! cargo run --example sync_generator
//! ```

use qtasks::prelude::*;
use qtasks_examples::store_url;

fn sync_handler(value: i64) -> i64 {
    println!("SYNC: {value}");
    value * 2
}

#[qtask(generate_handler = sync_handler)]
fn sync_gen(n: i64) -> Vec<i64> {
    for i in 0..n {
        yield_!(i + 1);
    }
}

#[tokio::main]
async fn main() -> qtasks::Result<()> {
    // Jobs in memory end with the program; that suits a try, and tests.
    let app = QueueTasks::open(&store_url("memory:")).await?;
    let worker = app.worker().start().await?;

    let job = app.enqueue(sync_gen(5)).await?;
    println!("{:?}", job.result().await?);

    worker.shutdown().await
}
