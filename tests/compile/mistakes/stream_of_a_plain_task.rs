use qtasks::prelude::*;

#[qtask]
async fn report() -> i64 {
    1
}

async fn watch(app: QueueTasks) -> qtasks::Result<()> {
    let job = app.enqueue(report()).await?;
    let mut values = job.stream();
    while let Some(value) = values.next().await {
        println!("{}", value?);
    }
    Ok(())
}

fn main() {
    drop(watch);
}
