use qtasks::prelude::*;

#[derive(serde::Serialize)]
struct User {
    name: String,
}

#[qtask]
async fn greet(users: Vec<User>) -> usize {
    users.len()
}

fn main() {}
