//! When what stands in the log is written to the file itself: after a commit is answered rather than before, and best when
//! no call waits.

use std::time::{Duration, Instant};

use rusqlite::Connection;

/// From so many pages on it is done when there is nothing else to do, as SQLite would do it within a commit,
const SOME: usize = 1000;
/// and from so many on at once.
pub(super) const MANY: usize = 4000;
/// There is nothing else to do when nothing was committed for so long.
const QUIET: Duration = Duration::from_millis(20);

/// How much the log holds since the last time.
pub(super) struct Checkpoint {
    /// About: SQLite does not say without doing it.
    pages: usize,
    committed: Instant,
}

impl Checkpoint {
    pub(super) fn new(now: Instant) -> Self {
        Self { pages: 0, committed: now }
    }

    /// Takes note of a commit of so many rows.
    pub(super) fn committed(&mut self, rows: usize, now: Instant) {
        // The upper pages of the trees, and a few dozens of rows on each of those at the bottom, but in several trees.
        self.pages += 4 + rows.div_ceil(10);
        self.committed = now;
    }

    /// When to look again.
    pub(super) fn next(&self) -> Option<Instant> {
        (self.pages >= SOME).then(|| self.committed + QUIET)
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.pages >= MANY || self.next().is_some_and(|next| now >= next)
    }

    /// Writes what no reader holds up. What goes wrong comes again at the next commit, which can report it.
    pub(super) fn run(&mut self, connection: &Connection) {
        self.pages = 0;
        if let Err(error) = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())) {
            tracing::debug!(%error, "the log could not be written to the file");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{
        Store as _,
        sqlite::fixture::{new_job, store},
    };

    #[test]
    fn little_waits_for_a_quiet_moment_and_much_does_not() {
        let now = Instant::now();
        let mut checkpoint = Checkpoint::new(now);
        assert!(!checkpoint.is_due(now + Duration::from_secs(9)), "there is nothing");
        while checkpoint.next().is_none() {
            checkpoint.committed(1, now);
        }
        assert!(!checkpoint.is_due(now) && checkpoint.is_due(now + QUIET));
        checkpoint.committed(10 * MANY, now);
        assert!(checkpoint.is_due(now));
    }

    #[tokio::test]
    async fn the_log_does_not_grow_with_what_was_written() {
        let (_folder, store) = store().await;
        let size = || std::fs::metadata(store.writer.place.log()).unwrap().len();
        let mut sizes = Vec::new();
        for _ in 0..100 {
            store.enqueue((0..1000).map(|_| new_job()).collect()).await.unwrap();
            sizes.push(size());
        }
        // It is begun anew once it was written to the file, which may be early where the machine is busy. All that was
        // written is 13 MiB.
        assert!(sizes.iter().all(|size| *size < 8 << 20), "{sizes:?}");
    }
}
