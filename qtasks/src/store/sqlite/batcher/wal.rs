//! When what stands in the log is written to the file itself: after a commit is answered rather than before, and best when
//! no call waits.
//!
//! The log takes room that jobs need, and writing it to the file takes room too. So on a small or nearly full volume that is
//! done early, and the log is emptied then; elsewhere it is only begun anew, since a file of the same size is faster.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use rusqlite::Connection;

use crate::store::sqlite::url::StoreUrl;

/// From so many bytes on the log is written to the file when there is nothing else to do; SQLite would do that within a commit.
const SOME: u64 = 4 << 20;
/// From so many bytes on the log is written to the file at once.
const MANY: u64 = 16 << 20;
/// On a small volume it is written at once from this fraction of the room on: one in so many bytes.
const SHARE: u64 = 8;
/// With fewer bytes than this the log is never written at once.
const LEAST: u64 = 64 << 10;
/// A log that has grown larger than this is emptied.
pub(crate) const LARGEST: i64 = 32 << 20;
/// At so many pages SQLite does it within a commit: past this the thread lags behind itself.
pub(crate) const TOO_MANY_PAGES: i64 = 8_000;
/// There is nothing else to do when nothing was committed for so long.
const QUIET: Duration = Duration::from_millis(20);
/// A large log is not needed soon when nothing was committed for so long.
const IDLE: Duration = Duration::from_secs(5);
/// How often the room on the volume is measured.
const MEASURED_EVERY: Duration = Duration::from_secs(1);
/// So much room is not given to new jobs, or one in `SHARE` bytes of the volume where that is less: the jobs that are there need
/// it to end.
const RESERVE: u64 = 1 << 20;
const PAGE: u64 = 4096;

/// How much the log holds that is not written to the file.
pub(crate) struct Wal {
    /// About how many bytes wait to be written to the file, rather too many: SQLite gives the number only when it writes them.
    backlog: u64,
    /// The size of the log, which is no smaller after it was begun anew.
    log: u64,
    path: PathBuf,
    committed: Instant,
    volume: Volume,
}

/// How much room the volume had when it was measured last.
struct Volume {
    folder: PathBuf,
    measured: Instant,
    /// How many bytes are free, besides those that the log takes.
    free: u64,
    size: u64,
}

impl Wal {
    pub(crate) fn new(url: &StoreUrl, now: Instant) -> Self {
        let volume = Volume::measure(url.folder(), now);
        Self { backlog: 0, log: 0, path: url.log(), committed: now, volume }
    }

    /// Takes note of a commit of so many rows, after which the log has so many bytes.
    pub(crate) fn committed(&mut self, rows: usize, log: u64, now: Instant) {
        // The upper pages of the trees, and a few dozens of rows on each of those at the bottom, but in several trees.
        let about = (4 + rows.div_ceil(10) as u64).saturating_mul(PAGE);
        let grown = log.saturating_sub(self.log);
        self.backlog = self.backlog.saturating_add(about.max(grown));
        self.log = log;
        self.committed = now;
        if now.duration_since(self.volume.measured) >= MEASURED_EVERY {
            self.volume.measure_again(now);
        }
    }

    /// When to look again.
    pub(crate) fn next(&self) -> Option<Instant> {
        if self.backlog >= self.many().min(SOME) {
            return Some(self.committed + QUIET);
        }
        (self.log > SOME).then(|| self.committed + IDLE)
    }

    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.backlog >= self.many() || self.next().is_some_and(|next| now >= next)
    }

    /// Writes to the file what no reader holds up. An error is not lost: the next commit meets it too, and can report it.
    pub(crate) fn run(&mut self, connection: &Connection, now: Instant) {
        let idle = now >= self.committed + IDLE;
        if idle || self.is_tight() || self.log > LARGEST as u64 {
            self.empty(connection);
        } else if let Err(error) = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())) {
            tracing::debug!(%error, "the log could not be written to the file");
        }
        self.backlog = 0;
        if idle {
            // A reader that keeps the log from being emptied may do so for long.
            self.log = 0;
        }
    }

    /// Writes what the log holds to the file, and empties the log; gives whether that made it smaller.
    pub(crate) fn empty(&mut self, connection: &Connection) -> bool {
        let size = || fs::metadata(&self.path).map_or(0, |found| found.len());
        let before = size();
        if let Err(error) = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())) {
            tracing::debug!(%error, "the log could not be emptied");
        }
        self.log = size();
        self.volume.measure_again(Instant::now());
        self.log < before
    }

    /// Whether there is so little room that the log has to be kept small.
    pub(crate) fn is_tight(&self) -> bool {
        self.many() < MANY
    }

    /// How many bytes are free, if they are so few that jobs which are there need them.
    pub(crate) fn reserved(&mut self, now: Instant) -> Option<u64> {
        if !self.is_tight() {
            return None;
        }
        self.volume.measure_again(now);
        let room = self.volume.free.saturating_add(self.log);
        (room < RESERVE.min(self.volume.size / SHARE)).then_some(room)
    }

    fn many(&self) -> u64 {
        (self.volume.free.saturating_add(self.log) / SHARE).clamp(LEAST, MANY)
    }
}

