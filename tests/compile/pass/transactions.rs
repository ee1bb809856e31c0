//! Handlers in the transactions of either store: the forms that there are, and whatever fixes their replies or does not.

use qtasks::{Count, postgres, prelude::*, sqlite};

struct Table(&'static str);

fn save(_tx: &sqlite::Transaction<'_>, value: i64) -> Result<i64, String> {
    Ok(value)
}

fn save_with(
    _tx: &sqlite::Transaction<'_>,
    value: i64,
    table: State<Table>,
    ctx: TaskContext,
) -> sqlite::rusqlite::Result<String> {
    Ok(format!("{value} in {} by {}", table.0, ctx.job_id()))
}

async fn send(tx: &mut postgres::Transaction<'_>, value: i64) -> Result<i64, postgres::tokio_postgres::Error> {
    let point = tx.savepoint("point").await?;
    point.execute("INSERT INTO sent VALUES ($1)", &[&value]).await?;
    point.commit().await?;
    tx.query_one("SELECT $1 + 1", &[&value]).await?.try_get(0)
}

async fn send_with_state(tx: &mut postgres::Transaction<'_>, value: i64, table: State<Table>) -> anyhow::Result<i64> {
    tx.batch_execute(table.0).await?;
    Ok(value)
}

async fn send_with_context(
    tx: &mut postgres::Transaction<'_>,
    value: i64,
    ctx: TaskContext,
    table: State<Table>,
) -> Result<String, qtasks::BoxError> {
    tx.batch_execute(table.0).await?;
    Ok(format!("{value} by {}", ctx.job_id()))
}

/// Its error could be stored too.
async fn send_or_say(_tx: &mut postgres::Transaction<'_>, value: i64) -> Result<i64, String> {
    Ok(value)
}

fn send_boxed<'t>(
    _tx: &'t mut postgres::Transaction<'_>,
    value: i64,
) -> futures::future::BoxFuture<'t, Result<i64, String>> {
    Box::pin(async move { Ok(value) })
}

macro_rules! tasks {
    ($($task:ident: $handler:path => $collection:ty;)*) => {$(
        #[qtask(generate_handler = $handler)]
        async fn $task(n: i64) -> $collection {
            yield_!(n);
        }
    )*};
}

tasks! {
    saves: save => Vec<i64>;
    saves_and_counts: save => Count;
    saves_with: save_with => Vec<String>;
    sends: send => Vec<i64>;
    sends_and_counts: send => Count;
    sends_with_state: send_with_state => std::collections::BTreeSet<i64>;
    sends_with_context: send_with_context => String;
    sends_or_says: send_or_say => Count;
    sends_boxed: send_boxed => ();
}

#[qtask(generate_handler = send_or_say)]
fn sends_for_nothing() {
    yield_!(1);
}

#[qtask(generate_handler = send, on_error = "skip", checkpoint = "each")]
fn sends_what_can_be_sent(n: i64) -> Vec<i64> {
    for value in 0..n {
        yield_!(value);
    }
}
