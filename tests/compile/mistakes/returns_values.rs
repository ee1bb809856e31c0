use qtasks::prelude::*;

#[qtask]
async fn numbers(n: i64) -> Vec<i64> {
    if n == 0 {
        return vec![];
    }
    for i in 0..n {
        yield_!(i);
    }
}

fn main() {}
