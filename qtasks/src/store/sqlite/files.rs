//! The files of a database: whether those at their paths are still the ones that this store has open.
//!
//! SQLite goes on writing to files that were removed, renamed or replaced, and says that all is well. So before a call is
//! answered, device and inode at each path are compared with what they were when the store was opened. The log belongs to
//! the database, and so does the index of the log: processes that see different ones break it. While the store is open
//! none of them goes away by itself. A connection holds a lock on the database, without which no other program can be the
//! last one to close it; that one alone removes log and index.
//!
//! Looking at each path is dear beside a small commit. A file that comes to a folder, or goes away, changes the time of the
//! folder: so where that is still the same, one look at the folder is enough, and the paths are looked at ten times a second.
//! Only a file that is mounted over one of them changes no time; it is noticed by the next look at the paths.
//!
//! On Windows, which has no inodes, the store only checks that the files are there. Windows lets no program remove,
//! rename or replace a file that SQLite has open.

use std::{
    fs::{self, Metadata},
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock, PoisonError, Weak},
};

#[cfg(unix)]
use super::folder::Folder;
use super::{
    error::Fault,
    identity::{Identity, identity},
    url::{OPENING, StoreUrl, beside},
};
use crate::{
    error::{Error, Result},
    store::Notifier,
};

/// The files that a store has open.
pub(super) struct Files {
    pub(super) url: StoreUrl,
    notifier: Arc<Notifier>,
    open: Vec<Known>,
    #[cfg(unix)]
    pub(super) folder: Folder,
    /// How the files have changed, if they have. The store is of no use from then on, whatever stands at the paths later.
    changed: OnceLock<Arc<str>>,
}

/// A file as it was when the store was opened.
struct Known {
    path: PathBuf,
    part: Part,
    identity: Identity,
}

#[derive(Clone, Copy, PartialEq)]
enum Part {
    Database,
    Log,
    Index,
}

/// The stores that are open in this process, for connections of the application to the same files.
static OPEN: Mutex<Vec<Weak<Files>>> = Mutex::new(Vec::new());

impl Files {
    /// The files of a database to which a connection is open that has read something, so that all of them are there. `database` is
    /// what the file was when it was opened; making the tables may have taken long since.
    pub(super) fn of(url: StoreUrl, database: Identity, notifier: Arc<Notifier>) -> Result<Arc<Self>> {
        let known = |part, path, identity| Known { path, part, identity };
        let (log, index) = (url.log(), url.index());
        let identities = (identity_at(&log)?, identity_at(&index)?);
        let mut open = vec![
            known(Part::Database, url.path.clone(), database),
            known(Part::Log, log, identities.0),
            known(Part::Index, index, identities.1),
        ];
        // The name that the program was given, which may be a link.
        if url.named != url.path {
            open.push(known(Part::Database, url.named.clone(), database));
        }
        let files = Arc::new(Self {
            #[cfg(unix)]
            folder: Folder::of(&url),
            url,
            notifier,
            open,
            changed: OnceLock::new(),
        });
        files.check().map_err(|fault| files.explain(fault, OPENING))?;
        let mut stores = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        stores.retain(|store| store.strong_count() > 0);
        stores.push(Arc::downgrade(&files));
        Ok(files)
    }

    /// Checks that all files are where they were; gives how many bytes the log has.
    ///
    /// If a commit comes before this check and the answer after it, the commit was not made to a file that was gone already.
    pub(super) fn check(&self) -> Result<u64, Fault> {
        self.known()?;
        #[cfg(unix)]
        return self.folder.or_look(|| self.look());
        #[cfg(not(unix))]
        self.look()
    }

    /// Makes the check by a look at each path.
    pub(super) fn look(&self) -> Result<u64, Fault> {
        let mut log = 0;
        for known in &self.open {
            match known.look() {
                Ok(Look::Same(found)) if known.part == Part::Log => log = found.len(),
                Ok(Look::Same(_)) => {}
                Ok(look) => return Err(self.found_changed(known, &look)),
                Err(error) => return Err(Fault::Io(Arc::new(error))),
            }
        }
        Ok(log)
    }

