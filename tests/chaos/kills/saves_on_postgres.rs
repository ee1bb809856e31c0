//! A task whose handler writes in the transactions of Postgres.

use qtasks::{
    postgres::{Transaction, tokio_postgres},
    prelude::*,
};
use qtasks_tests::kills::ledger::What;

use crate::tasks::{Site, reply, seq};

#[qtask(generate_handler = insert, echo = true, retry = 1_000_000)]
pub(crate) async fn saves_on_postgres(ctx: TaskContext, site: State<Site>, first: u64, count: u64) -> Vec<u64> {
    site.started(&ctx).await;
    let last = first + count - 1;
    for value in first..last {
        yield_!(value);
    }
    // Else the body would come to its end long before its handlers do, and no kill would meet it.
    let _reply = yield_!(last);
    site.note(&ctx, What::Finished);
}

async fn insert(
    tx: &mut Transaction<'_>,
    value: u64,
    site: State<Site>,
    ctx: TaskContext,
) -> Result<u64, tokio_postgres::Error> {
    // Not waited for, since the row is the witness here.
    site.note(&ctx, What::Begun { seq: seq(&ctx), value });
    tx.execute("INSERT INTO handled (value) VALUES ($1)", &[&value.cast_signed()]).await?;
    site.ended(&ctx);
    Ok(reply(value))
}
