//! What worker processes are given to do while something befalls them.

use std::{path::PathBuf, thread, time::Duration};

use qtasks::prelude::*;
use qtasks_tests::kills::ledger::now;

/// Takes longer than a lease, as its callers say.
#[qtask]
pub(crate) async fn naps(milliseconds: u64) {
    tokio::time::sleep(Duration::from_millis(milliseconds)).await;
}

#[qtask]
pub(crate) fn naps_blocking(milliseconds: u64) {
    thread::sleep(Duration::from_millis(milliseconds));
}

/// Yields `count` values, one in so many milliseconds.
#[qtask(checkpoint = "each")]
pub(crate) async fn ticks(count: u64, milliseconds: u64) -> Vec<u64> {
    for tick in 0..count {
        yield_!(tick);
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
    }
}

#[qtask(checkpoint = "each")]
pub(crate) fn ticks_blocking(count: u64, milliseconds: u64) -> Vec<u64> {
    for tick in 0..count {
        yield_!(tick);
        thread::sleep(Duration::from_millis(milliseconds));
    }
}

/// Keeps a processor busy, and never lets others have the thread.
#[qtask]
pub(crate) async fn burns(milliseconds: u64) -> u64 {
    let since = std::time::Instant::now();
    let mut turns = 0_u64;
    while since.elapsed().as_millis() < u128::from(milliseconds) {
        turns = std::hint::black_box(turns.wrapping_add(1));
    }
    turns
}

/// Gives when it started, on the clock that all processes of the machine share.
#[qtask]
pub(crate) async fn tells_when() -> u64 {
    now()
}

/// Yields, and then sleeps for a recorded time; gives how long that took, in milliseconds of that clock.
#[qtask(echo = true, checkpoint = "each")]
pub(crate) async fn dozes(ctx: TaskContext, milliseconds: u64) -> Vec<u64> {
    yield_!(0);
    let since = now();
    ctx.sleep(Duration::from_millis(milliseconds)).await;
    yield_!((now() - since) / 1_000_000);
}

#[qtask(echo = true, checkpoint = "each")]
pub(crate) fn dozes_blocking(ctx: TaskContext, milliseconds: u64) -> Vec<u64> {
    yield_!(0);
    let since = now();
    ctx.sleep_blocking(Duration::from_millis(milliseconds));
    yield_!((now() - since) / 1_000_000);
}

/// Holds on to its thread for ever.
#[qtask(max_time = "1s", retry = 0)]
pub(crate) fn hangs() {
    loop {
        thread::park();
    }
}

/// Needs two of the three seconds that it has.
#[qtask(max_time = "3s", retry = 0)]
pub(crate) fn needs_most_of_its_time() {
    thread::sleep(Duration::from_secs(2));
}

/// Yields a value in so many milliseconds until a file is there.
#[qtask(checkpoint = "each")]
pub(crate) async fn ticks_until(file: PathBuf, milliseconds: u64) -> Vec<u64> {
    for tick in 0.. {
        yield_!(tick);
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
        if file.exists() {
            break;
        }
    }
}

/// Goes on when a file is there.
#[qtask(retry = 50)]
pub(crate) async fn waits_for(file: PathBuf) {
    while !file.exists() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