impl Volume {
    fn measure(folder: PathBuf, now: Instant) -> Self {
        let (free, size) = room(&folder);
        Self { folder, measured: now, free, size }
    }

    fn measure_again(&mut self, now: Instant) {
        (self.free, self.size) = room(&self.folder);
        self.measured = now;
    }
}

/// How many bytes are free on the volume of a folder, and how many it has.
#[cfg(unix)]
fn room(folder: &std::path::Path) -> (u64, u64) {
    let found = rustix::fs::statvfs(folder);
    found.map_or((u64::MAX, u64::MAX), |volume| {
        (volume.f_bavail.saturating_mul(volume.f_frsize), volume.f_blocks.saturating_mul(volume.f_frsize))
    })
}

/// As if there were enough.
#[cfg(not(unix))]
fn room(_folder: &std::path::Path) -> (u64, u64) {
    (u64::MAX, u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{
        Store as _,
        sqlite::fixture::{new_job, store},
    };

    const MIB: u64 = 1 << 20;

    fn on_a_volume(free: u64, now: Instant) -> Wal {
        let volume = Volume { folder: PathBuf::from("/"), measured: now, free, size: 1000 * MIB };
        Wal { backlog: 0, log: 0, path: PathBuf::new(), committed: now, volume }
    }

    #[test]
    fn little_waits_for_a_quiet_moment_and_much_does_not() {
        let now = Instant::now();
        let mut wal = on_a_volume(1000 * MIB, now);
        assert!(!wal.is_due(now + Duration::from_secs(9)), "there is nothing");
        while wal.next().is_none() {
            wal.committed(1, SOME, now);
        }
        assert!(!wal.is_due(now) && wal.is_due(now + QUIET));
        wal.committed(100_000, 2 * MANY, now);
        assert!(wal.is_due(now));
    }

    #[test]
    fn a_log_that_has_grown_counts_by_its_real_size() {
        let now = Instant::now();
        let mut wal = on_a_volume(1000 * MIB, now);
        wal.committed(1, MANY, now);
        assert!(wal.is_due(now), "a row may be a large one");
    }

    #[test]
    fn on_a_small_volume_little_is_much() {
        let now = Instant::now();
        let mut wal = on_a_volume(8 * MIB, now);
        wal.committed(1, MIB / 2, now);
        assert!(!wal.is_due(now));
        wal.volume.free = 7 * MIB;
        wal.committed(1, MIB, now);
        assert!(wal.is_due(now) && wal.is_tight());
    }

    #[test]
    fn a_large_log_is_emptied_once_when_nothing_is_committed_any_more() {
        let now = Instant::now();
        let mut wal = on_a_volume(1000 * MIB, now);
        let connection = Connection::open_in_memory().unwrap();
        wal.committed(1, LARGEST as u64, now);
        wal.run(&connection, now);
        assert!(!wal.is_due(now + QUIET) && wal.is_due(now + IDLE));
        wal.run(&connection, now + IDLE);
        assert_eq!(wal.next(), None);
    }

    #[tokio::test]
    async fn the_log_does_not_grow_with_what_was_written() {
        let (_folder, store) = store().await;
        let size = || std::fs::metadata(store.writer.files.url.log()).unwrap().len();
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
