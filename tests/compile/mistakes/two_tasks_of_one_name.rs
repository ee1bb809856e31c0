use qtasks::prelude::*;

#[qtask]
async fn double(n: i64) -> i64 {
    n * 2
}

#[qtask]
async fn double(n: i64) -> i64 {
    n + n
}

fn main() {}
