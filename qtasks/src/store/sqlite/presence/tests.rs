//! Two stores on one file, as of two processes.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    slice::from_ref,
    sync::Arc,
};

use tempfile::TempDir;

use super::{
    folder::{BEAT, JUDGED, LOCK, NEW, UNTIL, is_copy, is_free},
    watch::Watched,
};
use crate::{
    error::{Error, chain},
    model::{
        job::{Job, NextState, WorkerId},
        lifecycle::Outcome,
    },
    store::{
        Hold, Notifier, Presence, Settlement, Store, Written,
        sqlite::{
            Sqlite,
            fixture::{NOW, ask, neighbour, new_job, soon, temp_url},
        },
    },
};

/// Two stores on one file, as of two processes.
async fn two() -> (TempDir, Sqlite, Sqlite) {
    let (folder, url) = temp_url("");
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
    let next = NextState::Waiting { due: NOW };
    let lost = Settlement {
        hold,
        outcome: Outcome { next, failures: 0, suspect: None },
        steps: None,
        attempt: None,
        now: NOW,
    };
    store.settle([lost].into()).await.unwrap()[0]
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
    let mut lost_workers = other.notifier().lost();
    assert_eq!(presence(&other, worker).await, seen(worker, 1, true, false));
    drop(one);
    soon(lost_workers.notification()).await;
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
async fn workers_of_one_process_are_kept_apart() {
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
    let ((worker, job), mut lost_workers) = (running(&one).await, one.notifier().lost());
    one.leave(worker).await.unwrap();
    assert!(lost_workers.take_notification(), "the other workers of this store can take its jobs");
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
    let (lock, copy) = (one.writer.workers.folder.file(worker, LOCK), folder.path().join("copy"));
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
async fn a_worker_that_was_judged_reads_its_leases_behind_the_worker_that_takes_them() {
    let (folder, one, other) = two().await;
    let (one, other, notifier) = (&one.writer.workers, &other.writer.workers, Arc::new(Notifier::new()));
    let worker = WorkerId::new();
    let in_doubt = |beat| one.show(worker, beat, &notifier).unwrap();
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
    fs::remove_file(one.folder.file(worker, LOCK)).unwrap();
    assert!(other.judge(worker, Some(6)));
    assert_eq!(files(&folder), names(worker, &["beat"]), "without a lock no mark is needed");
    assert!(in_doubt(7));
}

#[tokio::test]
async fn what_is_left_of_a_start_goes_away_and_a_start_under_way_does_not() {
    let (folder, one, other) = two().await;
    renew(&other, WorkerId::new(), 1).await;
    let new = |worker: WorkerId| File::create(one.writer.workers.folder.file(worker, NEW)).unwrap();
    let (broken_off, under_way) = (WorkerId::new(), WorkerId::new());
    drop(new(broken_off));
    let lock = new(under_way);
    lock.try_lock().unwrap();
    for worker in [broken_off, under_way] {
        assert_eq!(presence(&other, worker).await, seen(worker, None, false, false));
        other.forget(worker, None).await.unwrap();
    }
    let remaining: Vec<_> = files(&folder).into_iter().filter(|name| name.ends_with("new")).collect();
    assert_eq!(remaining, [format!("{under_way}.new")]);
}

#[tokio::test]
async fn files_of_the_format_before_go_away() {
    let (folder, one, other) = two().await;
    let (worker, old) = (WorkerId::new(), WorkerId::new());
    renew(&one, worker, 1).await;
    for kind in [LOCK, UNTIL, JUDGED] {
        fs::write(one.writer.workers.folder.file(old, kind), 10_i64.to_le_bytes()).unwrap();
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
        watched.list(&other.writer.workers.folder, &other.writer.workers.others().unwrap());
        assert!(!watched.one_is_free());
        one.leave(worker).await.unwrap();
        watched.list(&other.writer.workers.folder, &other.writer.workers.others().unwrap());
        assert!(watched.one_is_free());
        watched.list(&other.writer.workers.folder, &other.writer.workers.others().unwrap());
        assert!(!watched.one_is_free(), "that was told already");
        renew(&one, worker, beat).await;
    }
}

#[cfg(unix)]
#[tokio::test]
async fn where_a_lock_proves_nothing_the_number_counts() {
    let (_folder, one, other) = two().await;
    renew(&one, WorkerId::new(), 1).await;
    let (workers, worker) = (&other.writer.workers, WorkerId::new());
    // It cannot be opened.
    std::os::unix::fs::symlink(workers.folder.file(worker, LOCK), workers.folder.file(worker, LOCK)).unwrap();
    fs::write(workers.folder.file(worker, BEAT), 10_u64.to_le_bytes()).unwrap();
    assert_eq!(workers.seen(from_ref(&worker)).unwrap().last().map(|seen| seen.gone), Some(false));
    assert_eq!(presence(&other, worker).await, seen(worker, 10, false, false));
    assert!(!workers.judge(worker, Some(9)) && workers.judge(worker, Some(10)));
    assert!(workers.folder.file(worker, JUDGED).exists(), "it may live");
}

#[tokio::test]
async fn a_file_that_cannot_be_used_is_named() {
    let (folder, one, other) = two().await;
    let (worker, job) = running(&one).await;
    let beat = one.writer.workers.folder.file(worker, BEAT);
    fs::remove_file(&beat).unwrap();
    fs::create_dir(&beat).unwrap();
    let named = |error: Error, path: &Path| {
        assert!(error.is_store_trouble() && chain(&error).contains(&format!("`{}`: ", path.display())), "{error:?}");
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
