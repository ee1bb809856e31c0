use qtasks::prelude::*;

async fn fetch(n: i64) -> i64 {
    n
}

#[qtask]
async fn numbers(n: i64) -> Vec<i64> {
    yield_!(fetch(n));
}

fn main() {}
