use std::collections::BTreeMap;

use qtasks::prelude::*;

async fn text(value: i64) -> String {
    value.to_string()
}

#[qtask]
async fn scalar() -> i64 {
    yield_!(1);
}

#[qtask]
fn tuple() -> (i64, i64) {
    yield_!(1);
}

#[qtask]
async fn other_items() -> Vec<String> {
    yield_!(1_i64);
}

#[qtask(generate_handler = text)]
async fn other_replies() -> Result<Vec<i64>, TaskError> {
    yield_!(1);
    Ok(())
}

#[qtask]
async fn no_pairs() -> BTreeMap<String, i64> {
    yield_!("a".to_owned());
}

#[qtask]
async fn no_text() -> String {
    yield_!(1_i64);
}

#[qtask]
async fn result_of_scalar() -> Result<i64, TaskError> {
    yield_!(1);
    Ok(())
}

fn main() {}
