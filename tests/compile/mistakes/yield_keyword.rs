use qtasks::prelude::*;

#[qtask]
async fn numbers() -> Vec<i64> {
    yield 1;
}

fn main() {}
