use qtasks::prelude::*;

#[qtask]
async fn pick(n: i64) -> Option<i64> {
    yield_!(n);
}

#[qtask]
async fn pair(n: i64) -> (i64, i64) {
    yield_!(n);
}

#[qtask]
async fn slice(n: i64) -> [i64; 1] {
    yield_!(n);
}

fn main() {}
