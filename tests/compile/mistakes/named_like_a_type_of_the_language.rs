use qtasks::prelude::*;

#[qtask]
async fn u64(n: i64) -> i64 {
    n
}

fn main() {
    let n: u64 = 5;
    println!("{n}");
}
