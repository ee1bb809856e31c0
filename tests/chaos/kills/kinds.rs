//! The tasks that yield, to choose from; among them those whose handlers write in the transactions of one kind of store.
//!
//! A kind of handler that is new is added here: a task with it, and a variant of [`Kind`].

use qtasks::prelude::*;

use crate::{
    saves_on_postgres::saves_on_postgres,
    saves_on_sqlite::saves_on_sqlite,
    tasks::{async_each, async_within, blocking_each, blocking_within},
};

/// The tasks that yield.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    AsyncEach,
    AsyncWithin,
    BlockingEach,
    BlockingWithin,
    /// Its handler inserts a row in the transaction of its step, on SQLite,
    SavesOnSqlite,
    /// or on Postgres.
    SavesOnPostgres,
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
            Self::SavesOnSqlite => app.enqueue(saves_on_sqlite(first, count)).await,
            Self::SavesOnPostgres => app.enqueue(saves_on_postgres(first, count)).await,
        }
    }
}

/// The table that the last two fill.
pub(crate) const TABLE: &str = "CREATE TABLE handled (value BIGINT NOT NULL)";
