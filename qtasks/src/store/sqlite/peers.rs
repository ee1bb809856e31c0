//! Which workers live: each keeps a file locked beside the database, and a heartbeat beside that.
//!
//! In the folder `<database>-workers` a worker has `<id>.lock`, which it keeps locked as long as it lives, and
//! `<id>.until`: the time until which its leases last, in milliseconds since 1970, as 8 bytes, the lowest first. They are
//! two, since on Windows a locked file cannot be read by others. The operating system frees the lock of a process at the
//! moment when that ends, whatever ends it. Nobody needs the number of a process for that, which may be another's by now.
//!
//! A worker is gone when its lock is free or not there; and when it has it, but its leases have run out: then it is
//! frozen, or its clock is not ours. Where the file system has no locks, the time alone tells.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, ErrorKind, Seek as _, Write as _},
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use uuid::Uuid;

use crate::{job::WorkerId, store::Bell};

/// How often the locks of others are looked at.
const EVERY: Duration = Duration::from_millis(100);
/// At each so many looks it is learned whose locks there are.
const LISTED_EVERY: u32 = 10;

/// The workers of this store, and what can be told of all others on the same file.
pub(super) struct Peers {
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
    until: File,
    /// Whether its jobs may have been taken since it last knew of them.
    doubt: bool,
    _lock: File,
}

