use qtasks::prelude::*;

#[qtask]
async fn numbers() -> Vec<i64> {
    yield_!(1);
}

async fn start(app: QueueTasks) -> qtasks::Result<()> {
    let job: JobHandle<String> = app.enqueue(numbers()).await?;
    let total: i64 = app.run(numbers()).await?;
    println!("{:?} {total}", job.result().await?);
    Ok(())
}

fn main() {
    drop(start);
}
