//! How many jobs each lane has, kept in two tables.
//!
//! A counter that each call raised would be a row that all calls wait for. So a statement that adds, moves or deletes jobs only
//! appends to `deltas`, in its own transaction: a row for each lane, with how many more jobs of it are in each state, or fewer.
//! Now and then a process folds these rows into `counts`. The two together are the counts, in any one snapshot.

use std::{
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::{Duration, Instant},
};

use tokio::{sync::Notify, time::sleep};

use super::{encoding, error::Fault, pool::Database};

/// A process that has written so many rows folds them, and those of others.
const MANY: u32 = 256;
/// A process folds no more often than once in this time.
const PAUSE: Duration = Duration::from_secs(2);
/// A fold may take this part of the time of a process: with an old snapshot around, the server keeps the rows that were folded,
/// and each fold passes over them.
const PART: u32 = 20;
/// How many rows one statement folds at most.
const AT_ONCE: i64 = 10_000;

/// Moves rows from `deltas` to `counts`, and gives how many; none where another process does so at the same time.
///
/// It does not wait for its commit to be durable: a crash of the server takes back both sides of it.
const FOLD: &str = "
    WITH turn AS MATERIALIZED (
        SELECT pg_try_advisory_xact_lock(1903453538, hashtext('qtasks.deltas')) AS mine
    ), gone AS (
        DELETE FROM qtasks.deltas d
        WHERE d.ctid = ANY (ARRAY(SELECT o.ctid FROM qtasks.deltas o WHERE (SELECT mine FROM turn) LIMIT 10000))
        RETURNING d.*
    ), sums AS MATERIALIZED (
        SELECT g.queue, g.task, coalesce(sum(g.waiting), 0) AS waiting, coalesce(sum(g.running), 0) AS running,
            coalesce(sum(g.done), 0) AS done, coalesce(sum(g.dead), 0) AS dead, coalesce(sum(g.cancelled), 0) AS cancelled,
            count(*) AS rows
        FROM gone g GROUP BY g.queue, g.task
    ), folded AS (
        INSERT INTO qtasks.counts AS c (queue, task, waiting, running, done, dead, cancelled)
        SELECT queue, task, waiting, running, done, dead, cancelled FROM sums ORDER BY queue, task
        ON CONFLICT (queue, task) DO UPDATE SET waiting = c.waiting + excluded.waiting,
            running = c.running + excluded.running, done = c.done + excluded.done, dead = c.dead + excluded.dead,
            cancelled = c.cancelled + excluded.cancelled
    )
    SELECT coalesce(sum(rows), 0)::int8, set_config('synchronous_commit', 'off', true) FROM sums";

/// When this process folds.
#[derive(Default)]
pub(super) struct Folding {
    /// How many rows this process has written since it folded last, or nearly.
    written: AtomicU32,
    there_are_many: Notify,
}

impl Folding {
    /// Notes that this process has written to `deltas`.
    pub(super) fn wrote(&self) {
        if self.written.fetch_add(1, Relaxed) + 1 >= MANY {
            self.there_are_many.notify_one();
        }
    }

    /// Notes that so many rows were found in `deltas`, by whichever process they were written.
    pub(super) fn found(&self, rows: i64) {
        if rows >= MANY.into() {
            self.there_are_many.notify_one();
        }
    }

    /// Folds when there is enough to fold, for as long as the store is open.
    pub(super) async fn go_on(&self, database: &Database) {
        loop {
            self.there_are_many.notified().await;
            let begun = Instant::now();
            self.fold(database).await;
            sleep(PAUSE.max(begun.elapsed() * PART)).await;
        }
    }

    /// Folds all that is there. What is not folded counts too, so a failure is left to the next time.
    pub(super) async fn fold(&self, database: &Database) {
        self.written.store(0, Relaxed);
        loop {
            match fold_some(database).await {
                Ok(AT_ONCE..) => {}
                Ok(_) => return,
                Err(fault) => return tracing::debug!(%fault, "counts of lanes were not folded"),
            }
        }
    }
}

async fn fold_some(database: &Database) -> Result<i64, Fault> {
    let rows = database.query(FOLD, &[]).await?;
    rows.first().map_or(Ok(0), |row| encoding::get(row, 0))
}
