use qtasks::prelude::*;

#[derive(Debug)]
struct Failed;

async fn check(value: i64) -> Result<i64, Failed> {
    if value == 0 { Err(Failed) } else { Ok(value) }
}

#[qtask(generate_handler = check)]
async fn numbers(n: i64) -> Vec<i64> {
    yield_!(n);
}

fn main() {}
