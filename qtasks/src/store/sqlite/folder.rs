//! The folder of a database, whose time says whether a file has come to it or gone away.
//!
//! File systems count times in ticks. A change within the tick of the one before leaves the time as it is; so a time is relied
//! on only when the files were looked at once more, a while after it was first seen. One that has no parts of a second may
//! come from a file system that counts whole ones, and is never relied on.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::{
    identity::{Identity, identity},
    url::StoreUrl,
};

/// Longer than a tick of any file system that counts parts of seconds.
const TICK: Duration = Duration::from_millis(50);
/// How often the files are looked at where the folder says nothing.
const LOOKED_AT_EVERY: Duration = Duration::from_millis(100);

/// The folder of a database, and when its files were looked at.
pub(super) struct Folder {
    path: PathBuf,
    /// The log, for its size. `None` where the path of the database is a link, since links stand in other folders.
    log: Option<File>,
    seen: Mutex<Option<Seen>>,
}

#[derive(Clone, Copy)]
struct Seen {
    stamp: Stamp,
    first: Instant,
    /// When the files were last found unchanged.
    looked: Instant,
}

/// Which folder it is, and when it last changed, in seconds and nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    folder: Identity,
    changed: (i64, i64),
}

impl Folder {
    pub(super) fn of(url: &StoreUrl) -> Self {
        let log = (url.named == url.path).then(|| File::open(url.log()).ok()).flatten();
        Self { path: url.folder(), log, seen: Mutex::default() }
    }

    /// How many bytes the log has, if the files need not be looked at. Otherwise `look` does, and gives that itself.
    pub(super) fn or_look<E>(&self, look: impl FnOnce() -> Result<u64, E>) -> Result<u64, E> {
        let Some(log) = &self.log else { return look() };
        // Before the look: what changes behind it changes the time.
        let (now, stamp) = (Instant::now(), self.stamp().ok());
        let seen = stamp.and_then(|stamp| self.seen().filter(|seen| seen.stamp == stamp));
        if let Some(seen) = seen
            && seen.is_fresh(now)
            && let Ok(found) = log.metadata()
        {
            return Ok(found.len());
        }
        let size = look()?;
        let first = seen.map_or(now, |seen| seen.first);
        *self.lock() = stamp.map(|stamp| Seen { stamp, first, looked: now });
        Ok(size)
    }

    fn stamp(&self) -> io::Result<Stamp> {
        let found = fs::metadata(&self.path)?;
        Ok(Stamp { folder: identity(&found), changed: (found.mtime(), found.mtime_nsec()) })
    }

    fn seen(&self) -> Option<Seen> {
        *self.lock()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    /// Whether the files were looked at a while after the folder had this time, and not long ago.
    fn is_fresh(&self, now: Instant) -> bool {
        self.stamp.changed.1 != 0 && self.looked >= self.first + TICK && now < self.looked + LOOKED_AT_EVERY
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sqlite::fixture::store;

    fn seen(changed: (i64, i64), first: Instant, looked: Instant) -> Seen {
        Seen { stamp: Stamp { folder: (1, 1), changed }, first, looked }
    }

    #[test]
    fn a_time_is_relied_on_once_the_files_were_looked_at_after_its_tick() {
        let first = Instant::now();
        let (soon, later) = (first + TICK / 2, first + TICK);
        assert!(!seen((9, 5), first, first).is_fresh(later) && !seen((9, 5), first, soon).is_fresh(later));
        assert!(seen((9, 5), first, later).is_fresh(later));
        assert!(!seen((9, 5), first, later).is_fresh(later + LOOKED_AT_EVERY), "the files are looked at again");
        assert!(!seen((9, 0), first, later).is_fresh(later), "it may count whole seconds");
    }

    #[tokio::test]
    async fn a_file_that_goes_away_is_noticed_where_the_folder_was_relied_on() {
        let (folder, store) = store().await;
        let files = &store.writer.files;
        let relied_on = || {
            let mut seen = files.folder.seen().expect("it was looked at");
            let now = Instant::now();
            (seen.first, seen.looked) = (now - TICK, now);
            *files.folder.lock() = Some(seen);
        };
        assert!(files.check().is_ok());
        relied_on();
        assert!(files.folder.or_look(|| Err(())).is_ok(), "no file is looked at");
        std::fs::rename(files.url.index(), folder.path().join("elsewhere")).unwrap();
        assert!(files.check().is_err());
    }
}
