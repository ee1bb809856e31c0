use qtasks::prelude::*;

struct Report;

#[qtask]
async fn Report(n: i64) -> i64 {
    n
}

fn main() {}
