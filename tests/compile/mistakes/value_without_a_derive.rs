use qtasks::prelude::*;

struct Row {
    id: u64,
}

#[qtask]
async fn rows() -> Vec<Row> {
    yield_!(Row { id: 1 });
}

fn main() {}
