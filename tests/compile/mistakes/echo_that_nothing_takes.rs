#![deny(warnings)]
use qtasks::prelude::*;

#[qtask(echo = true)]
async fn nothing_receives_it(n: i64) -> i64 {
    n
}

fn main() {}
