//! The workers of a store, and what it can see of all others on the same file.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File, TryLockError},
    io::{self, ErrorKind, Seek as _, Write as _},
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use super::{
    folder::{BEAT, Folder, JUDGED, LOCK, NEW, is_at, is_copy, is_free, name_of},
    watch::Watched,
};
use crate::{
    model::job::WorkerId,
    store::{Notifier, Presence, sqlite::access::explained as about},
};

/// How often the locks of others are looked at.
const EVERY: Duration = Duration::from_millis(100);
/// At each so many looks it is learned whose locks there are.
const LISTED_EVERY: u32 = 10;

/// The workers of this store, and what can be seen of all others on the same file.
pub(crate) struct Workers {
    pub(super) folder: Folder,
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
    /// The file of the worker's beat. It stays open: a process that can open no more files must not fall silent.
    beat: Option<File>,
    /// Whether the worker's jobs may have been taken since it last read its leases.
    doubt: bool,
    lock: File,
}

impl Workers {
    /// The workers that have their files in this folder, which need not be there.
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder: Folder::new(folder), own: Mutex::default(), changed: Condvar::new() }
    }

    /// Shows that `worker` lives in this store, by the number of its renewal.
    ///
    /// Gives whether another worker may be taking its jobs in a transaction that is still open. Then the caller reads, after that
    /// transaction, which jobs the worker still has, and calls [`is_sure`](Self::is_sure).
    pub(crate) fn show(self: &Arc<Self>, worker: WorkerId, beat: u64, notifier: &Arc<Notifier>) -> io::Result<bool> {
        let mut own = self.own();
        // Where a lock is held the number comes first: a taker that finds no lock reads the number after that.
        let shown = own.signs.get_mut(&worker).map(|sign| self.write_beat(worker, sign, beat));
        let sign = match (shown, own.signs.get_mut(&worker)) {
            (Some(shown), Some(sign)) if is_at(&sign.lock, &self.folder.file(worker, LOCK)) => {
                shown?;
                sign
            }
            _ => {
                let sign = own.signs.entry(worker).insert_entry(self.establish(worker)?).into_mut();
                self.write_beat(worker, sign, beat)?;
                sign
            }
        };
        sign.doubt |= self.folder.take_mark(worker);
        let doubt = sign.doubt;
        if !own.watching {
            own.watching = self.watch(notifier);
        }
        Ok(doubt)
    }

    /// Takes note that `worker` knows what was taken from it.
    pub(crate) fn is_sure(&self, worker: WorkerId) {
        if let Some(sign) = self.own().signs.get_mut(&worker) {
            sign.doubt = false;
        }
    }

    /// Takes back all that says that `worker` lives. Of one that still `holds` jobs the lock file stays, free, so that
    /// others see at once that it is gone.
    pub(crate) fn leave(&self, worker: WorkerId, holds: bool) -> io::Result<()> {
        let sign = self.own().signs.remove(&worker);
        self.changed.notify_all();
        if sign.is_none() && self.folder.is_locked(worker, LOCK) {
            // The worker lives in another store, and has not left that one.
            return Ok(());
        }
        // The number goes first: so one that is seen beside a free lock is the last that the worker wrote.
        self.folder.remove(worker, BEAT);
        if holds {
            self.folder.open_anew(worker, LOCK)?;
            return Ok(());
        }
        self.folder.remove(worker, LOCK);
        drop(sign);
        self.folder.remove_all(worker);
        Ok(())
    }

    /// Lets go of all locks, as the end of the process does.
    pub(crate) fn let_go(&self) {
        self.own().signs.clear();
        self.changed.notify_all();
    }

    /// The presence of the workers that hold jobs, and of all others that have files. A worker whose number cannot be read is not
    /// listed, and keeps its jobs.
    pub(crate) fn seen(&self, holders: &[WorkerId]) -> io::Result<Vec<Presence>> {
        let holders: HashSet<_> = holders.iter().copied().collect();
        let known: HashSet<_> =
            self.folder.listed()?.map(|(worker, _)| worker).chain(holders.iter().copied()).collect();
        let presence = |worker| {
            // In this order: should the worker come back in between, its number is another than this one.
            let beat = self.folder.beat(worker);
            let beat =
                beat.inspect_err(|error| tracing::warn!(%error, %worker, "a worker cannot be looked at")).ok()?;
            Some(Presence { worker, beat, holds: holders.contains(&worker), gone: self.is_gone(worker) })
        };
        Ok(known.into_iter().filter_map(presence).collect())
    }

    /// Whether the number of `worker` is still `beat`. To be called in the transaction that takes its jobs if so: should
    /// the worker renew meanwhile, it learns of that.
    pub(crate) fn judge(&self, worker: WorkerId, beat: Option<u64>) -> bool {
        self.try_judge(worker, beat).unwrap_or_else(|error| {
            tracing::warn!(%error, %worker, "the jobs of a silent worker are left with it: it could not be marked");
            false
        })
    }

    fn try_judge(&self, worker: WorkerId, beat: Option<u64>) -> io::Result<bool> {
        if self.folder.beat(worker)? != beat {
            return Ok(false);
        }
        if self.folder.is_locked(worker, LOCK) {
            let path = self.folder.file(worker, JUDGED);
            match File::create(&path) {
                Ok(_) => {}
                // The folder was removed, and the lock with it.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(about(&path, error)),
            }
        }
        Ok(self.folder.beat(worker)? == beat)
    }

    /// Removes the files of a worker that holds nothing, if its number is `beat` and no other process keeps its lock. A
    /// worker of this store that is silent then has to show itself anew.
    pub(crate) fn forget(&self, worker: WorkerId, beat: Option<u64>) -> io::Result<()> {
        let mut own = self.own();
        if self.folder.beat(worker)? != beat {
            return Ok(());
        }
        drop(own.signs.remove(&worker));
        self.changed.notify_all();
        // Of a worker that is about to start nothing is removed either: it has locked its file by now, or tries again.
        if ![LOCK, NEW].into_iter().any(|kind| self.folder.is_locked(worker, kind)) {
            self.folder.remove_all(worker);
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
        let (new, lock) = (self.folder.file(worker, NEW), self.folder.open_anew(worker, NEW)?);
        match lock.try_lock() {
            Err(TryLockError::Error(error)) if error.kind() != ErrorKind::Unsupported => {
                return Err(about(&new, error));
            }
            Err(TryLockError::WouldBlock) => return Err(about(&new, ErrorKind::WouldBlock.into())),
            Ok(()) | Err(TryLockError::Error(_)) => {}
        }
        // On a full disk it says nothing, and a copy of it is taken for it.
        _ = lock.metadata().and_then(|found| (&lock).write_all(name_of(&found).as_bytes()));
        fs::rename(&new, self.folder.file(worker, LOCK)).map_err(|error| about(&new, error))?;
        Ok(Sign { beat: None, doubt: true, lock })
    }

    /// Starts a thread that looks at the locks of others as long as this store has workers of its own; gives whether it
    /// could be started.
    fn watch(self: &Arc<Self>, notifier: &Arc<Notifier>) -> bool {
        let (workers, notifier) = (Arc::clone(self), Arc::clone(notifier));
        let body = move || {
            let (mut watched, mut looks) = (Watched::default(), (0..LISTED_EVERY).cycle());
            while workers.pause() {
                if looks.next() == Some(0)
                    && let Ok(others) = workers.others()
                {
                    watched.list(&workers.folder, &others);
                }
                if watched.one_is_free() {
                    notifier.notify_lost();
                }
            }
        };
        let started = thread::Builder::new().name("qtasks-workers".to_owned()).spawn(body);
        started.inspect_err(|error| tracing::warn!(%error, "lost workers are noticed later: no thread to look")).is_ok()
    }

    /// The workers of other stores that have a lock.
    pub(super) fn others(&self) -> io::Result<HashSet<WorkerId>> {
        let locks = self.folder.listed()?.filter(|(_, kind)| *kind == LOCK);
        let mut others: HashSet<_> = locks.map(|(worker, _)| worker).collect();
        let own = self.own();
        others.retain(|worker| !own.signs.contains_key(worker));
        Ok(others)
    }

    /// Waits until it is time to look again; gives whether there is still a worker to look for.
    fn pause(&self) -> bool {
        let waited = self.changed.wait_timeout_while(self.own(), EVERY, |own| !own.signs.is_empty());
        let (mut own, _) = waited.unwrap_or_else(PoisonError::into_inner);
        own.watching = !own.signs.is_empty();
        own.watching
    }

    pub(super) fn is_gone(&self, worker: WorkerId) -> bool {
        if self.own().signs.contains_key(&worker) {
            return false;
        }
        File::open(self.folder.file(worker, LOCK)).is_ok_and(|lock| is_free(&lock) && !is_copy(&lock))
    }

    /// Over what stood there, which others may be reading.
    fn write_beat(&self, worker: WorkerId, sign: &mut Sign, beat: u64) -> io::Result<()> {
        let file = match sign.beat.take().filter(|file| is_at(file, &self.folder.file(worker, BEAT))) {
            Some(file) => file,
            None => self.folder.open(worker, BEAT)?,
        };
        let file = sign.beat.insert(file);
        let written = file.rewind().and_then(|()| file.write_all(&beat.to_le_bytes()));
        written.map_err(|error| about(&self.folder.file(worker, BEAT), error))
    }

    fn own(&self) -> MutexGuard<'_, Own> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