impl Peers {
    /// Those who meet in this folder, which need not be there.
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder, own: Mutex::default(), changed: Condvar::new() }
    }

    /// Says that `worker` lives in this store and keeps its leases until `until`.
    ///
    /// Gives whether somebody may just be taking its jobs: then which ones are left is to be read behind their writes, and
    /// when that is done, [`is_sure`](Self::is_sure) to be called.
    pub(super) fn renew(self: &Arc<Self>, worker: WorkerId, until: i64, bell: &Arc<Bell>) -> io::Result<bool> {
        let mut own = self.own();
        // Somebody may have cleaned up behind us; then a new lock is needed.
        let is_there = || !matches!(self.path(worker, "lock").try_exists(), Ok(false));
        let known = own.signs.remove(&worker).filter(|_| is_there());
        let sign = own.signs.entry(worker).insert_entry(match known {
            Some(sign) => sign,
            None => self.establish(worker, until)?,
        });
        let sign = sign.into_mut();
        write(&mut sign.until, until)?;
        // Who takes a worker for gone writes that down, and then looks for its heartbeat once more; the worker does the
        // same the other way round. So one of the two learns of the other.
        sign.doubt |= fs::remove_file(self.path(worker, "judged")).is_ok();
        let doubt = sign.doubt;
        if !own.watching {
            own.watching = self.watch(bell);
        }
        Ok(doubt)
    }

    /// Says that `worker` knows what was taken from it.
    pub(super) fn is_sure(&self, worker: WorkerId) {
        if let Some(sign) = self.own().signs.get_mut(&worker) {
            sign.doubt = false;
        }
    }

    /// Takes back all that says that `worker` lives.
    pub(super) fn leave(&self, worker: WorkerId) {
        let sign = self.own().signs.remove(&worker);
        self.changed.notify_all();
        self.remove(worker, "lock");
        drop(sign);
        self.remove(worker, "until");
        self.remove(worker, "judged");
        // It stays for as long as others have files there.
        _ = fs::remove_dir(&self.folder);
    }

    /// Lets go of all locks, as the end of the process does.
    pub(super) fn let_go(&self) {
        self.own().signs.clear();
        self.changed.notify_all();
    }

    /// Whether `worker` is gone as far as one can see.
    pub(super) fn is_gone(&self, worker: WorkerId, now: i64) -> bool {
        self.is_unlocked(worker) || self.has_run_out(worker, now)
    }

    /// Whether `worker` is gone, for whoever now takes its jobs: one that comes back learns of that.
    pub(super) fn judge(&self, worker: WorkerId, now: i64) -> bool {
        if self.is_unlocked(worker) {
            return true;
        }
        if !self.has_run_out(worker, now) {
            return false;
        }
        match File::create(self.path(worker, "judged")) {
            Ok(_) => self.has_run_out(worker, now),
            Err(error) => {
                tracing::warn!(%error, %worker, "a frozen worker's jobs are left with it: it could not be told");
                false
            }
        }
    }

    /// Removes what is left of workers that are gone and are not among the `holders` of jobs.
    pub(super) fn sweep(&self, holders: &[WorkerId]) {
        for (worker, kind) in self.listed().filter(|(worker, _)| !holders.contains(worker)) {
            if self.own().signs.contains_key(&worker) {
                continue;
            }
            // Of a worker that is about to start nothing is removed either: it has locked its file by now, or tries again.
            let path = self.path(worker, kind);
            let Ok(file) = File::open(&path) else { continue };
            if file.try_lock_shared().is_ok() {
                self.remove(worker, "until");
                self.remove(worker, "judged");
                self.remove(worker, kind);
            }
        }
    }

    /// Makes the files of a worker of this store.
    fn establish(&self, worker: WorkerId, until: i64) -> io::Result<Sign> {
        const TRIES: u32 = 100;
        for _ in 0..TRIES {
            match self.try_establish(worker, until) {
                // Somebody who cleans up has met us half way.
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::WouldBlock) => {
                    thread::sleep(Duration::from_millis(1));
                }
                established => return established,
            }
        }
        self.try_establish(worker, until)
    }

    /// The lock has another name until it is locked, so that nobody ever finds that of a living worker free.
    fn try_establish(&self, worker: WorkerId, until: i64) -> io::Result<Sign> {
        fs::create_dir_all(&self.folder)?;
        let new = self.path(worker, "new");
        let lock = OpenOptions::new().write(true).create(true).truncate(false).open(&new)?;
        match lock.try_lock() {
            Err(TryLockError::Error(error)) if error.kind() != ErrorKind::Unsupported => return Err(error),
            Err(TryLockError::WouldBlock) => return Err(ErrorKind::WouldBlock.into()),
            Ok(()) | Err(TryLockError::Error(_)) => {}
        }
        let mut heartbeat =
            OpenOptions::new().write(true).create(true).truncate(false).open(self.path(worker, "until"))?;
        write(&mut heartbeat, until)?;
        fs::rename(new, self.path(worker, "lock"))?;
        Ok(Sign { until: heartbeat, doubt: true, _lock: lock })
    }

    /// Starts a thread that looks at the locks of others as long as this store has workers of its own; gives whether it
    /// could be started.
    fn watch(self: &Arc<Self>, bell: &Arc<Bell>) -> bool {
        let (peers, bell) = (Arc::clone(self), Arc::clone(bell));
        let body = move || {
            let (mut watched, mut looks) = (Watched::default(), (0..LISTED_EVERY).cycle());
            while peers.pause() {
                if looks.next() == Some(0) {
                    watched.list(&peers);
                }
                if watched.one_is_free() {
                    bell.ring_lost();
                }
            }
        };
        let started = thread::Builder::new().name("qtasks-peers".to_owned()).spawn(body);
        started.inspect_err(|error| tracing::warn!(%error, "lost workers are noticed later: no thread to look")).is_ok()
    }

    /// Waits until it is time to look again; gives whether there is still somebody to look for.
    fn pause(&self) -> bool {
        let waited = self.changed.wait_timeout_while(self.own(), EVERY, |own| !own.signs.is_empty());
        let (mut own, _) = waited.unwrap_or_else(PoisonError::into_inner);
        own.watching = !own.signs.is_empty();
        own.watching
    }

    /// Workers that have a lock, or are about to have one, with the kind of that file.
    fn listed(&self) -> impl Iterator<Item = (WorkerId, &'static str)> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        entries.filter_map(|entry| {
            let name = entry.file_name();
            let (id, kind) = name.to_str()?.split_once('.')?;
            let kind = ["lock", "new"].into_iter().find(|known| *known == kind)?;
            Some((WorkerId::from_bytes(Uuid::parse_str(id).ok()?.into_bytes()), kind))
        })
    }

    /// Whether the lock is free or not there. One that cannot be looked at counts as held: then the time tells.
    fn is_unlocked(&self, worker: WorkerId) -> bool {
        if self.own().signs.contains_key(&worker) {
            return false;
        }
        match File::open(self.path(worker, "lock")) {
            Ok(file) => is_free(&file),
            Err(error) => error.kind() == ErrorKind::NotFound,
        }
    }

    fn has_run_out(&self, worker: WorkerId, now: i64) -> bool {
        let heartbeat = fs::read(self.path(worker, "until")).ok();
        heartbeat.and_then(|bytes| bytes.try_into().ok()).is_some_and(|bytes| i64::from_le_bytes(bytes) < now)
    }

    fn path(&self, worker: WorkerId, kind: &str) -> PathBuf {
        self.folder.join(format!("{worker}.{kind}"))
    }

    /// Removes a file; one that is not there, or cannot be removed now, is left to a later sweep.
    fn remove(&self, worker: WorkerId, kind: &str) {
        _ = fs::remove_file(self.path(worker, kind));
    }

    fn own(&self) -> MutexGuard<'_, Own> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn write(heartbeat: &mut File, until: i64) -> io::Result<()> {
    heartbeat.rewind()?;
    heartbeat.write_all(&until.to_le_bytes())
}

/// Whether nobody has the lock of a file.
fn is_free(file: &File) -> bool {
    // Shared: of two that look at the same time neither may take the other for the owner.
    let free = file.try_lock_shared().is_ok();
    if free {
        _ = file.unlock();
    }
    free
}

