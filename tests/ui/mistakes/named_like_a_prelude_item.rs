use qtasks::prelude::*;

#[qtask]
async fn u64(n: i64) -> i64 {
    let m: u64 = 5;
    n + m as i64
}

#[qtask]
async fn drop(n: i64) -> i64 {
    n
}

fn main() {}