    /// Checks that no change was found so far, without a look at the files.
    pub(super) fn known(&self) -> Result<(), Fault> {
        self.changed.get().map_or(Ok(()), |why| Err(Fault::Changed(Arc::clone(why))))
    }

    /// Whether the log that is open can be emptied into its file without hurting a program that has come since.
    /// `others_wrote` says whether any did of which this store has not learned.
    pub(super) fn may_empty_log(&self, others_wrote: bool) -> bool {
        self.open.iter().all(|known| match (known.part, known.look()) {
            (Part::Database, _) => true,
            (Part::Log, Ok(Look::Same(_))) => !others_wrote,
            // No program that starts now can find it.
            (Part::Log, Ok(Look::Gone)) => true,
            (Part::Log, _) => false,
            (Part::Index, look) => matches!(look, Ok(Look::Same(_))),
        })
    }

    fn found_changed(&self, known: &Known, look: &Look) -> Fault {
        let path = known.path.display();
        let why = match look {
            Look::Gone => format!("`{path}` is not there any more"),
            Look::Same(_) | Look::Other => format!("another file stands at `{path}`"),
        };
        let why = self.changed.get_or_init(|| {
            tracing::error!(why, "the files of a store have changed; it is of no use any more");
            why.into()
        });
        // Callers that wait learn of it when they look again, and workers when they renew their leases.
        self.notifier.notify_all();
        self.notifier.notify_lost();
        self.notifier.notify_doubt();
        Fault::Changed(Arc::clone(why))
    }

    /// The error of a call, with the path of the database.
    pub(super) fn explain(&self, fault: impl Into<Fault>, doing: &'static str) -> Error {
        fault.into().into_error(doing, &self.url.path)
    }
}

/// Checks that a store of this process at `path`, if there is one, still has its files at their paths.
pub(super) fn check_at(path: &Path) -> Result<(), Fault> {
    let stores = OPEN.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let mut stores = stores.iter().filter_map(Weak::upgrade).filter(|files| files.url.path == path).peekable();
    if stores.peek().is_none() {
        return Ok(());
    }
    // One of them may have been opened on the files that stand there now.
    stores.map(|files| files.check().map(drop)).reduce(|found, other| found.or(other)).unwrap_or(Ok(()))
}

/// Whether two paths lead to one database. A hard link does not: SQLite has another log beside it.
pub(super) fn are_same(one: &Path, other: &Path) -> bool {
    one == other || what_is_at(one).is_some_and(|found| what_is_at(other) == Some(found))
}

/// The identity of a database and of its log, which no other database has.
#[cfg(unix)]
fn what_is_at(path: &Path) -> Option<(Identity, Identity)> {
    Some((identity_at(path).ok()?, identity_at(&beside(path, "-wal")).ok()?))
}

#[cfg(not(unix))]
fn what_is_at(path: &Path) -> Option<PathBuf> {
    fs::canonicalize(path).ok()
}

enum Look {
    Same(Metadata),
    Other,
    Gone,
}

/// The identity of the file at a path.
pub(super) fn identity_at(path: &Path) -> Result<Identity> {
    let found = fs::metadata(path).map_err(|error| Error::store(OPENING, about(path, error)))?;
    Ok(identity(&found))
}

impl Known {
    fn look(&self) -> io::Result<Look> {
        match fs::metadata(&self.path) {
            Ok(found) if identity(&found) == self.identity => Ok(Look::Same(found)),
            Ok(_) => Ok(Look::Other),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(Look::Gone),
            // The file may be there, and is looked for again.
            Err(error) => Err(about(&self.path, error)),
        }
    }
}

