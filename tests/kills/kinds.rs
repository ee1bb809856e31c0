//! The tasks that yield, to choose from; among them one for SQLite alone.
//!
//! A kind of handler that is new is added here: a task with it, and a variant of [`Kind`].

use qtasks::{
    prelude::*,
    sqlite::{Transaction, rusqlite},
};
use qtasks_tests::kills::ledger::What;

use crate::tasks::{Site, async_each, async_within, blocking_each, blocking_within, reply, seq};

/// The tasks that yield.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    AsyncEach,
    AsyncWithin,
    BlockingEach,
    BlockingWithin,
    /// Its handler inserts a row in the transaction of its step.
    Transactional,
}

impl Kind {
    /// Those whose handlers may run again for what was not recorded.
    pub(crate) const ALL: [Self; 4] = [Self::AsyncEach, Self::AsyncWithin, Self::BlockingEach, Self::BlockingWithin];

    /// Enqueues a job that yields the `count` numbers from `first` on.
    pub(crate) async fn enqueue(self, app: &QueueTasks, first: u64, count: u64) -> qtasks::Result<JobHandle<Vec<u64>>> {
        match self {
            Self::AsyncEach => app.enqueue(async_each(first, count)).await,
            Self::AsyncWithin => app.enqueue(async_within(first, count)).await,
            Self::BlockingEach => app.enqueue(blocking_each(first, count)).await,
            Self::BlockingWithin => app.enqueue(blocking_within(first, count)).await,
            Self::Transactional => app.enqueue(transactional(first, count)).await,
        }
    }
}

/// The table that [`Kind::Transactional`] fills.
pub(crate) const TABLE: &str = "CREATE TABLE handled (value INTEGER NOT NULL)";

#[qtask(generate_handler = insert, echo = true, retry = 1_000_000)]
async fn transactional(ctx: TaskContext, site: State<Site>, first: u64, count: u64) -> Vec<u64> {
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
