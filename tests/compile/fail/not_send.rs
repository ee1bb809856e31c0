use std::rc::Rc;

use qtasks::prelude::*;

async fn work() {}

#[qtask]
async fn yields() -> Vec<i64> {
    let rc = Rc::new(1);
    yield_!(*rc);
    yield_!(*rc);
}

#[qtask]
async fn plain() -> i64 {
    let rc = Rc::new(1);
    work().await;
    *rc
}

async fn handle(value: i64) -> i64 {
    let rc = Rc::new(value);
    work().await;
    *rc
}

#[qtask(generate_handler = handle)]
async fn handled() -> Vec<i64> {
    yield_!(1);
}

fn main() {}
