use qtasks::prelude::*;

#[derive(Clone)]
struct SqlitePool;

#[qtask]
async fn import(pool: SqlitePool, rows: u64) {
    let _ = (pool, rows);
}

fn main() {}
