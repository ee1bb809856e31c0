use qtasks::prelude::*;

#[qtask]
async fn double(value: i64) -> i64 {
    value * 2
}

#[qtask(generate_handler = double)]
async fn numbers(n: i64) -> Vec<i64> {
    yield_!(n);
}

fn main() {}
