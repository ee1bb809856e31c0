//! What the processes that get killed do.

use std::{fs::OpenOptions, io::Write as _, path::PathBuf};

use qtasks::{
    Count,
    prelude::*,
    sqlite::{Transaction, rusqlite},
};

/// A file to which every call of the handler adds a line: the value, and the process.
pub(crate) struct Ledger(pub(crate) PathBuf);

async fn enter(value: u64, ledger: State<Ledger>) -> std::io::Result<u64> {
    let mut file = OpenOptions::new().create(true).append(true).open(&ledger.0)?;
    file.write_all(format!("{value} {}\n", std::process::id()).as_bytes())?;
    Ok(value * 2)
}

/// Yields 0 up to `up_to`, doubled.
#[qtask(generate_handler = enter, checkpoint = "each")]
pub(crate) async fn doubles(up_to: u64) -> Vec<u64> {
    for value in 0..up_to {
        yield_!(value);
    }
}

fn insert(tx: &Transaction<'_>, value: u64, ctx: TaskContext) -> rusqlite::Result<()> {
    let mut insert = tx.prepare_cached("INSERT INTO inserted (job, value) VALUES (?1, ?2)")?;
    insert.execute((ctx.job_id().to_string(), value.cast_signed())).map(drop)
}

/// Inserts 0 up to `up_to` into a table `inserted`, each in the transaction of its step.
#[qtask(generate_handler = insert)]
pub(crate) async fn inserts(up_to: u64) -> Count {
    for value in 0..up_to {
        yield_!(value);
        if value % 100 == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    }
}

async fn enter_slowly(value: u64, ledger: State<Ledger>) -> std::io::Result<u64> {
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    enter(value, ledger).await
}

/// The same, and runs far ahead of what is recorded.
#[qtask(generate_handler = enter_slowly, checkpoint = "within 1m")]
pub(crate) async fn doubles_far_ahead(up_to: u64) -> Vec<u64> {
    for value in 0..up_to {
        yield_!(value);
    }
}

/// Ends the whole process.
#[qtask(retry = 2)]
pub(crate) async fn poison() {
    std::process::abort();
}

/// Keeps a processor busy.
#[qtask(queue = "hot")]
pub(crate) async fn burns(milliseconds: u64) -> u64 {
    let since = std::time::Instant::now();
    let mut turns = 0_u64;
    while since.elapsed().as_millis() < u128::from(milliseconds) {
        turns = std::hint::black_box(turns.wrapping_add(1));
    }
    turns
}

/// Holds on to its thread for ever.
#[qtask(max_time = "50ms", retry = 0)]
pub(crate) fn never_returns() {
    loop {
        std::thread::park();
    }
}
