use qtasks::prelude::*;

#[qtask(echo = true)]
async fn double(ctx: TaskContext, n: i64) -> i64 {
    println!("{}", ctx.attempt());
    n * 2
}

fn start(ctx: TaskContext) {
    let _ = double(ctx, 5);
}

fn main() {
    drop(start);
}
