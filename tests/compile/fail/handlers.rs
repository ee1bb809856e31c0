use qtasks::{Count, prelude::*, sqlite::Transaction};

struct Db;
struct NotStored;

fn takes_text(value: String) -> i64 {
    value.len() as i64
}

async fn gives_text(value: i64) -> String {
    value.to_string()
}

fn takes_nothing() -> i64 {
    1
}

fn takes_two(value: i64, other: i64) -> i64 {
    value + other
}

async fn takes_db(value: i64, _db: Db) -> i64 {
    value
}

fn gives_what_cannot_be_stored(_: i64) -> NotStored {
    NotStored
}

fn fails_with_no_error(_: i64) -> Result<i64, NotStored> {
    Ok(1)
}

fn generic<T: serde::Serialize>(value: T) -> T {
    value
}

const NO_FUNCTION: i64 = 1;

#[qtask(generate_handler = takes_text)]
async fn a() -> Vec<i64> {
    yield_!(1_i64);
}

#[qtask(generate_handler = gives_text)]
fn b() -> Vec<i64> {
    yield_!(1);
}

#[qtask(generate_handler = takes_nothing)]
async fn c() -> Vec<i64> {
    yield_!(1);
}

#[qtask(generate_handler = takes_two)]
async fn d() -> Vec<i64> {
    yield_!(1);
}

#[qtask(generate_handler = takes_db)]
async fn e() -> Vec<i64> {
    yield_!(1);
}

#[qtask(generate_handler = gives_what_cannot_be_stored)]
async fn f() -> Count {
    yield_!(1);
}

#[qtask(generate_handler = fails_with_no_error)]
async fn g() -> Vec<i64> {
    yield_!(1);
}

#[qtask(generate_handler = generic)]
async fn h() -> Vec<i64> {
    yield_!(1_i64);
}

#[qtask(generate_handler = NO_FUNCTION)]
async fn i() -> Vec<i64> {
    yield_!(1);
}

#[qtask(generate_handler = gives_text)]
async fn j(co: Co<String, String>) -> Vec<String> {
    co.emit("text".to_owned()).await;
}

async fn saves_later(_tx: &Transaction<'_>, value: i64) -> Result<i64, String> {
    Ok(value)
}

fn saves_without_a_result(_tx: &Transaction<'_>, value: i64) -> i64 {
    value
}

fn takes_the_transaction_last(value: i64, _tx: &Transaction<'_>) -> Result<i64, String> {
    Ok(value)
}

#[qtask(generate_handler = saves_later)]
async fn k() -> Vec<i64> {
    yield_!(1);
}

#[qtask(generate_handler = saves_without_a_result)]
fn l() -> Vec<i64> {
    yield_!(1);
}

#[qtask(generate_handler = takes_the_transaction_last)]
async fn m() -> Vec<i64> {
    yield_!(1);
}

fn main() {}
