//! The files by which workers show that they live: each keeps one locked beside the database, and writes the number of
//! its last renewal into another.
//!
//! In the folder `<database>-workers` a worker has `<id>.lock`, which it keeps locked as long as it lives, and
//! `<id>.beat`: the number, as 8 bytes, the lowest first. They are two, since on Windows others cannot read a file that
//! is locked. The operating system frees the lock of a process at the moment when that ends, whatever ends it. No
//! process is looked for by its id, which may be that of another one by now.
//!
//! A worker is known to be gone when its lock file is there and free: its process has ended, or it has left. One whose
//! lock cannot be looked at, or is not there, may live, as may one without a number: the folder may have been emptied.
//! A lock file says which file it is, by its inode: a free one that is a copy of another proves nothing either.
//! Whether such a worker is silent shows in its number alone. No times are compared. With each renewal a worker makes again
//! what is not there, or not its own.
//!
//! # How a worker learns that its jobs are taken
//!
//! The transaction that takes the jobs of a silent worker leaves the mark `<id>.judged`, and then reads the number once
//! more: the jobs are taken only if it has not changed. A worker that renews does it the other way round: it writes its
//! number, and then looks for the mark. So either the taker sees the new number, or the worker sees the mark, and reads
//! behind the taker's transaction which of its jobs are left.
//!
//! Where the lock is free, or not there, no mark is needed: a worker that comes back then has to make its lock anew,
//! and after that it reads its leases in the same way.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, ErrorKind, Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use uuid::Uuid;

use super::{access::explained as about, files::identity};
use crate::{
    model::job::WorkerId,
    store::{Bell, Presence},
};

/// How often the locks of others are looked at.
const EVERY: Duration = Duration::from_millis(100);
/// At each so many looks it is learned whose locks there are.
const LISTED_EVERY: u32 = 10;

const LOCK: &str = "lock";
const BEAT: &str = "beat";
const JUDGED: &str = "judged";
/// A lock before it is locked.
const NEW: &str = "new";
/// What there was in place of the beat up to format 5: the time until which leases lasted.
const UNTIL: &str = "until";
const KINDS: [&str; 5] = [BEAT, UNTIL, JUDGED, NEW, LOCK];

/// The workers of this store, and what can be seen of all others on the same file.
pub(super) struct Workers {
    folder: PathBuf,
    own: Mutex<Own>,
    changed: Condvar,
}

#[derive(Default)]
struct Own {
    signs: HashMap<WorkerId, Sign>,
    watching: bool,
}

/// What a worker of this store keeps open.
struct Sign {
    /// The file of its beat. It stays open: a process that has no further files to open must not fall silent.
    beat: Option<File>,
    /// Whether its jobs may have been taken since it last knew of them.
    doubt: bool,
    lock: File,
}

