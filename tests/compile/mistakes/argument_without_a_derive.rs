use qtasks::prelude::*;

struct User {
    name: String,
}

#[qtask]
async fn greet(user: User) -> String {
    format!("Hello, {}!", user.name)
}

fn main() {}
