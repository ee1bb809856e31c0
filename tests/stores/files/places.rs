//! Where a database stands: without the right to write there, under two names, as a mount of its own.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use libtest_mimic::Trial;
use qtasks::sqlite::rusqlite::Connection;
use qtasks_tests::in_time;
use tempfile::TempDir;

use crate::{
    child::{self, Cast},
    tasks::naps,
};

pub(crate) fn trials() -> Vec<Trial> {
    const READ_ONLY: Cast = Cast::Mounting("mount --bind \"$1\" \"$1\"; mount -o remount,bind,ro \"$1\"");
    const OF_ITS_OWN: Cast = Cast::Mounting(
        "mkdir \"$1/inner\"; touch \"$1/inner/jobs.db\"; mount --bind \"$1/jobs.db\" \"$1/inner/jobs.db\"
         set -- \"$1/inner\"",
    );
    vec![
        child::trial(Cast::Nobody, "a_file_that_may_not_be_written_to_is_refused", file_is_anothers),
        child::trial(Cast::Nobody, "a_folder_that_may_not_be_written_to_is_refused", folder_is_anothers),
        child::trial(Cast::Nobody, "a_folder_in_which_no_database_can_be_made_is_named", folder_is_empty),
        child::trial(Cast::Nobody, "a_log_that_may_not_be_written_to_is_named", log_is_anothers),
        child::trial(Cast::Nobody, "a_folder_of_workers_that_may_not_be_written_to_is_named", workers_are_anothers),
        child::trial(READ_ONLY, "a_volume_that_is_mounted_read_only_is_named", move || volume_is_read_only(READ_ONLY)),
        child::trial(OF_ITS_OWN, "a_file_that_is_mounted_by_itself_is_refused", move || is_a_mount(OF_ITS_OWN)),
        child::trial(Cast::Anybody, "a_second_hard_link_is_warned_of", has_two_links),
        child::trial(Cast::Anybody, "names_by_symlink_share_log_and_workers", has_two_names),
    ]
}

/// Opens the store in a folder, and prints what comes of it, and what is warned of.
pub(crate) async fn open(folder: &Path) {
    tracing_subscriber::fmt().with_ansi(false).with_writer(std::io::stdout).init();
    match child::app(folder).await {
        Ok(_) => println!("it is open"),
        Err(error) => println!("{error:?}"),
    }
}

/// Reads the database, and closes it.
fn visit(folder: &Path) {
    let file = Connection::open(folder.join("jobs.db")).expect("it can be opened");
    file.query_row("SELECT count(*) FROM qtasks_jobs", [], |_| Ok(())).expect("it can be read");
}

/// Starts a worker there.
pub(crate) async fn start(folder: &Path) {
    let app = child::app(folder).await.expect("it can be opened");
    match app.worker().start().await {
        Ok(_) => println!("it works"),
        Err(error) => println!("{error:?}"),
    }
}

/// A folder with a database that was closed; both may be used by anybody.
fn anybodys() -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    opened(folder.path());
    allow(folder.path(), 0o777);
    allow(&folder.path().join("jobs.db"), 0o666);
    folder
}

/// Opens the store and closes it.
fn opened(folder: &Path) {
    assert!(Cast::Anybody.play("open", folder).contains("it is open"));
    // That process did not wait for its store to close the database, which removes the log.
    visit(folder);
}

fn allow(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("it is this user's");
}

fn says(said: &str, texts: &[&str]) {
    assert!(texts.iter().all(|text| said.contains(text)), "{said} and not {texts:?}");
}

fn file_is_anothers() {
    let folder = anybodys();
    let file = folder.path().join("jobs.db");
    allow(&file, 0o444);
    let said = Cast::Nobody.play("open", folder.path());
    says(&said, &[&format!("may not write to `{}`", file.display()), "Permission denied", "chmod", "chown"]);
}

fn folder_is_anothers() {
    let folder = anybodys();
    allow(folder.path(), 0o555);
    let said = Cast::Nobody.play("open", folder.path());
    says(&said, &[&format!("may not write to `{}`", folder.path().display()), "the log", "chmod"]);
}

fn folder_is_empty() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    allow(folder.path(), 0o555);
    let said = Cast::Nobody.play("open", folder.path());
    says(&said, &[&format!("may not write to `{}`", folder.path().display()), "chmod"]);
}

fn log_is_anothers() {
    let folder = anybodys();
    let log = folder.path().join("jobs.db-wal");
    fs::write(&log, "").unwrap();
    allow(&log, 0o444);
    let said = Cast::Nobody.play("open", folder.path());
    says(&said, &[&format!("may not write to `{}`", log.display()), "chmod"]);
}

fn workers_are_anothers() {
    let folder = anybodys();
    let workers = folder.path().join("jobs.db-workers");
    fs::create_dir(&workers).unwrap();
    allow(&workers, 0o555);
    let said = Cast::Nobody.play("start", folder.path());
    says(&said, &[&format!("`{}", workers.display()), "Permission denied", "chmod"]);
}

fn volume_is_read_only(cast: Cast) {
    let folder = anybodys();
    let said = cast.play("open", folder.path());
    says(&said, &[&format!("may not write to `{}", folder.path().display()), "Read-only", "mount -o remount,rw"]);
}

fn is_a_mount(cast: Cast) {
    let folder = anybodys();
    let said = cast.play("open", folder.path());
    let file = folder.path().join("inner/jobs.db");
    says(&said, &[&format!("`{}` is mounted by itself", file.display()), "mount its folder"]);
}

fn has_two_links() {
    let folder = anybodys();
    let file = folder.path().join("jobs.db");
    assert!(!Cast::Anybody.play("open", folder.path()).contains("WARN"));
    fs::hard_link(&file, folder.path().join("second.db")).unwrap();
    let said = Cast::Anybody.play("open", folder.path());
    says(&said, &["WARN", &file.display().to_string(), "a second name", "it is open"]);
}

fn has_two_names() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let (real, links) = (folder.path().join("real"), folder.path().join("links"));
    for folder in [&real, &links] {
        fs::create_dir(folder).unwrap();
    }
    std::os::unix::fs::symlink(real.join("jobs.db"), links.join("jobs.db")).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let (by_file, by_link) = (child::app(&real).await.unwrap(), child::app(&links).await.unwrap());
        let worker = by_link.worker().start().await.unwrap();
        let job = by_file.enqueue(naps(1)).await.unwrap();
        in_time(job.result()).await.unwrap();
        let names = |folder: &Path| fs::read_dir(folder).unwrap().count();
        // The database, its log and the index of that, and the folder of workers.
        assert_eq!((names(&real), names(&links)), (4, 1));
        worker.shutdown().await.unwrap();
    });
}
