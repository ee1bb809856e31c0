use std::{rc::Rc, time::Duration};

use qtasks::{postgres::Transaction, prelude::*};

fn saves_at_once(_tx: &mut Transaction<'_>, value: i64) -> Result<i64, String> {
    Ok(value)
}

async fn saves_without_a_result(_tx: &mut Transaction<'_>, value: i64) -> i64 {
    value
}

async fn takes_it_shared(_tx: &Transaction<'_>, value: i64) -> Result<i64, String> {
    Ok(value)
}

async fn cannot_go_from_thread_to_thread(_tx: &mut Transaction<'_>, value: i64) -> Result<i64, String> {
    let shared = Rc::new(value);
    tokio::time::sleep(Duration::ZERO).await;
    Ok(*shared)
}

#[qtask(generate_handler = saves_at_once)]
async fn a() -> Vec<i64> {
    yield_!(1);
}

#[qtask(generate_handler = saves_without_a_result)]
async fn b() -> Vec<i64> {
    yield_!(1);
}

#[qtask(generate_handler = takes_it_shared)]
fn c() -> Vec<i64> {
    yield_!(1);
}

#[qtask(generate_handler = cannot_go_from_thread_to_thread)]
fn d() -> Vec<i64> {
    yield_!(1);
}

fn main() {}
