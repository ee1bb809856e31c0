//! Each value that the task yields goes through an async handler; what the handler gives is the result.

use qtasks::prelude::*;

async fn yield_func(result: i64) -> i64 {
    println!("Обработан: {result}");
    result + 2
}

#[qtask(generate_handler = yield_func, echo = true)]
async fn test_yield(mut n: i64) -> Vec<i64> {
    for _ in 0..n {
        n += 1;
        yield_!(n);
    }
}

#[tokio::main]
async fn main() -> qtasks::Result<()> {
    let app = QueueTasks::open("memory:").await?;
    let worker = app.worker().start().await?;
    let job = app.enqueue(test_yield(5)).await?;
    println!("{:?}", job.result().await?);
    worker.shutdown().await
}
