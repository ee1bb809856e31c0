use qtasks::prelude::*;

fn double(value: &i64) -> i64 {
    value * 2
}

#[qtask(generate_handler = double)]
fn doubles(n: i64) -> Vec<i64> {
    for i in 0..n {
        yield_!(i);
    }
}

fn main() {}
