use std::sync::Mutex;

use qtasks::prelude::*;

#[qtask]
async fn numbers(counter: State<Mutex<i64>>) -> Vec<i64> {
    let mut count = counter.lock().unwrap();
    *count += 1;
    yield_!(*count);
    yield_!(*count);
}

fn main() {}
