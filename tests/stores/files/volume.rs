//! A volume of 8 MiB.

use std::{fs, io::Write as _, path::Path};

use libtest_mimic::Trial;
use qtasks::{
    prelude::*,
    store::{Budget, Find},
};
use qtasks_tests::{eventually, in_time, whole};

use crate::child::{self, Cast};

const SMALL: Cast = Cast::Mounting("mount -t tmpfs -o size=8m none \"$1\"");
const VOLUME: u64 = 8 << 20;

pub(crate) fn trials() -> Vec<Trial> {
    let on_small = |name, role: &'static str| {
        child::trial(SMALL, name, move || {
            let folder = tempfile::tempdir().expect("a temporary folder can be made");
            println!("{}", SMALL.play(role, folder.path()));
        })
    };
    vec![
        on_small("jobs_and_not_their_log_fill_a_small_volume", "fill"),
        on_small("jobs_that_fill_a_small_volume_can_be_done", "drain"),
        on_small("work_waits_for_room_on_a_full_volume_and_goes_on", "crowd"),
    ]
}

#[qtask]
async fn keeps(text: String) -> usize {
    text.len()
}

/// Ends once there is this file.
#[qtask]
async fn awaits(path: String) {
    while !Path::new(&path).exists() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

/// Enqueues jobs of so many bytes one by one until that fails; gives how many it were.
async fn enqueue_until_full(app: &QueueTasks, folder: &Path, bytes: usize) -> u64 {
    for count in 0.. {
        if let Err(error) = app.enqueue(keeps("x".repeat(bytes))).await {
            let text = whole(&error);
            assert!(error.is_store_trouble(), "{text}");
            assert!(text.contains(&format!("`{}`", folder.join("jobs.db").display())), "{text}");
            assert!(text.contains("no room is left") && text.contains("make room"), "{text}");
            return count;
        }
    }
    unreachable!("there are more bytes than the volume has")
}

fn size(folder: &Path, name: &str) -> u64 {
    fs::metadata(folder.join(name)).map_or(0, |metadata| metadata.len())
}

pub(crate) async fn fill(folder: &Path) {
    let app = child::app(folder).await.unwrap();
    let count = enqueue_until_full(&app, folder, 500).await;
    let (file, log) = (size(folder, "jobs.db"), size(folder, "jobs.db-wal"));
    assert!(
        file > VOLUME / 4 * 3 && log < VOLUME / 8,
        "the file has {file} bytes and the log {log}, with {count} jobs"
    );
    assert_eq!(
        app.find(Find::default().oldest_first()).budget(Budget::jobs(usize::MAX)).await.unwrap().jobs.len() as u64,
        count
    );
}

pub(crate) async fn drain(folder: &Path) {
    let app = child::app(folder).await.unwrap();
    let count = enqueue_until_full(&app, folder, 20_000).await;
    in_time(app.worker().run_until_idle()).await.unwrap();
    let jobs = app.find(Find::default().oldest_first()).budget(Budget::jobs(usize::MAX)).await.unwrap().jobs;
    assert_eq!(jobs.iter().filter(|job| job.standing.state.name() == "done").count() as u64, count);
}

pub(crate) async fn crowd(folder: &Path) {
    let app = child::app(folder).await.unwrap();
    let sign = folder.join("sign");
    let worker = app.worker().start().await.unwrap();
    let job = app.enqueue(awaits(sign.display().to_string())).await.unwrap();
    eventually("it runs", async || job.status().await.unwrap().state.name() == "running").await;
    fs::write(&sign, "").unwrap();
    fs::rename(&sign, folder.join("later")).unwrap();
    take_all_room(folder);
    enqueue_until_full(&app, folder, 500).await;
    // Its end finds no room.
    fs::rename(folder.join("later"), &sign).unwrap();
    take_all_room(folder);
    fs::remove_file(folder.join("filler")).unwrap();
    in_time(job.result()).await.unwrap();
    let more = app.enqueue(keeps("x".into())).await.unwrap();
    assert_eq!(in_time(more.result()).await.unwrap(), 1);
    worker.shutdown().await.unwrap();
}

fn take_all_room(folder: &Path) {
    let mut filler = fs::OpenOptions::new().append(true).create(true).open(folder.join("filler")).unwrap();
    for chunk in [1 << 16, 1 << 12, 1] {
        while filler.write_all(&vec![0; chunk]).is_ok() {}
    }
}