impl Workers {
    /// Those that meet in this folder, which need not be there.
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder, own: Mutex::default(), changed: Condvar::new() }
    }

    /// Shows that `worker` lives in this store, by the number of its renewal.
    ///
    /// Gives whether another worker may be taking its jobs in a transaction that is still open. Then the caller reads
    /// behind that which of them are left, and calls [`is_sure`](Self::is_sure).
    pub(super) fn show(self: &Arc<Self>, worker: WorkerId, beat: u64, bell: &Arc<Bell>) -> io::Result<bool> {
        let mut own = self.own();
        // Where a lock is held the number comes first: a taker that finds no lock reads the number after that.
        let shown = own.signs.get_mut(&worker).map(|sign| self.write_beat(worker, sign, beat));
        let sign = match (shown, own.signs.get_mut(&worker)) {
            (Some(shown), Some(sign)) if is_at(&sign.lock, &self.path(worker, LOCK)) => {
                shown?;
                sign
            }
            _ => {
                let sign = own.signs.entry(worker).insert_entry(self.establish(worker)?).into_mut();
                self.write_beat(worker, sign, beat)?;
                sign
            }
        };
        sign.doubt |= self.take_mark(worker);
        let doubt = sign.doubt;
        if !own.watching {
            own.watching = self.watch(bell);
        }
        Ok(doubt)
    }

    /// Takes note that `worker` knows what was taken from it.
    pub(super) fn is_sure(&self, worker: WorkerId) {
        if let Some(sign) = self.own().signs.get_mut(&worker) {
            sign.doubt = false;
        }
    }

    /// Takes back all that says that `worker` lives. Of one that still `holds` jobs the lock file stays, free, so that
    /// others see at once that it is gone.
    pub(super) fn leave(&self, worker: WorkerId, holds: bool) -> io::Result<()> {
        let sign = self.own().signs.remove(&worker);
        self.changed.notify_all();
        if sign.is_none() && self.is_locked(worker, LOCK) {
            // It lives in another store, and has not left that.
            return Ok(());
        }
        // The number goes first: so one that is seen beside a free lock is the last that the worker wrote.
        self.remove(worker, BEAT);
        if holds {
            self.create_folder()?;
            self.open(worker, LOCK)?;
            return Ok(());
        }
        self.remove(worker, LOCK);
        drop(sign);
        self.remove_all(worker);
        Ok(())
    }

    /// Lets go of all locks, as the end of the process does.
    pub(super) fn let_go(&self) {
        self.own().signs.clear();
        self.changed.notify_all();
    }

    /// What can be seen of those that hold jobs, and of all others that have files. One whose number cannot be read is left
    /// out, and keeps its jobs.
    pub(super) fn seen(&self, holders: &[WorkerId]) -> io::Result<Vec<Presence>> {
        let holders: HashSet<_> = holders.iter().copied().collect();
        let known: HashSet<_> = self.listed()?.map(|(worker, _)| worker).chain(holders.iter().copied()).collect();
        let presence = |worker| {
            // In this order: should the worker come back in between, its number is another than this one.
            let beat = self.beat(worker);
            let beat =
                beat.inspect_err(|error| tracing::warn!(%error, %worker, "a worker cannot be looked at")).ok()?;
            Some(Presence { worker, beat, holds: holders.contains(&worker), gone: self.is_gone(worker) })
        };
        Ok(known.into_iter().filter_map(presence).collect())
    }

    /// Whether the number of `worker` is still `beat`. To be called in the transaction that takes its jobs if so: should
    /// the worker renew meanwhile, it learns of that.
    pub(super) fn judge(&self, worker: WorkerId, beat: Option<u64>) -> bool {
        self.try_judge(worker, beat).unwrap_or_else(|error| {
            tracing::warn!(%error, %worker, "the jobs of a silent worker are left with it: it could not be marked");
            false
        })
    }

    fn try_judge(&self, worker: WorkerId, beat: Option<u64>) -> io::Result<bool> {
        if self.beat(worker)? != beat {
            return Ok(false);
        }
        if self.is_locked(worker, LOCK) {
            let path = self.path(worker, JUDGED);
            match File::create(&path) {
                Ok(_) => {}
                // The folder was removed, and the lock with it.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(about(&path, error)),
            }
        }
        Ok(self.beat(worker)? == beat)
    }

    /// Removes what is left of a worker that holds nothing, if its number is `beat` and no other process keeps its lock. A
    /// worker of this store that is silent then has to show itself anew.
    pub(super) fn forget(&self, worker: WorkerId, beat: Option<u64>) -> io::Result<()> {
        let mut own = self.own();
        if self.beat(worker)? != beat {
            return Ok(());
        }
        drop(own.signs.remove(&worker));
        self.changed.notify_all();
        // Of a worker that is about to start nothing is removed either: it has locked its file by now, or tries again.
        if ![LOCK, NEW].into_iter().any(|kind| self.is_locked(worker, kind)) {
            self.remove_all(worker);
        }
        Ok(())
    }

    /// Makes the lock of a worker of this store.
    fn establish(&self, worker: WorkerId) -> io::Result<Sign> {
        const TRIES: u32 = 100;
        for _ in 0..TRIES {
            match self.try_establish(worker) {
                // Another process has removed the file, or just looks at its lock.
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::WouldBlock) => {
                    #[expect(clippy::disallowed_methods, reason = "what another process does to a lock rouses no one")]
                    thread::sleep(Duration::from_millis(1));
                }
                established => return established,
            }
        }
        self.try_establish(worker)
    }

    /// The lock has another name until it is locked, so that the lock of a worker that lives is never found free.
    fn try_establish(&self, worker: WorkerId) -> io::Result<Sign> {
        self.create_folder()?;
        let (new, lock) = (self.path(worker, NEW), self.open(worker, NEW)?);
        match lock.try_lock() {
            Err(TryLockError::Error(error)) if error.kind() != ErrorKind::Unsupported => {
                return Err(about(&new, error));
            }
            Err(TryLockError::WouldBlock) => return Err(about(&new, ErrorKind::WouldBlock.into())),
            Ok(()) | Err(TryLockError::Error(_)) => {}
        }
        // On a full disk it says nothing, and a copy of it is taken for it.
        _ = lock.metadata().and_then(|found| (&lock).write_all(name_of(&found).as_bytes()));
        fs::rename(&new, self.path(worker, LOCK)).map_err(|error| about(&new, error))?;
        Ok(Sign { beat: None, doubt: true, lock })
    }

    /// Starts a thread that looks at the locks of others as long as this store has workers of its own; gives whether it
    /// could be started.
    fn watch(self: &Arc<Self>, bell: &Arc<Bell>) -> bool {
        let (workers, bell) = (Arc::clone(self), Arc::clone(bell));
        let body = move || {
            let (mut watched, mut looks) = (Watched::default(), (0..LISTED_EVERY).cycle());
            while workers.pause() {
                if looks.next() == Some(0) {
                    watched.list(&workers);
                }
                if watched.one_is_free() {
                    bell.ring_lost();
                }
            }
        };
        let started = thread::Builder::new().name("qtasks-workers".to_owned()).spawn(body);
        started.inspect_err(|error| tracing::warn!(%error, "lost workers are noticed later: no thread to look")).is_ok()
    }

    /// Waits until it is time to look again; gives whether there is still a worker to look for.
    fn pause(&self) -> bool {
        let waited = self.changed.wait_timeout_while(self.own(), EVERY, |own| !own.signs.is_empty());
        let (mut own, _) = waited.unwrap_or_else(PoisonError::into_inner);
        own.watching = !own.signs.is_empty();
        own.watching
    }

    /// Workers that have files, with the kind of each file.
    fn listed(&self) -> io::Result<impl Iterator<Item = (WorkerId, &'static str)>> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => Some(entries),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(about(&self.folder, error)),
        };
        Ok(entries.into_iter().flatten().flatten().filter_map(|entry| {
            let name = entry.file_name();
            let (id, kind) = name.to_str()?.split_once('.')?;
            let kind = KINDS.into_iter().find(|known| *known == kind)?;
            Some((WorkerId::from_bytes(Uuid::parse_str(id).ok()?.into_bytes()), kind))
        }))
    }

    fn is_gone(&self, worker: WorkerId) -> bool {
        if self.own().signs.contains_key(&worker) {
            return false;
        }
        File::open(self.path(worker, LOCK)).is_ok_and(|lock| is_free(&lock) && !is_copy(&lock))
    }

    /// Whether there is such a file, and a process keeps it locked; also where one cannot tell.
    fn is_locked(&self, worker: WorkerId, kind: &str) -> bool {
        match File::open(self.path(worker, kind)) {
            Ok(lock) => !is_free(&lock),
            Err(error) => error.kind() != ErrorKind::NotFound,
        }
    }

    /// The number of the worker's last renewal; nothing where there is none. A program of format 5 that runs still writes a
    /// time in another file, which changes as often.
    fn beat(&self, worker: WorkerId) -> io::Result<Option<u64>> {
        Ok(self.number(worker, BEAT)?.or(self.number(worker, UNTIL)?))
    }

    fn number(&self, worker: WorkerId, kind: &str) -> io::Result<Option<u64>> {
        let path = self.path(worker, kind);
        match fs::read(&path) {
            // A file of another length was made just now, and is about to be written to.
            Ok(bytes) => Ok(bytes.try_into().ok().map(u64::from_le_bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            // That of a worker that lives is not taken for missing.
            Err(error) => Err(about(&path, error)),
        }
    }

    /// Over what stood there, which others may be reading.
    fn write_beat(&self, worker: WorkerId, sign: &mut Sign, beat: u64) -> io::Result<()> {
        let file = match sign.beat.take().filter(|file| is_at(file, &self.path(worker, BEAT))) {
            Some(file) => file,
            None => self.open(worker, BEAT)?,
        };
        let file = sign.beat.insert(file);
        let written = file.rewind().and_then(|()| file.write_all(&beat.to_le_bytes()));
        written.map_err(|error| about(&self.path(worker, BEAT), error))
    }

    /// Removes the mark that a taker of the worker's jobs has left; gives whether there was one.
    fn take_mark(&self, worker: WorkerId) -> bool {
        let removed = fs::remove_file(self.path(worker, JUDGED));
        // One that cannot be removed counts each time.
        removed.map_or_else(|error| error.kind() != ErrorKind::NotFound, |()| true)
    }

    fn create_folder(&self) -> io::Result<()> {
        match fs::create_dir(&self.folder) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists && self.folder.is_dir() => Ok(()),
            created => created.map_err(|error| about(&self.folder, error)),
        }
    }

    /// Opens a file for writing, and makes it where it is missing.
    fn open(&self, worker: WorkerId, kind: &str) -> io::Result<File> {
        let path = self.path(worker, kind);
        let opened = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
        opened.map_err(|error| about(&path, error))
    }

    fn path(&self, worker: WorkerId, kind: &str) -> PathBuf {
        self.folder.join(format!("{worker}.{kind}"))
    }

    /// Removes a file; one that cannot be removed now stays until the worker is forgotten.
    fn remove(&self, worker: WorkerId, kind: &str) {
        _ = fs::remove_file(self.path(worker, kind));
    }

    /// Removes all files of a worker, and the folder with the last.
    fn remove_all(&self, worker: WorkerId) {
        KINDS.into_iter().for_each(|kind| self.remove(worker, kind));
        _ = fs::remove_dir(&self.folder);
    }

    fn own(&self) -> MutexGuard<'_, Own> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether no process has the lock of a file.
fn is_free(file: &File) -> bool {
    // Shared: of two that look at the same time neither may take the other for the owner.
    let free = file.try_lock_shared().is_ok();
    if free {
        _ = file.unlock();
    }
    free
}

/// Whether a lock file says that it is another one, as a copy does. One that says nothing is no copy.
fn is_copy(mut lock: &File) -> bool {
    let mut said = String::new();
    let name = lock.metadata().and_then(|found| lock.read_to_string(&mut said).map(|_| name_of(&found)));
    name.is_ok_and(|name| said.starts_with(INODE) && said != name)
}

const INODE: &str = "inode ";

/// What a lock file says of itself. The number of its device may be another one after a restart of the machine.
#[cfg(unix)]
fn name_of(found: &fs::Metadata) -> String {
    format!("{INODE}{}", std::os::unix::fs::MetadataExt::ino(found))
}

#[cfg(not(unix))]
fn name_of(_found: &fs::Metadata) -> String {
    String::new()
}

/// Whether an open file is still the one at a path.
fn is_at(file: &File, path: &Path) -> bool {
    let same = |open: fs::Metadata, there: fs::Metadata| identity(&open) == identity(&there);
    file.metadata().ok().zip(fs::metadata(path).ok()).is_some_and(|(open, there)| same(open, there))
}

/// The locks of others, kept open so that a look costs next to nothing; nothing for those that were found free.
#[derive(Default)]
struct Watched(HashMap<WorkerId, Option<File>>);

impl Watched {
    /// Learns which workers there are.
    fn list(&mut self, workers: &Workers) {
        let Ok(listed) = workers.listed() else { return };
        let mut others: HashSet<_> = listed.filter(|(_, kind)| *kind == LOCK).map(|(worker, _)| worker).collect();
        others.retain(|worker| !workers.own().signs.contains_key(worker));
        self.0.retain(|worker, _| others.contains(worker));
        for worker in others {
            let lock = || File::open(workers.path(worker, LOCK)).ok();
            // One that was free may be locked again, by a worker that came back.
            let watched = self.0.entry(worker).or_insert_with(lock);
            if watched.is_none() {
                *watched = lock().filter(|lock| !is_free(lock));
            }
        }
    }

    /// Whether a lock is free that was not so before.
    fn one_is_free(&mut self) -> bool {
        let mut free = false;
        for lock in self.0.values_mut() {
            if lock.take_if(|file| is_free(file)).is_some() {
                free = true;
            }
        }
        free
    }
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;

    use tempfile::TempDir;

    use super::*;
    use crate::{
        error::{Error, chain},
        model::job::{Job, State},
        store::{
            Hold, Settlement, Store, Written,
            sqlite::{
                Sqlite,
                fixture::{NOW, ask, neighbour, new_job, place, soon},
            },
        },
    };

    /// Two stores on one file, as of two processes.
    async fn two() -> (TempDir, Sqlite, Sqlite) {
        let (folder, url) = place("");
        let (one, other) = (Sqlite::open(&url).await.unwrap(), Sqlite::open(&url).await.unwrap());
        (folder, one, other)
    }

    /// Has a new worker of the store lease a job; its beat is 1.
    async fn running(store: &Sqlite) -> (WorkerId, Job) {
        let asked = ask(1);
        store.enqueue(vec![new_job()]).await.unwrap();
        store.renew(asked.worker, 1).await.unwrap();
        (asked.worker, store.lease(asked).await.unwrap().jobs.remove(0))
    }

    async fn renew(store: &Sqlite, worker: WorkerId, beat: u64) -> usize {
        store.renew(worker, beat).await.unwrap().leases.len()
    }

    async fn presence(store: &Sqlite, worker: WorkerId) -> Option<Presence> {
        store.workers().await.unwrap().into_iter().find(|presence| presence.worker == worker)
    }

    fn seen(worker: WorkerId, beat: impl Into<Option<u64>>, holds: bool, gone: bool) -> Option<Presence> {
        Some(Presence { worker, beat: beat.into(), holds, gone })
    }

    /// Takes over a job whose worker has been silent since `beat`.
    async fn take(store: &Sqlite, job: &Job, beat: impl Into<Option<u64>>) -> Written {
        let hold = Hold::Silent { lease: job.lease().unwrap(), beat: beat.into() };
        let next = State::Waiting { due: NOW };
        let job = job.id;
        let lost = Settlement { job, hold, steps: None, next, failures: 0, suspect: None, attempt: None, now: NOW };
        store.settle(vec![lost]).await.unwrap()[0]
    }

    fn meeting(folder: &TempDir) -> PathBuf {
        folder.path().join("jobs.db-workers")
    }

    fn files(folder: &TempDir) -> Vec<String> {
        let entries = fs::read_dir(meeting(folder)).into_iter().flatten();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn names(worker: WorkerId, kinds: &[&str]) -> Vec<String> {
        kinds.iter().map(|kind| format!("{worker}.{kind}")).collect()
    }

    #[tokio::test]
    async fn a_store_that_is_dropped_as_in_a_crash_loses_its_jobs_at_once() {
        let (folder, one, other) = two().await;
        let ((worker, job), living) = (running(&one).await, WorkerId::new());
        renew(&other, living, 1).await;
        let mut told = other.bell().lost();
        assert_eq!(presence(&other, worker).await, seen(worker, 1, true, false));
        drop(one);
        soon(told.rung()).await;
        assert_eq!(presence(&other, worker).await, seen(worker, 1, true, true));
        assert_eq!(take(&other, &job, 1).await, Written::Yes);
        assert_eq!(presence(&other, worker).await, seen(worker, 1, false, true));
        other.forget(worker, Some(1)).await.unwrap();
        assert_eq!(presence(&other, worker).await, None);
        assert_eq!(files(&folder), names(living, &["beat", "lock"]), "what the dead one left behind goes away");
    }

    #[tokio::test]
    async fn a_worker_that_renews_keeps_its_jobs_and_one_that_does_not_loses_them() {
        let (_folder, one, other) = two().await;
        let (worker, job) = running(&one).await;
        assert_eq!(renew(&one, worker, 2).await, 1);
        assert_eq!(take(&other, &job, 1).await, Written::Fenced, "it came back in time");
        assert_eq!(take(&other, &job, None).await, Written::Fenced);
        assert_eq!(renew(&one, worker, 3).await, 1);
        assert_eq!(take(&other, &job, 3).await, Written::Yes);
        assert_eq!(renew(&one, worker, 4).await, 0);
    }

    #[tokio::test]
    async fn workers_of_one_process_are_told_apart() {
        let (_folder, one, other) = two().await;
        let ((first, _), (second, _)) = (running(&one).await, running(&one).await);
        let (third, _) = running(&other).await;
        one.leave(first).await.unwrap();
        for store in [&one, &other] {
            assert_eq!(presence(store, first).await, seen(first, None, true, true));
            assert_eq!(presence(store, second).await, seen(second, 1, true, false));
            assert_eq!(presence(store, third).await, seen(third, 1, true, false));
        }
    }

    #[tokio::test]
    async fn a_worker_that_left_its_jobs_behind_is_gone_until_it_is_forgotten() {
        let (folder, one, other) = two().await;
        let ((worker, job), mut told) = (running(&one).await, one.bell().lost());
        one.leave(worker).await.unwrap();
        assert!(told.rang(), "the other workers of this store can take its jobs");
        assert_eq!(files(&folder), names(worker, &["lock"]));
        assert_eq!(take(&other, &job, None).await, Written::Yes);
        assert_eq!(presence(&other, worker).await, seen(worker, None, false, true));
        other.forget(worker, Some(1)).await.unwrap();
        assert_eq!(presence(&other, worker).await, seen(worker, None, false, true), "that was not its last number");
        other.forget(worker, None).await.unwrap();
        assert!(!meeting(&folder).exists());
    }

    #[tokio::test]
    async fn a_worker_that_never_renewed_can_leave_its_jobs_behind() {
        let (folder, one, other) = two().await;
        one.enqueue(vec![new_job()]).await.unwrap();
        let job = one.lease(ask(1)).await.unwrap().jobs.remove(0);
        let worker = job.lease().unwrap().worker;
        assert_eq!(presence(&other, worker).await, seen(worker, None, true, false));
        one.leave(worker).await.unwrap();
        assert_eq!(presence(&other, worker).await, seen(worker, None, true, true));
        assert_eq!(renew(&one, worker, 1).await, 1);
        assert_eq!(presence(&other, worker).await, seen(worker, 1, true, false), "it can come back");
        one.leave(worker).await.unwrap();
        assert_eq!(take(&other, &job, None).await, Written::Yes);
        one.leave(worker).await.unwrap();
        assert!(!meeting(&folder).exists());
    }

    #[tokio::test]
    async fn a_worker_whose_jobs_cannot_be_read_when_it_leaves_is_gone() {
        let (folder, one, other) = two().await;
        let (worker, _) = running(&one).await;
        neighbour(&folder).execute_batch("ALTER TABLE qtasks_jobs RENAME COLUMN worker TO hidden").unwrap();
        one.leave(worker).await.unwrap();
        assert_eq!(files(&folder), names(worker, &["lock"]));
        neighbour(&folder).execute_batch("ALTER TABLE qtasks_jobs RENAME COLUMN hidden TO worker").unwrap();
        assert_eq!(presence(&other, worker).await, seen(worker, None, true, true));
    }

    #[tokio::test]
    async fn files_go_with_the_last_worker() {
        let (folder, one, other) = two().await;
        let (first, second) = (WorkerId::new(), WorkerId::new());
        renew(&one, first, 1).await;
        renew(&other, second, 1).await;
        let mut expected = [first, second].map(|worker| names(worker, &["beat", "lock"])).concat();
        expected.sort();
        assert_eq!(files(&folder), expected);
        one.leave(first).await.unwrap();
        other.leave(second).await.unwrap();
        assert!(!meeting(&folder).exists());
        one.leave(first).await.unwrap();
        renew(&one, first, 2).await;
        assert_eq!(presence(&other, first).await, seen(first, 2, false, false), "it can come back");
    }

    #[tokio::test]
    async fn missing_files_prove_nothing_and_are_made_again() {
        let (folder, one, other) = two().await;
        let (worker, job) = running(&one).await;
        let lock = meeting(&folder).join(format!("{worker}.lock"));
        fs::remove_file(&lock).unwrap();
        assert_eq!(presence(&other, worker).await, seen(worker, 1, true, false));
        fs::remove_dir_all(meeting(&folder)).unwrap();
        assert_eq!(presence(&other, worker).await, seen(worker, None, true, false));
        assert_eq!(renew(&one, worker, 2).await, 1);
        assert_eq!(presence(&other, worker).await, seen(worker, 2, true, false));
        assert_eq!(files(&folder), names(worker, &["beat", "lock"]));
        fs::remove_dir_all(meeting(&folder)).unwrap();
        assert_eq!(take(&other, &job, None).await, Written::Yes, "it is silent for who looked long enough");
        assert_eq!(renew(&one, worker, 3).await, 0);
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_free_lock_that_is_a_copy_proves_nothing() {
        let (folder, one, other) = two().await;
        let (worker, job) = running(&one).await;
        let (lock, copy) = (one.writer.workers.path(worker, LOCK), folder.path().join("copy"));
        fs::copy(&lock, &copy).unwrap();
        fs::rename(&copy, &lock).unwrap();
        assert_eq!(presence(&other, worker).await, seen(worker, 1, true, false));
        assert_eq!(renew(&one, worker, 2).await, 1);
        let (open, there) = (File::open(&lock).unwrap(), presence(&other, worker).await);
        assert!(!is_free(&open) && !is_copy(&open), "the worker has made it anew");
        assert_eq!(there, seen(worker, 2, true, false));
        fs::copy(&lock, &copy).unwrap();
        fs::rename(&copy, &lock).unwrap();
        assert_eq!(take(&other, &job, 2).await, Written::Yes, "it is silent for who looked long enough");
        assert_eq!(renew(&one, worker, 3).await, 0);
    }

    #[tokio::test]
    async fn a_worker_that_was_judged_reads_its_leases_behind_who_takes_them() {
        let (folder, one, other) = two().await;
        let (one, other, bell) = (&one.writer.workers, &other.writer.workers, Arc::new(Bell::new()));
        let worker = WorkerId::new();
        let in_doubt = |beat| one.show(worker, beat, &bell).unwrap();
        assert!(in_doubt(1), "its jobs may have been taken before");
        assert!(in_doubt(2), "until the leases are read");
        one.is_sure(worker);
        assert!(!in_doubt(3));
        assert!(!other.judge(worker, Some(2)) && !other.judge(worker, None));
        assert!(!in_doubt(3), "there was nothing to take");
        assert!(other.judge(worker, Some(3)));
        assert!(in_doubt(4) && in_doubt(5));
        one.is_sure(worker);
        assert!(!in_doubt(6));
        fs::remove_file(one.path(worker, LOCK)).unwrap();
        assert!(other.judge(worker, Some(6)));
        assert_eq!(files(&folder), names(worker, &["beat"]), "without a lock no mark is needed");
        assert!(in_doubt(7));
    }

    #[tokio::test]
    async fn what_is_left_of_a_start_goes_away_and_a_start_under_way_does_not() {
        let (folder, one, other) = two().await;
        renew(&other, WorkerId::new(), 1).await;
        let new = |worker: WorkerId| File::create(one.writer.workers.path(worker, NEW)).unwrap();
        let (broken_off, under_way) = (WorkerId::new(), WorkerId::new());
        drop(new(broken_off));
        let lock = new(under_way);
        lock.try_lock().unwrap();
        for worker in [broken_off, under_way] {
            assert_eq!(presence(&other, worker).await, seen(worker, None, false, false));
            other.forget(worker, None).await.unwrap();
        }
        let left: Vec<_> = files(&folder).into_iter().filter(|name| name.ends_with("new")).collect();
        assert_eq!(left, [format!("{under_way}.new")]);
    }

    #[tokio::test]
    async fn files_of_the_format_before_go_away() {
        let (folder, one, other) = two().await;
        let (worker, old) = (WorkerId::new(), WorkerId::new());
        renew(&one, worker, 1).await;
        for kind in [LOCK, UNTIL, JUDGED] {
            fs::write(one.writer.workers.path(old, kind), 10_i64.to_le_bytes()).unwrap();
        }
        // A program that writes them may run still.
        assert_eq!(presence(&other, old).await, seen(old, 10, false, true));
        other.forget(old, Some(10)).await.unwrap();
        assert_eq!(files(&folder), names(worker, &["beat", "lock"]));
    }

    #[tokio::test]
    async fn a_worker_of_this_store_that_was_forgotten_shows_itself_anew() {
        let (folder, one, other) = two().await;
        let worker = WorkerId::new();
        renew(&one, worker, 1).await;
        other.forget(worker, Some(1)).await.unwrap();
        assert_eq!(presence(&one, worker).await, seen(worker, 1, false, false), "its process lives");
        one.forget(worker, Some(1)).await.unwrap();
        assert!(!meeting(&folder).exists());
        renew(&one, worker, 2).await;
        assert_eq!(presence(&other, worker).await, seen(worker, 2, false, false));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_worker_that_starts_among_others_that_clean_up_is_not_taken_for_gone() {
        let (_folder, one, other) = two().await;
        for _ in 0..200 {
            let worker = WorkerId::new();
            let (renewed, forgotten) = tokio::join!(one.renew(worker, 1), other.forget(worker, None));
            assert_eq!((renewed.unwrap().leases, forgotten.unwrap()), (vec![], ()));
            assert!(!other.writer.workers.is_gone(worker));
            renew(&one, worker, 2).await;
            assert_eq!(presence(&other, worker).await, seen(worker, 2, false, false));
            one.leave(worker).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_lock_is_seen_to_become_free_each_time() {
        let (_folder, one, other) = two().await;
        let ((worker, _), mut watched) = (running(&one).await, Watched::default());
        for beat in 2..5 {
            watched.list(&other.writer.workers);
            assert!(!watched.one_is_free());
            one.leave(worker).await.unwrap();
            watched.list(&other.writer.workers);
            assert!(watched.one_is_free());
            watched.list(&other.writer.workers);
            assert!(!watched.one_is_free(), "that was told already");
            renew(&one, worker, beat).await;
        }
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn where_a_lock_tells_nothing_the_number_does() {
        let (_folder, one, other) = two().await;
        renew(&one, WorkerId::new(), 1).await;
        let (workers, worker) = (&other.writer.workers, WorkerId::new());
        // It cannot be opened.
        std::os::unix::fs::symlink(workers.path(worker, LOCK), workers.path(worker, LOCK)).unwrap();
        fs::write(workers.path(worker, BEAT), 10_u64.to_le_bytes()).unwrap();
        assert_eq!(workers.seen(from_ref(&worker)).unwrap().last().map(|seen| seen.gone), Some(false));
        assert_eq!(presence(&other, worker).await, seen(worker, 10, false, false));
        assert!(!workers.judge(worker, Some(9)) && workers.judge(worker, Some(10)));
        assert!(workers.path(worker, JUDGED).exists(), "it may live");
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_used_is_named() {
        let (folder, one, other) = two().await;
        let (worker, job) = running(&one).await;
        let beat = one.writer.workers.path(worker, BEAT);
        fs::remove_file(&beat).unwrap();
        fs::create_dir(&beat).unwrap();
        let named = |error: Error, path: &Path| {
            assert!(
                error.is_store_trouble() && chain(&error).contains(&format!("`{}`: ", path.display())),
                "{error:?}"
            );
        };
        assert_eq!(other.workers().await.unwrap(), [], "it is left out, and holds up no other");
        named(one.renew(worker, 2).await.unwrap_err(), &beat);
        assert_eq!(take(&other, &job, None).await, Written::Fenced, "it is not known whether the worker is silent");
        assert!(!other.writer.workers.is_gone(worker), "it keeps its lock");
        fs::remove_dir(&beat).unwrap();
        assert_eq!(renew(&one, worker, 3).await, 1);
        fs::remove_dir_all(meeting(&folder)).unwrap();
        fs::write(meeting(&folder), "in the way").unwrap();
        named(one.renew(WorkerId::new(), 1).await.unwrap_err(), &meeting(&folder));
        named(other.workers().await.unwrap_err(), &meeting(&folder));
    }
}
