use qtasks::prelude::*;

async fn descend(n: i64, co: Co<i64, i64>) {
    co.emit(n).await;
}

#[qtask]
async fn numbers(n: i64, co: Co<i64, i64>) -> Vec<i64> {
    descend(n, &co).await;
    co.yield_(n);
}

fn main() {}
