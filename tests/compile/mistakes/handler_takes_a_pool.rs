use qtasks::prelude::*;

#[derive(Clone)]
struct SqlitePool;

async fn save(value: i64, pool: SqlitePool) -> i64 {
    drop(pool);
    value
}

#[qtask(generate_handler = save)]
async fn numbers(n: i64) -> Vec<i64> {
    yield_!(n);
}

fn main() {}
