use qtasks::prelude::*;

async fn double(n: i64) -> i64 {
    n * 2
}

async fn start(app: QueueTasks) -> qtasks::Result<()> {
    app.enqueue(double(5)).await?;
    Ok(())
}

fn main() {
    drop(start);
}
