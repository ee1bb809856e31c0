use qtasks::prelude::*;

#[qtask]
async fn double(n: i64) -> i64 {
    n * 2
}

async fn start(app: QueueTasks) -> qtasks::Result<i64> {
    let job = app.enqueue(double(5))?;
    job.result().await
}

fn main() {
    drop(start);
}
