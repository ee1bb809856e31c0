use qtasks::prelude::*;

async fn double(value: i64) -> i64 {
    value * 2
}

#[qtask(generate_handler = double)]
async fn numbers(n: usize) -> Vec<i64> {
    for i in 0..n {
        yield_!(i);
    }
}

fn main() {}
