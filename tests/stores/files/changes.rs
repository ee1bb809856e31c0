//! The files of the database are removed, renamed or replaced under a program that has them open.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use libtest_mimic::Trial;
use qtasks::{
    Error,
    prelude::*,
    sqlite::rusqlite::Connection,
    store::{Budget, Find},
};
use qtasks_tests::{in_time, whole};
use tempfile::TempDir;

use crate::tasks::naps;

/// What is done to a file, with how the error calls it.
type Change = (&'static str, fn(&Path), &'static str);

const CHANGES: [Change; 4] = [
    ("removed", |path| fs::remove_file(path).unwrap(), "is not there any more"),
    ("renamed", |path| fs::rename(path, path.with_extension("away")).unwrap(), "is not there any more"),
    (
        "replaced",
        |path| {
            let other = path.with_extension("other");
            fs::write(&other, "").unwrap();
            fs::rename(other, path).unwrap();
        },
        "another file stands at",
    ),
    (
        "restored_over",
        |path| {
            let copy = path.with_extension("copy");
            fs::copy(path, &copy).unwrap();
            fs::rename(copy, path).unwrap();
        },
        "another file stands at",
    ),
];

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for (file, end) in [("the_database", ""), ("its_log", "-wal"), ("its_index", "-shm")] {
        for change in CHANGES {
            let name = format!("every_call_fails_once_{file}_is_{}", change.0);
            trials.push(test(name, async move || every_call_fails(end, change).await));
            let name = format!("workers_stop_once_{file}_is_{}", change.0);
            trials.push(test(name, async move || workers_stop(end, change).await));
        }
    }
    trials.push(test("every_call_fails_once_the_folder_is_renamed".into(), folder_is_renamed));
    trials.push(test("every_call_fails_once_the_link_leads_elsewhere".into(), link_leads_elsewhere));
    trials.push(test("a_call_that_waits_for_a_lock_fails_once_the_database_is_removed".into(), fails_while_locked));
    trials.push(test("what_was_acknowledged_is_there_though_the_log_was_removed".into(), survives_without_its_log));
    trials.push(test("a_restored_file_is_not_mixed_with_the_log_of_the_one_before".into(), is_restored));
    trials.push(test("a_shell_and_a_vacuum_change_no_file".into(), is_visited));
    trials.push(test("another_store_on_the_new_file_goes_on".into(), is_opened_anew));
    trials
}

fn test(name: String, test: impl AsyncFnOnce() + Send + 'static) -> Trial {
    Trial::test(name, move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.expect("there is a runtime").block_on(test());
        Ok(())
    })
}

fn database() -> (TempDir, PathBuf, String) {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let path = folder.path().canonicalize().unwrap().join("jobs.db");
    let url = format!("sqlite:{}", path.display());
    (folder, path, url)
}

fn beside(path: &Path, end: &str) -> PathBuf {
    format!("{}{end}", path.display()).into()
}

/// That the error says which file it is about, what has happened to it, and what to do.
fn says(error: &Error, path: &Path, happened: &str) {
    let text = whole(error);
    // A connection that is opened in the moment in which log or index are taken away makes them anew.
    let made_anew = ["-wal", "-shm"].iter().any(|end| path.to_string_lossy().ends_with(end))
        && text.contains("another file stands at");
    assert!(text.contains(&format!("`{}`", path.display())) && (text.contains(happened) || made_anew), "{text}");
    assert!(text.contains("start the program again"), "{text}");
    assert!(!error.is_store_trouble(), "a worker would try again after {text}");
}

fn fails<T>(outcome: qtasks::Result<T>, path: &Path, happened: &str) {
    match outcome {
        Ok(_) => panic!("it is acknowledged although `{}` has changed", path.display()),
        Err(error) => says(&error, path, happened),
    }
}

async fn every_call_fails(end: &str, (_, change, happened): Change) {
    let (_folder, path, url) = database();
    let file = beside(&path, end);
    let app = QueueTasks::open(&url).await.unwrap();
    let job = app.enqueue(naps(1)).await.unwrap();
    let (other, mut stream) = (app.any_job(job.id()).await.unwrap(), job.stream());
    // These wait already.
    let waiting = tokio::spawn(async move { other.result().await });
    let streaming = tokio::spawn(async move { stream.next().await });
    let mut own = Connection::open(&path).unwrap();
    let fails = |outcome: qtasks::Result<()>| fails(outcome, &file, happened);

    change(&file);

    fails(app.enqueue(naps(1)).await.map(drop));
    fails(app.enqueue_all([naps(1), naps(2)]).await.map(drop));
    fails(job.status().await.map(drop));
    fails(job.cancel().await.map(drop));
    fails(app.any_job(job.id()).await.map(drop));
    fails(app.find(Find::default().oldest_first()).budget(Budget::jobs(9)).await.map(drop));
    fails(app.worker().start().await.map(drop));
    fails(in_time(job.result()).await.map(drop));
    fails(in_time(waiting).await.unwrap().map(drop));
    fails(in_time(streaming).await.unwrap().expect("it is no end").map(drop));
    // The application's own connection may not even get as far.
    if let Ok(transaction) = own.transaction() {
        let enqueued = app.enqueue_in(&transaction, naps(1)).map(drop);
        assert!(enqueued.is_err(), "it is acknowledged in the application's transaction");
    }
}

