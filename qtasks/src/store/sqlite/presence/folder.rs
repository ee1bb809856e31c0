//! The folder with the files of workers, and what can be seen of one file.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Read as _},
    path::{Path, PathBuf},
};

use uuid::Uuid;

use crate::{
    model::job::WorkerId,
    store::sqlite::{access::explained as about, identity::identity},
};

pub(super) const LOCK: &str = "lock";
pub(super) const BEAT: &str = "beat";
pub(super) const JUDGED: &str = "judged";
/// A lock before it is locked.
pub(super) const NEW: &str = "new";
/// The file that stood for the beat up to format 5: the time until which leases lasted.
pub(super) const UNTIL: &str = "until";
pub(super) const KINDS: [&str; 5] = [BEAT, UNTIL, JUDGED, NEW, LOCK];

/// The folder in which the workers on one database have their files.
pub(crate) struct Folder {
    path: PathBuf,
}

impl Folder {
    /// The folder at this path, which need not be there.
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Workers that have files, with the kind of each file.
    pub(super) fn listed(&self) -> io::Result<impl Iterator<Item = (WorkerId, &'static str)>> {
        let entries = match fs::read_dir(&self.path) {
            Ok(entries) => Some(entries),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(about(&self.path, error)),
        };
        Ok(entries.into_iter().flatten().flatten().filter_map(|entry| {
            let name = entry.file_name();
            let (id, kind) = name.to_str()?.split_once('.')?;
            let kind = KINDS.into_iter().find(|known| *known == kind)?;
            Some((WorkerId::from_bytes(Uuid::parse_str(id).ok()?.into_bytes()), kind))
        }))
    }

    /// Whether there is such a file, and a process keeps it locked. True also where that cannot be known.
    pub(super) fn is_locked(&self, worker: WorkerId, kind: &str) -> bool {
        match File::open(self.file(worker, kind)) {
            Ok(lock) => !is_free(&lock),
            Err(error) => error.kind() != ErrorKind::NotFound,
        }
    }

    /// The number of the worker's last renewal; nothing where there is none. A program of format 5 that runs still writes a
    /// time in another file, which changes as often.
    pub(super) fn beat(&self, worker: WorkerId) -> io::Result<Option<u64>> {
        Ok(self.number(worker, BEAT)?.or(self.number(worker, UNTIL)?))
    }

    pub(super) fn number(&self, worker: WorkerId, kind: &str) -> io::Result<Option<u64>> {
        let path = self.file(worker, kind);
        match fs::read(&path) {
            // A file of another length was made just now, and is about to be written to.
            Ok(bytes) => Ok(bytes.try_into().ok().map(u64::from_le_bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            // That of a worker that lives is not taken for missing.
            Err(error) => Err(about(&path, error)),
        }
    }

    /// Removes the mark that a taker of the worker's jobs has made; gives whether there was one.
    pub(super) fn take_mark(&self, worker: WorkerId) -> bool {
        let removed = fs::remove_file(self.file(worker, JUDGED));
        // One that cannot be removed counts each time.
        removed.map_or_else(|error| error.kind() != ErrorKind::NotFound, |()| true)
    }

    /// Opens a file for writing, and makes it where it is missing.
    pub(super) fn open(&self, worker: WorkerId, kind: &str) -> io::Result<File> {
        let path = self.file(worker, kind);
        let opened = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
        opened.map_err(|error| about(&path, error))
    }

    /// The same, where the folder may be missing: the last worker that leaves removes it.
    pub(super) fn open_anew(&self, worker: WorkerId, kind: &str) -> io::Result<File> {
        loop {
            self.create()?;
            match self.open(worker, kind) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                opened => return opened,
            }
        }
    }

    fn create(&self) -> io::Result<()> {
        loop {
            match fs::create_dir(&self.path) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => match fs::metadata(&self.path) {
                    Ok(found) if found.is_dir() => return Ok(()),
                    // It was removed just now.
                    Err(gone) if gone.kind() == ErrorKind::NotFound && !self.path.is_symlink() => {}
                    Ok(_) | Err(_) => return Err(about(&self.path, error)),
                },
                created => return created.map_err(|error| about(&self.path, error)),
            }
        }
    }

    pub(super) fn file(&self, worker: WorkerId, kind: &str) -> PathBuf {
        self.path.join(format!("{worker}.{kind}"))
    }

    /// Removes a file; one that cannot be removed now stays until the worker is forgotten.
    pub(super) fn remove(&self, worker: WorkerId, kind: &str) {
        _ = fs::remove_file(self.file(worker, kind));
    }

    /// Removes all files of a worker, and the folder with the last.
    pub(super) fn remove_all(&self, worker: WorkerId) {
        KINDS.into_iter().for_each(|kind| self.remove(worker, kind));
        _ = fs::remove_dir(&self.path);
    }
}

/// Whether no process has the lock of a file.
pub(super) fn is_free(file: &File) -> bool {
    // Shared: of two that look at the same time neither may take the other for the owner.
    let free = file.try_lock_shared().is_ok();
    if free {
        _ = file.unlock();
    }
    free
}

/// Whether a lock file says that it is another one, as a copy does. One that says nothing is no copy.
pub(super) fn is_copy(mut lock: &File) -> bool {
    let mut said = String::new();
    let name = lock.metadata().and_then(|found| lock.read_to_string(&mut said).map(|_| name_of(&found)));
    name.is_ok_and(|name| said.starts_with(INODE) && said != name)
}

const INODE: &str = "inode ";

/// What a lock file says of itself. The number of its device may be another one after a restart of the machine.
#[cfg(unix)]
pub(super) fn name_of(found: &fs::Metadata) -> String {
    format!("{INODE}{}", std::os::unix::fs::MetadataExt::ino(found))
}

#[cfg(not(unix))]
pub(super) fn name_of(_found: &fs::Metadata) -> String {
    String::new()
}

/// Whether an open file is still the one at a path.
pub(super) fn is_at(file: &File, path: &Path) -> bool {
    let same = |open: fs::Metadata, there: fs::Metadata| identity(&open) == identity(&there);
    file.metadata().ok().zip(fs::metadata(path).ok()).is_some_and(|(open, there)| same(open, there))
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn a_folder_that_others_remove_meanwhile_is_made_again() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::new(place.path().join("workers"));
        let come_and_go = || {
            let worker = WorkerId::new();
            for _ in 0..2_000 {
                folder.open_anew(worker, LOCK).unwrap();
                folder.remove_all(worker);
            }
        };
        thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(come_and_go))));
        assert!(!folder.path.exists());
    }

    #[test]
    fn what_is_no_folder_is_named() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::new(place.path().join("workers"));
        fs::write(&folder.path, "in the way").unwrap();
        assert!(folder.open_anew(WorkerId::new(), LOCK).is_err());
        fs::remove_file(&folder.path).unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink(place.path().join("nowhere"), &folder.path).unwrap();
        #[cfg(unix)]
        assert!(folder.open_anew(WorkerId::new(), LOCK).is_err());
    }
}
