//! Tasks that fail, each in its own way. Those that are tried again wait for a moment, so that the failure is said before the
//! next attempt starts.

use std::time::Duration;

use qtasks::{postgres, prelude::*, sqlite::Transaction};
use tracing::Instrument as _;

async fn says(value: u32) -> u32 {
    tracing::info!(value, "the handler says something");
    value
}

#[qtask(generate_handler = says)]
pub(crate) async fn says_something() -> Vec<u32> {
    tracing::info!("the body says something");
    yield_!(1);
    let spawned = async { tracing::info!("what the body has spawned says something") };
    tokio::spawn(spawned.in_current_span()).await.unwrap();
}

#[qtask(generate_handler = says)]
pub(crate) fn says_something_on_a_thread() -> Vec<u32> {
    tracing::info!("the body says something on its thread");
    yield_!(1);
}

fn says_within(_tx: &Transaction<'_>, value: u32) -> Result<u32, String> {
    tracing::info!(value, "the handler says something in its transaction");
    Ok(value)
}

#[qtask(generate_handler = says_within, queue = "sqlite")]
pub(crate) async fn says_something_in_a_transaction() -> Vec<u32> {
    yield_!(1);
}

async fn says_within_postgres(_tx: &mut postgres::Transaction<'_>, value: u32) -> Result<u32, String> {
    tracing::info!(value, "the handler says something in its transaction");
    Ok(value)
}

#[qtask(generate_handler = says_within_postgres, queue = "postgres")]
pub(crate) async fn says_something_in_postgres() -> Vec<u32> {
    yield_!(1);
}

#[derive(Debug, thiserror::Error)]
#[error("the picture is not resized")]
struct NotResized(#[source] std::num::ParseIntError);

fn failure() -> NotResized {
    NotResized("wide".parse::<u8>().unwrap_err())
}

#[qtask(backoff = "100ms..100ms")]
pub(crate) async fn fails_once() -> anyhow::Result<u32> {
    if TaskContext::current().attempt() == 1 { Err(failure().into()) } else { Ok(1) }
}

#[qtask(retry = 0)]
pub(crate) async fn fails() -> anyhow::Result<u32> {
    Err(failure().into())
}

#[qtask]
pub(crate) async fn gives_up() -> Result<u32, TaskError> {
    Err(TaskError::discard("there is no such picture"))
}

#[qtask(retry = 0)]
pub(crate) async fn panics() -> u32 {
    panic!("the picture is upside down")
}

#[qtask(max_time = "10ms", retry = 0)]
pub(crate) async fn takes_too_long() {
    std::future::pending().await
}

#[qtask(max_time = "10ms", retry = 0)]
pub(crate) fn takes_too_long_on_a_thread() {
    std::thread::sleep(Duration::from_millis(500));
}

fn refuses(value: u32) -> Result<u32, String> {
    Err(format!("picture {value} is broken"))
}

#[qtask(generate_handler = refuses, on_error = "skip")]
pub(crate) async fn skips(n: u32) -> Vec<u32> {
    for value in 0..n {
        yield_!(value);
    }
}

fn refuses_within(_tx: &Transaction<'_>, value: u32) -> Result<u32, String> {
    refuses(value)
}

#[qtask(generate_handler = refuses_within, on_error = "skip", queue = "sqlite")]
pub(crate) async fn skips_in_a_transaction(n: u32) -> Vec<u32> {
    for value in 0..n {
        yield_!(value);
    }
}

#[qtask(retry = 1, backoff = "100ms..100ms", checkpoint = "each")]
pub(crate) async fn diverges() -> Result<Vec<u32>, String> {
    yield_!(TaskContext::current().attempt());
    Err("the first attempt".to_owned())
}

#[qtask(retry = 0)]
pub(crate) async fn wants_a_number(number: u32) -> u32 {
    number
}

#[derive(serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) enum Colour {
    Red,
    Blue { depth: u8 },
}

#[qtask(retry = 0)]
pub(crate) async fn wants_a_colour(colour: Colour) -> Colour {
    colour
}

#[qtask(retry = 0)]
pub(crate) async fn wants_a_small_number(number: u8) -> u8 {
    number
}

#[qtask(retry = 0)]
pub(crate) async fn wants_a_character(character: char) -> char {
    character
}

#[qtask]
pub(crate) async fn snoozes() -> Result<u32, TaskError> {
    match TaskContext::current().attempt() {
        1 => Err(TaskError::snooze(Duration::from_millis(100))),
        attempt => Ok(attempt),
    }
}

#[qtask]
pub(crate) async fn calls_itself_off() -> Result<u32, TaskError> {
    Err(TaskError::cancel("the picture is gone"))
}

#[qtask]
pub(crate) async fn never_ends() {
    std::future::pending().await
}

#[qtask]
pub(crate) async fn counts(n: u32) -> Vec<u32> {
    for value in 0..n {
        yield_!(value);
    }
}

#[qtask]
pub(crate) async fn counts_slowly(n: u32) -> Vec<u32> {
    for value in 0..n + 30 {
        yield_!(value);
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
}

fn returns_it(value: String) -> String {
    value
}

#[qtask(generate_handler = returns_it)]
pub(crate) async fn keeps_a_secret(secret: String) -> Vec<String> {
    yield_!(secret);
}

fn refuses_it(_secret: String) -> Result<String, String> {
    Err("it is refused".to_owned())
}

#[qtask(generate_handler = refuses_it, on_error = "skip")]
pub(crate) async fn keeps_a_secret_and_skips(secret: String) -> Vec<String> {
    yield_!(secret);
}

#[qtask(generate_handler = returns_it, retry = 1, backoff = "1ms..1ms", checkpoint = "each")]
pub(crate) async fn keeps_a_secret_and_diverges(secret: String) -> Result<Vec<String>, String> {
    yield_!(format!("{secret} {}", TaskContext::current().attempt()));
    Err("the first attempt".to_owned())
}
