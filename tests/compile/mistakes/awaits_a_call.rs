use qtasks::prelude::*;

#[qtask]
async fn double(n: i64) -> i64 {
    n * 2
}

#[tokio::main]
async fn main() {
    let doubled = double(5).await;
    println!("{doubled}");
}