/// An error with the path that it is about.
pub(super) fn about(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("`{}`: {error}", path.display()))
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::fs;

    use crate::{
        error::{Error, chain},
        model::job::WorkerId,
        store::{
            Store,
            sqlite::{
                Sqlite,
                fixture::{ask, new_job, soon, store, temp_url},
            },
        },
    };

    #[tokio::test]
    async fn what_happened_to_a_file_is_said_and_what_to_do() {
        let (_folder, store) = store().await;
        let url = store.writer.files.url.clone();
        fs::rename(url.log(), url.path.with_extension("away")).unwrap();
        let error = store.enqueue(vec![new_job()]).await.unwrap_err();
        let (path, log) = (url.path.display(), url.log());
        assert_eq!(
            chain(&error),
            format!(
                "the store at `{path}` has changed under the running program: `{}` is not there any more; nothing more is \
                 written, for it would be lost: see to the files, and start the program again",
                log.display()
            )
        );
        fs::rename(url.path.with_extension("away"), log).unwrap();
        let again = store.job(crate::model::job::JobId::new()).await.unwrap_err();
        assert_eq!(chain(&again), chain(&error), "what was written meanwhile may be elsewhere");
    }

    fn is_changed<T>(outcome: Result<T, Error>) -> bool {
        matches!(outcome, Err(Error::StoreChanged { .. }))
    }

    #[tokio::test]
    async fn no_call_of_a_store_whose_file_was_replaced_is_answered() {
        let (folder, store) = store().await;
        let worker = WorkerId::new();
        store.renew(worker, 1).await.unwrap();
        let mut waits = store.lease_on_enqueue(ask(1), std::sync::Arc::new(|| 1)).unwrap();
        assert!(futures::poll!(&mut waits).is_pending());
        let (mut doubt, mut work) = (store.notifier().doubt(), store.notifier().work());
        let path = folder.path().join("jobs.db");
        fs::copy(&path, path.with_extension("copy")).unwrap();
        fs::rename(path.with_extension("copy"), &path).unwrap();
        soon(doubt.notification()).await;
        soon(work.notification()).await;
        assert_eq!(soon(waits).await.unwrap(), [], "it asks again");
        assert!(is_changed(store.lease(ask(1)).await));
        assert!(is_changed(store.renew(worker, 2).await));
        assert!(is_changed(store.workers().await));
        assert!(is_changed(store.held(worker, 1).await));
        assert!(is_changed(store.forget(worker, None).await));
        assert!(is_changed(store.record(Vec::new().into()).await));
        assert!(is_changed(store.settle(Vec::new().into()).await));
        assert!(is_changed(store.prune(jiff::Timestamp::UNIX_EPOCH, jiff::Timestamp::UNIX_EPOCH, 1).await));
        assert!(is_changed(soon(store.lease_on_enqueue(ask(1), std::sync::Arc::new(|| 1)).unwrap()).await));
        store.leave(worker).await.unwrap();
        drop(store);
        assert!(Sqlite::open(&format!("sqlite:{}", path.display())).await.is_ok());
    }

    #[tokio::test]
    async fn a_renamed_folder_is_not_made_again() {
        let folder = tempfile::tempdir().unwrap();
        let (inner, away) = (folder.path().join("inner"), folder.path().join("away"));
        fs::create_dir(&inner).unwrap();
        let store = Sqlite::open(&format!("sqlite:{}", inner.join("jobs.db").display())).await.unwrap();
        let worker = WorkerId::new();
        store.enqueue(vec![new_job()]).await.unwrap();
        store.renew(worker, 1).await.unwrap();
        store.lease(crate::store::Ask { worker, ..ask(1) }).await.unwrap();
        fs::rename(&inner, away).unwrap();
        assert!(is_changed(store.renew(worker, 2).await));
        _ = store.leave(worker).await;
        assert!(!inner.exists());
    }

    #[tokio::test]
    async fn a_folder_that_cannot_be_looked_at_is_no_change() {
        let (folder, url) = temp_url("");
        let store = Sqlite::open(&url).await.unwrap();
        let job = new_job();
        // Where the user may do everything, as root, this test shows nothing.
        let rights = |mode| fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(mode));
        rights(0).unwrap();
        let answered = store.enqueue(vec![job.clone()]).await;
        rights(0o700).unwrap();
        assert!(answered.is_ok() || answered.unwrap_err().is_store_trouble());
        store.enqueue(vec![job]).await.unwrap();
    }
}
