use qtasks::prelude::*;

#[qtask]
async fn numbers() -> Vec<i64> {
    yield_!("one");
}

fn main() {}
