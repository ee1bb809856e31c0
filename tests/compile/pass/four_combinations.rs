#![deny(warnings)]

use std::io;

use qtasks::{Count, prelude::*};

struct Db;

fn sync(value: i64) -> i64 {
    value
}

async fn awaits(value: i64) -> i64 {
    value
}

fn sync_result(value: i64) -> Result<i64, String> {
    Ok(value)
}

async fn awaits_result(value: i64) -> io::Result<i64> {
    Ok(value)
}

fn sync_state(value: i64, _db: State<Db>) -> i64 {
    value
}

async fn awaits_both(value: i64, _db: State<Db>, _ctx: TaskContext) -> Result<i64, anyhow::Error> {
    Ok(value)
}

fn sync_context(value: i64, _ctx: TaskContext) -> Result<i64, anyhow::Error> {
    Ok(value)
}

macro_rules! combinations {
    ($($sync:ident $awaits:ident $handler:ident;)*) => {$(
        #[qtask(generate_handler = $handler)]
        fn $sync(n: i64) -> Vec<i64> {
            for i in 0..n {
                yield_!(i);
            }
        }

        #[qtask(generate_handler = $handler)]
        async fn $awaits(n: i64) -> Vec<i64> {
            for i in 0..n {
                yield_!(i);
            }
        }
    )*};
}

combinations! {
    a1 a2 sync;
    b1 b2 awaits;
    c1 c2 sync_result;
    d1 d2 awaits_result;
    e1 e2 sync_state;
    f1 f2 awaits_both;
    g1 g2 sync_context;
}

// A `Result` whose error can be stored itself is taken for a failure where the collection does not fix the reply.
#[qtask(generate_handler = sync_result)]
async fn counts() -> Count {
    yield_!(1);
}

#[qtask(generate_handler = awaits_both)]
fn counts_blocking() -> Result<Count, io::Error> {
    let reply: i64 = yield_!(1);
    assert_eq!(reply, 1);
    Ok(())
}

#[qtask(generate_handler = sync_result)]
async fn untyped() {
    let reply: i64 = yield_!(1);
    assert_eq!(reply, 1);
}

#[qtask(generate_handler = sync_result)]
async fn nothing_kept() -> () {
    yield_!(1);
}

#[qtask(generate_handler = sync_result, on_error = "skip")]
async fn skips(co: Co<i64, qtasks::Result<i64>>) -> anyhow::Result<Vec<i64>> {
    yield_!(1);
    let reply: qtasks::Result<i64> = co.yield_(2).await;
    reply?;
    Ok(())
}

#[test]
fn they_are_made() {
    let _ = (a1(1), a2(1), b1(1), b2(1), c1(1), c2(1), d1(1), d2(1), e1(1), e2(1), f1(1), f2(1), g1(1), g2(1));
    let _ = (counts(), counts_blocking(), untyped(), nothing_kept(), skips());
}