async fn workers_stop(end: &str, (_, change, happened): Change) {
    let (_folder, path, url) = database();
    let file = beside(&path, end);
    let app = QueueTasks::open(&url).await.unwrap();
    let job = app.enqueue(naps(600_000)).await.unwrap();
    let worker = app.worker().start().await.unwrap();
    qtasks_tests::eventually("it runs", async || job.status().await.unwrap().state.name() == "running").await;
    change(&file);
    fails(in_time(worker.until_signal()).await, &file, happened);
}

async fn folder_is_renamed() {
    let (folder, _, _) = database();
    let (inner, away) = (folder.path().join("inner"), folder.path().join("away"));
    fs::create_dir(&inner).unwrap();
    let path = inner.canonicalize().unwrap().join("jobs.db");
    let app = QueueTasks::open(&format!("sqlite:{}", path.display())).await.unwrap();
    app.enqueue(naps(1)).await.unwrap();
    fs::rename(inner, away).unwrap();
    fails(app.enqueue(naps(1)).await, &path, "is not there any more");
}

/// As a program is moved from one version of its data to the next.
async fn link_leads_elsewhere() {
    let (_folder, path, _) = database();
    let (link, next) = (path.with_extension("link"), path.with_extension("next"));
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let app = QueueTasks::open(&format!("sqlite:{}", link.display())).await.unwrap();
    app.enqueue(naps(1)).await.unwrap();
    fs::write(&next, "").unwrap();
    fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink(&next, &link).unwrap();
    fails(app.enqueue(naps(1)).await, &link, "another file stands at");
}

async fn fails_while_locked() {
    let (_folder, path, url) = database();
    let app = QueueTasks::open(&format!("{url}?busy=3600")).await.unwrap();
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut waits = Box::pin(app.enqueue(naps(1)));
    assert!(futures::poll!(&mut waits).is_pending());
    fs::remove_file(&path).unwrap();
    fails(in_time(waits).await, &path, "is not there any more");
}

async fn survives_without_its_log() {
    let (_folder, path, url) = database();
    let mut acknowledged = Vec::new();
    {
        let app = QueueTasks::open(&url).await.unwrap();
        for number in 0..88 {
            acknowledged.push(app.enqueue(naps(number)).await.unwrap().id());
        }
        let log = beside(&path, "-wal");
        fs::remove_file(&log).unwrap();
        fails(app.enqueue(naps(1)).await, &log, "is not there any more");
    }
    let app = QueueTasks::open(&url).await.unwrap();
    for id in acknowledged {
        app.any_job(id).await.unwrap();
    }
}

async fn is_restored() {
    let (_folder, path, url) = database();
    let backup = path.with_extension("backup");
    let app = QueueTasks::open(&url).await.unwrap();
    let kept = app.enqueue(naps(1)).await.unwrap().id();
    Connection::open(&path).unwrap().execute("VACUUM INTO ?1", [backup.to_str().unwrap()]).unwrap();
    for number in 0..50 {
        app.enqueue(naps(number)).await.unwrap();
    }
    fs::rename(&backup, &path).unwrap();
    fails(app.enqueue(naps(1)).await, &path, "another file stands at");
    let file = Connection::open(&path).unwrap();
    let found: String = file.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    let jobs: i64 = file.query_row("SELECT count(*) FROM qtasks_jobs", [], |row| row.get(0)).unwrap();
    assert_eq!((&*found, jobs), ("ok", 1));
    let again = QueueTasks::open(&url).await.unwrap();
    assert_eq!(again.find(Find::default().oldest_first()).budget(Budget::jobs(9)).await.unwrap().jobs[0].call.id, kept);
}

/// What may happen to the files any day is no change of them.
async fn is_visited() {
    let (_folder, path, url) = database();
    let app = QueueTasks::open(&url).await.unwrap();
    let worker = app.worker().start().await.unwrap();
    for number in 0..20 {
        app.enqueue(naps(1)).await.unwrap();
        let words = [".schema", "PRAGMA wal_checkpoint(TRUNCATE)", "VACUUM"][number % 3];
        // Where there is no shell, the connection below visits alone.
        let _ = std::process::Command::new("sqlite3").arg("-cmd").arg(".timeout 9000").arg(&path).arg(words).output();
        let own = Connection::open(&path).unwrap();
        own.busy_timeout(Duration::from_secs(9)).unwrap();
        own.execute_batch("PRAGMA wal_checkpoint(TRUNCATE); VACUUM").unwrap();
    }
    let job = app.enqueue(naps(1)).await.unwrap();
    in_time(job.result()).await.unwrap();
    worker.shutdown().await.unwrap();
}

async fn is_opened_anew() {
    let (_folder, path, url) = database();
    let old = QueueTasks::open(&url).await.unwrap();
    old.enqueue(naps(1)).await.unwrap();
    for end in ["", "-wal", "-shm"] {
        fs::rename(beside(&path, end), beside(&path, &format!(".old{end}"))).unwrap();
    }
    let new = QueueTasks::open(&url).await.unwrap();
    fails(old.enqueue(naps(1)).await, &path, "");
    let job = new.enqueue(naps(1)).await.unwrap();
    let mut own = Connection::open(&path).unwrap();
    let transaction = own.transaction().unwrap();
    let in_own = new.enqueue_in(&transaction, naps(1)).unwrap();
    transaction.commit().unwrap();
    in_time(new.worker().run_until_idle()).await.unwrap();
    in_time(job.result()).await.unwrap();
    in_time(in_own.result()).await.unwrap();
    fails(old.enqueue(naps(1)).await, &path, "");
}
