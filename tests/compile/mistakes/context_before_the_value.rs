use qtasks::prelude::*;

async fn double(ctx: TaskContext, value: i64) -> i64 {
    println!("{}", ctx.attempt());
    value * 2
}

#[qtask(generate_handler = double)]
async fn numbers(n: i64) -> Vec<i64> {
    yield_!(n);
}

fn main() {}
