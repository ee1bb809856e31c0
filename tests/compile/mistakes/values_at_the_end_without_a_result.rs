use qtasks::prelude::*;

#[qtask]
async fn numbers(n: i64) -> Vec<i64> {
    let mut all = Vec::new();
    for i in 0..n {
        all.push(i);
        yield_!(i);
    }
    all
}

fn main() {}
