//! A task whose handler writes in the transactions of SQLite.

use qtasks::{
    prelude::*,
    sqlite::{Transaction, rusqlite},
};
use qtasks_tests::kills::ledger::What;

use crate::tasks::{Site, reply, seq};

#[qtask(generate_handler = insert, echo = true, retry = 1_000_000)]
pub(crate) async fn saves_on_sqlite(ctx: TaskContext, site: State<Site>, first: u64, count: u64) -> Vec<u64> {
    site.started(&ctx).await;
    for value in first..first + count {
        yield_!(value);
    }
    site.note(&ctx, What::Finished);
}

fn insert(tx: &Transaction<'_>, value: u64, site: State<Site>, ctx: TaskContext) -> rusqlite::Result<u64> {
    // Not waited for, since the row is the witness here, and all writes wait for this handler.
    site.note(&ctx, What::Begun { seq: seq(&ctx), value });
    tx.prepare_cached("INSERT INTO handled (value) VALUES (?1)")?.execute([value.cast_signed()])?;
    site.ended(&ctx);
    Ok(reply(value))
}
