use qtasks::prelude::*;

struct User {
    name: String,
}

#[qtask]
async fn greet(user: User) -> String {
    format!("Hello, {}!", user.name)
}

async fn sign_up(app: QueueTasks) -> qtasks::Result<()> {
    let job = app.enqueue(greet(User { name: "Ada".into() })).await?;
    println!("{}", job.result().await?);
    Ok(())
}

fn main() {
    drop(sign_up);
}
