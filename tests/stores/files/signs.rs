//! The files by which workers show that they live are removed or replaced. Each worker is a process.

use std::{fs, path::Path};

use libtest_mimic::Trial;
use qtasks::{prelude::*, sqlite::rusqlite::Connection};
use rustix::process::Signal;

use crate::{
    scene::{Kind, Scene, all_run, each_ends_at_its_first_attempt, trial},
    tasks::{naps, ticks},
};

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = vec![
        sqlite("a_worker_keeps_its_jobs_when_all_signs_are_removed", async |scene| keeps(scene, removed).await),
        sqlite("a_worker_keeps_its_jobs_when_its_signs_are_copies", async |scene| keeps(scene, copied).await),
        sqlite("a_copy_of_the_database_goes_on_where_it_was", is_restored_elsewhere),
    ];
    for ending in ["beat", "lock", ""] {
        for (how, signal) in [("frozen", Signal::STOP), ("killed", Signal::KILL)] {
            let sign = if ending.is_empty() { "any_sign" } else { ending };
            let name = format!("a_worker_without_{sign}_that_is_{how}_is_found");
            trials.push(sqlite(&name, async move |scene| is_lost(scene, ending, signal).await));
        }
    }
    trials
}

fn sqlite(name: &str, test: impl AsyncFnOnce(Scene) + Send + 'static) -> Trial {
    trial(Kind::Sqlite, name, None, test)
}

fn removed(workers: &Path) {
    fs::remove_dir_all(workers).unwrap();
}

/// Replaces the folder by a copy of itself, in which no lock is held.
fn copied(workers: &Path) {
    let (copy, away) = (workers.with_extension("copy"), workers.with_extension("away"));
    fs::create_dir(&copy).unwrap();
    for entry in fs::read_dir(workers).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
    }
    fs::rename(workers, away).unwrap();
    fs::rename(copy, workers).unwrap();
}

async fn keeps(scene: Scene, befalls: fn(&Path)) {
    let _peers = [scene.peer("default"), scene.peer("default")];
    let jobs = [scene.enqueue("naps", naps(6_000)).await, scene.enqueue("ticks", ticks(24, 250)).await];
    all_run(&jobs).await;
    befalls(&scene.file("jobs.db-workers"));
    each_ends_at_its_first_attempt(&jobs).await;
}

async fn is_lost(scene: Scene, ending: &str, signal: Signal) {
    let victim = scene.peer("default");
    let job = scene.enqueue("ticks", ticks(10_000, 100)).await;
    job.has_made(3).await;
    // When it cannot restore them any more.
    victim.signal(signal);
    for entry in fs::read_dir(scene.file("jobs.db-workers")).unwrap() {
        let path = entry.unwrap().path();
        if path.to_str().unwrap().ends_with(ending) {
            fs::remove_file(path).unwrap();
        }
    }
    let _survivor = scene.peer("default");
    job.goes_on_elsewhere().await;
}

/// With none of the files that stood beside it.
async fn is_restored_elsewhere(mut scene: Scene) {
    let _peer = scene.peer("default");
    let job = scene.enqueue("ticks", ticks(10_000, 100)).await;
    job.has_made(3).await;
    let (path, copy) = (scene.file("jobs.db"), scene.file("restored.db"));
    Connection::open(path).unwrap().execute("VACUUM INTO ?1", [copy.to_str().unwrap()]).unwrap();
    scene.url = format!("sqlite:{}", copy.display());
    scene.app = QueueTasks::open(&scene.url).await.unwrap();
    let restored = scene.job("ticks", job.handle.id()).await;
    let _survivor = scene.peer("default");
    restored.goes_on_elsewhere().await;
}
