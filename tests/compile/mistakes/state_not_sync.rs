use std::cell::RefCell;

use qtasks::prelude::*;

#[qtask]
async fn count(counter: State<RefCell<i64>>) -> i64 {
    *counter.borrow()
}

fn main() {}