/// The locks of others, kept open so that a look costs next to nothing; nothing for those that were found free.
#[derive(Default)]
struct Watched(HashMap<WorkerId, Option<File>>);

impl Watched {
    /// Learns who there is.
    fn list(&mut self, peers: &Peers) {
        let listed = peers.listed().filter(|(_, kind)| *kind == "lock").map(|(worker, _)| worker);
        let mut others: HashSet<_> = listed.collect();
        others.retain(|worker| !peers.own().signs.contains_key(worker));
        self.0.retain(|worker, _| others.contains(worker));
        for worker in others {
            self.0.entry(worker).or_insert_with(|| File::open(peers.path(worker, "lock")).ok());
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
        job::{Job, State},
        store::{
            Ask, Hold, Settlement, Store, Written,
            sqlite::{
                Sqlite,
                fixture::{NOW, ask, neighbour, new_job, place, soon},
            },
        },
    };

    const HOUR: jiff::SignedDuration = jiff::SignedDuration::from_hours(1);

    /// Two stores on one file, as of two processes.
    async fn two() -> (TempDir, Sqlite, Sqlite) {
        let (folder, url) = place("");
        let (one, other) = (Sqlite::open(&url).await.unwrap(), Sqlite::open(&url).await.unwrap());
        (folder, one, other)
    }

    /// Has a new worker of the store lease a job, for an hour from now on.
    async fn running(store: &Sqlite) -> (WorkerId, Job) {
        let asked = ask(1);
        store.enqueue(vec![new_job()]).await.unwrap();
        store.renew(asked.worker, NOW + HOUR).await.unwrap();
        (asked.worker, store.lease(asked).await.unwrap().jobs.remove(0))
    }

    fn lost(job: &Job, now: jiff::Timestamp) -> Settlement {
        let hold = Hold::Expired { attempt: job.attempt, now };
        let next = State::Waiting { due: NOW };
        Settlement { job: job.id, hold, steps: None, next, failures: 0, suspect: true, attempt: None, now }
    }

    fn files(folder: &TempDir) -> Vec<String> {
        let entries = fs::read_dir(folder.path().join("jobs.db-workers")).into_iter().flatten();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[tokio::test]
    async fn a_store_that_is_dropped_as_in_a_crash_loses_its_jobs_at_once() {
        let (folder, one, other) = two().await;
        let (_, job) = running(&one).await;
        other.renew(WorkerId::new(), NOW + HOUR).await.unwrap();
        let mut told = other.bell().lost();
        assert_eq!(other.expired(NOW, 9).await.unwrap(), []);
        assert_eq!(other.settle(vec![lost(&job, NOW)]).await.unwrap(), [Written::Fenced]);
        drop(one);
        soon(told.heard()).await;
        assert_eq!(other.expired(NOW, 9).await.unwrap(), from_ref(&job), "although its leases last an hour");
        assert_eq!(other.settle(vec![lost(&job, NOW)]).await.unwrap(), [Written::Yes]);
        assert_eq!(other.expired(NOW, 9).await.unwrap(), []);
        assert_eq!(files(&folder).len(), 2, "what the dead one left behind goes away: {:?}", files(&folder));
    }

    #[tokio::test]
    async fn a_worker_that_lives_but_does_not_renew_loses_its_jobs_later() {
        let (_folder, one, other) = two().await;
        let (worker, job) = running(&one).await;
        let late = NOW + HOUR + jiff::SignedDuration::from_millis(1);
        assert_eq!(other.expired(NOW + HOUR, 9).await.unwrap(), []);
        assert_eq!(other.expired(late, 9).await.unwrap(), from_ref(&job));
        one.renew(worker, late).await.unwrap();
        assert_eq!(other.settle(vec![lost(&job, late)]).await.unwrap(), [Written::Fenced], "it came back in time");
        one.renew(worker, NOW).await.unwrap();
        assert_eq!(other.settle(vec![lost(&job, late)]).await.unwrap(), [Written::Yes]);
        assert_eq!(one.renew(worker, late).await.unwrap(), []);
    }

    #[tokio::test]
    async fn workers_of_one_process_are_told_apart() {
        let (_folder, one, other) = two().await;
        let ((first, job), (second, _)) = (running(&one).await, running(&one).await);
        let (third, _) = running(&other).await;
        one.leave(first).await.unwrap();
        for store in [&one, &other] {
            assert_eq!(store.expired(NOW, 9).await.unwrap(), from_ref(&job));
            let gone = [first, second, third].map(|worker| store.writer.peers.is_gone(worker, 0));
            assert_eq!(gone, [true, false, false]);
        }
    }

    #[tokio::test]
    async fn a_locked_database_keeps_nobody_from_renewing() {
        let (folder, one, other) = two().await;
        let (worker, job) = running(&one).await;
        let neighbour = neighbour(&folder);
        neighbour.execute_batch("BEGIN IMMEDIATE").unwrap();
        let later = NOW + HOUR + HOUR;
        assert_eq!(soon(one.renew(worker, later)).await.unwrap().len(), 1);
        assert_eq!(soon(other.expired(later, 9)).await.unwrap(), []);
        neighbour.execute_batch("COMMIT").unwrap();
        assert_eq!(one.job(job.id).await.unwrap().unwrap().state, State::Running { worker });
    }

    #[tokio::test]
    async fn files_go_with_the_last_worker() {
        let (folder, one, other) = two().await;
        let (first, second) = (WorkerId::new(), WorkerId::new());
        one.renew(first, NOW).await.unwrap();
        other.renew(second, NOW).await.unwrap();
        let mut expected =
            [first, second].map(|worker| ["lock", "until"].map(|kind| format!("{worker}.{kind}"))).concat();
        expected.sort();
        assert_eq!(files(&folder), expected);
        one.leave(first).await.unwrap();
        other.leave(second).await.unwrap();
        assert!(!folder.path().join("jobs.db-workers").exists());
        one.leave(first).await.unwrap();
        one.renew(first, NOW).await.unwrap();
        assert!(!other.writer.peers.is_gone(first, 0), "it can come back");
    }

    #[tokio::test]
    async fn a_folder_that_somebody_swept_is_made_again() {
        let (folder, one, other) = two().await;
        let (worker, job) = running(&one).await;
        fs::remove_dir_all(folder.path().join("jobs.db-workers")).unwrap();
        assert_eq!(other.expired(NOW, 9).await.unwrap(), [job], "nothing says that the worker lives");
        one.renew(worker, NOW + HOUR).await.unwrap();
        assert_eq!(other.expired(NOW, 9).await.unwrap(), []);
    }

    #[tokio::test]
    async fn a_worker_that_was_taken_for_gone_reads_its_leases_behind_who_takes_them() {
        let (_folder, one, other) = two().await;
        let (one, other, bell) = (&one.writer.peers, &other.writer.peers, Arc::new(Bell::new()));
        let worker = WorkerId::new();
        assert!(one.renew(worker, 10, &bell).unwrap(), "nobody knows what was before");
        assert!(one.renew(worker, 10, &bell).unwrap(), "until the leases are read");
        one.is_sure(worker);
        assert!(!one.renew(worker, 10, &bell).unwrap());
        assert!(!other.judge(worker, 10));
        assert!(!one.renew(worker, 10, &bell).unwrap());
        assert!(other.judge(worker, 11));
        assert!(one.renew(worker, 20, &bell).unwrap());
        one.is_sure(worker);
        assert!(!other.judge(worker, 20) && !one.renew(worker, 20, &bell).unwrap());
    }

    #[tokio::test]
    async fn what_is_left_of_a_start_goes_away_and_a_start_under_way_does_not() {
        let (folder, one, other) = two().await;
        other.renew(WorkerId::new(), NOW).await.unwrap();
        let new = |worker: WorkerId| File::create(one.writer.peers.path(worker, "new")).unwrap();
        let (broken_off, under_way) = (WorkerId::new(), WorkerId::new());
        drop(new(broken_off));
        let lock = new(under_way);
        lock.try_lock().unwrap();
        other.expired(NOW, 9).await.unwrap();
        let left: Vec<_> = files(&folder).into_iter().filter(|name| name.ends_with("new")).collect();
        assert_eq!(left, [format!("{under_way}.new")]);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn nobody_finds_a_worker_gone_that_starts_among_others_that_clean_up() {
        let (_folder, one, other) = two().await;
        for _ in 0..200 {
            let asked = Ask { worker: WorkerId::new(), ..ask(1) };
            let renewing = one.renew(asked.worker, NOW + HOUR);
            let (renewed, swept) = tokio::join!(renewing, other.expired(NOW, 9));
            assert_eq!((renewed.unwrap(), swept.unwrap()), (vec![], vec![]));
            assert!(!other.writer.peers.is_gone(asked.worker, 0));
        }
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn where_locks_tell_nothing_the_time_does() {
        let (_folder, one, other) = two().await;
        one.renew(WorkerId::new(), NOW).await.unwrap();
        let (peers, worker) = (&other.writer.peers, WorkerId::new());
        // Nobody can open this one.
        std::os::unix::fs::symlink(peers.path(worker, "lock"), peers.path(worker, "lock")).unwrap();
        assert!(!peers.is_gone(worker, 11), "nor is there a time");
        fs::write(peers.path(worker, "until"), 10_i64.to_le_bytes()).unwrap();
        assert_eq!(
            [10, 11].map(|now| (peers.is_gone(worker, now), peers.judge(worker, now))),
            [(false, false), (true, true)]
        );
    }
}
