use qtasks::prelude::*;

async fn double(value: i64) -> String {
    (value * 2).to_string()
}

#[qtask(generate_handler = double)]
async fn numbers(n: i64) -> Vec<i64> {
    for i in 0..n {
        yield_!(i);
    }
}

fn main() {}
