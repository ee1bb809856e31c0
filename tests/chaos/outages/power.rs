//! The power goes, and with it what a Redis server has written and not synced.
//!
//! A server that is killed loses nothing by `appendfsync everysec`, for the operating system has what it wrote. So when it
//! is dead, its file is cut to what it was a second before: that much `everysec` promises to be on the disk.

use std::{
    fs::{File, OpenOptions},
    sync::atomic::Ordering::Relaxed,
    time::Duration,
};

use libtest_mimic::Trial;
use qtasks::Error;
use qtasks_tests::{
    kills::{
        check::{Findings, check},
        ledger::now,
    },
    servers::redis::Redis,
};
use tokio::time::sleep;

use crate::{
    scene::{Ended, Scene, Setting},
    server::{Kind, Server},
    test_on,
    watch::failures,
};

/// How often the server syncs.
const SECOND: Duration = Duration::from_secs(1);

pub(crate) fn trial() -> Trial {
    test_on(Kind::Redis, "a_power_cut_takes_the_last_second_or_two_and_breaks_nothing", a_power_cut)
}

async fn a_power_cut() {
    let arguments = ["--appendonly", "yes", "--appendfsync", "everysec", "--auto-aof-rewrite-percentage", "0"];
    let mut scene = Scene::set(Server::Redis(Redis::start(&arguments)), Setting::default()).await;
    scene.goes_on().await;
    let safe = now();
    // While it syncs, the server may keep to itself for a while what it has acknowledged.
    sleep(SECOND).await;
    let synced = file(&scene.server).metadata().expect("a file has a length").len();
    sleep(SECOND).await;
    scene.server.kill();
    file(&scene.server).set_len(synced).expect("a file can be cut");
    scene.server.restart();
    let back = now();
    scene.goes_on().await;
    scene.goes_on().await;

    let Ended { followed, processes, app, server: _server } = scene.end().await;
    let (mut kept, mut gone) = (Vec::new(), 0);
    for followed in followed {
        match app.any_job(followed.job.id).await {
            Ok(job) => {
                // The end that the user saw may have been taken back just before they asked how it went.
                if followed.watch.failures.load(Relaxed) > 0 {
                    followed.watch.failures.store(failures(&job, &followed.watch).await, Relaxed);
                }
                // So may attempts that a watcher saw.
                followed.watch.turned_back.store(0, Relaxed);
                followed.is_well(&app).await;
            }
            Err(error) => {
                assert!(matches!(error, Error::NoSuchJob(_)), "{error:?}");
                assert!(followed.since > safe, "{error:?}, although it was acknowledged long before the power cut");
                gone += 1;
                continue;
            }
        }
        let mut job = followed.job;
        // These steps may have been taken back, and then they were made again; a user may have looked at them only when the
        // server was gone.
        job.seen.iter_mut().filter(|seen| (safe..back).contains(*seen)).for_each(|seen| *seen = u64::MAX);
        kept.push(job);
    }
    assert!(gone > 0, "a power cut that nobody feels shows nothing");
    let findings = check(&kept, &processes);
    // A worker that does not reach the store may lose its jobs.
    let (robbed, again_in_flight) = (findings.robbed.clone(), findings.again_in_flight);
    assert_eq!(findings, Findings { robbed, again_in_flight, ..Findings::default() });
}

/// The file to which the server appends what it does.
fn file(server: &Server) -> File {
    let Server::Redis(redis) = server else { unreachable!("it is one of Redis") };
    let folder = redis.server.folder().join("appendonlydir");
    let path = folder.join("appendonly.aof.1.incr.aof");
    OpenOptions::new().write(true).open(path).expect("the server appends to a file")
}
