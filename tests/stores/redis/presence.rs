//! Which workers live: renewals, what is read of workers that are gone, and the time by which it goes.

use std::{pin::pin, time::Duration};

use futures::future::{Either, join_all, select};
use jiff::Timestamp;
use qtasks::{
    Budget, Find,
    job::{JobCall, Lease, NewJob, NextState, Suspect, WorkerId},
    lifecycle::Outcome,
    store::{Hold, Presence, Settlement, Written},
};
use qtasks_tests::{in_time, servers::redis, whole};

use crate::{ask, insist, lasting, new_job, open};

#[tokio::test]
#[cfg_attr(missing = "redis", ignore = "redis-server is not installed")]
async fn a_lost_job_is_found_whatever_the_server_has_deleted_beside_it() {
    let server = lasting();
    let store = open(&server.url()).await;
    let kinds = ["j:", "p:", "c:"];
    store.enqueue((0..=kinds.len()).map(|_| new_job()).collect()).await.unwrap();
    let asked = ask();
    let leased = store.lease(asked.clone()).await.unwrap().jobs;
    for (job, kind) in leased.iter().zip(kinds) {
        let id = job.call.id.to_bytes().map(|byte| format!("\\\\{byte:03}")).concat();
        let script =
            format!("return redis.call('DEL', redis.call('KEYS', '*:format')[1]:sub(1, -7) .. '4:{kind}{id}')");
        server.tell(&format!("EVAL \"{script}\" 0")).unwrap();
    }
    let mut work = store.notifier().work();
    assert_eq!(store.held(asked.worker, 1).await.unwrap().len(), 1);
    let mut found: Vec<_> = store.held(asked.worker, 9).await.unwrap().iter().map(|job| job.call.id).collect();
    found.sort();
    assert_eq!(found, [leased[2].call.id, leased[3].call.id]);
    // The one of which only the job was left waits again.
    in_time(work.notification()).await;
    let again = store.lease(ask()).await.unwrap().jobs;
    assert_eq!(
        again.iter().map(|job| (job.call.id, job.standing.attempt)).collect::<Vec<_>>(),
        [(leased[1].call.id, 1)]
    );
    assert_eq!(store.job(leased[0].call.id).await.unwrap(), None);
    assert_eq!(store.recount().await.unwrap(), 0, "what had become of them was counted");
}

#[tokio::test]
#[cfg_attr(missing = "redis", ignore = "redis-server is not installed")]
async fn a_renewal_overtakes_thousands_of_listings() {
    const JOBS: usize = 50;
    let (server, worker) = (redis::Redis::start(&[]), WorkerId::new());
    let store = open(&format!("{}&timeout=60", server.url())).await;
    store.enqueue((0..JOBS).map(|_| new_job()).collect()).await.unwrap();
    insist(async || store.renew(worker, 1).await).await;
    let listings = join_all((0..5_000).map(|_| store.find(Find::default().oldest_first(), None, Budget::jobs(JOBS))));
    let renewal = pin!(insist(async || store.renew(worker, 2).await));
    match select(listings, renewal).await {
        Either::Left(_) => panic!("the renewal has waited for all of them"),
        Either::Right((renewed, _)) => assert_eq!(renewed.leases, []),
    }
}

#[tokio::test]
#[cfg_attr(missing = "redis", ignore = "redis-server is not installed")]
async fn a_renewal_that_is_not_answered_leaves_time_for_another_before_the_leases_run_out() {
    let server = lasting();
    let store = open(&server.url()).await;
    let worker = WorkerId::new();
    insist(async || store.renew(worker, 1).await).await;
    server.server.freeze();
    assert_eq!(
        whole(&store.renew(worker, 2).await.unwrap_err()),
        format!("the store could not renew leases: no answer from 127.0.0.1:{} within 1.5s", server.port)
    );
    server.server.thaw();
    insist(async || store.renew(worker, 3).await).await;
    let seen = Presence { worker, beat: Some(3), holds: false, gone: false };
    assert_eq!(store.workers().await.unwrap(), [seen]);
}

#[tokio::test]
#[cfg_attr(missing = "redis", ignore = "redis-server is not installed")]
async fn a_worker_hears_that_its_store_has_become_one_of_a_newer_qtasks() {
    let server = redis::Redis::start(&[]);
    let place = format!("127.0.0.1:{}", server.port);
    let store = open(&format!("redis://{place}?app=shop")).await;
    let worker = WorkerId::new();
    store.renew(worker, 1).await.unwrap();
    assert_eq!(server.tell("SET {shop}:format 6").unwrap(), "+OK");
    let error = store.renew(worker, 2).await.unwrap_err();
    assert!(!error.is_store_trouble(), "a worker would try again after {error:?}");
    assert!(matches!(error, qtasks::Error::NewerStore { store: of, found: 6, known: 5 } if of == place));
    assert_eq!(store.workers().await.unwrap()[0].beat, Some(1));
}

#[tokio::test]
#[cfg_attr(missing = "redis", ignore = "redis-server is not installed")]
async fn the_time_is_that_of_the_server() {
    let (server, before) = (redis::Redis::start(&[]), Timestamp::now().as_millisecond());
    let store = open(&server.url()).await;
    let told = [store.time().await.unwrap(), store.renew(WorkerId::new(), 1).await.unwrap().now];
    for time in told.map(|time| time.expect("a server has a clock").as_millisecond()) {
        assert!((before..=Timestamp::now().as_millisecond()).contains(&time), "{time} is not after {before}");
    }
}

#[tokio::test]
#[cfg_attr(missing = "redis", ignore = "redis-server is not installed")]
async fn what_a_suspect_has_survived_counts_to_the_millisecond_for_two_years() {
    let (store, asked) = (open(&redis::url()).await, ask());
    // The longest time that is told from longer ones.
    let years = Duration::from_millis(1 << 36);
    let survived = [years - Duration::from_millis(2), years - Duration::from_millis(1), years, Duration::MAX];
    let priorities = [i16::MIN, i16::MAX, 1, 2];
    let jobs = priorities.map(|priority| NewJob::from(JobCall { priority, ..new_job().call }));
    store.enqueue(jobs.iter().rev().cloned().collect()).await.unwrap();
    store.lease(asked.clone()).await.unwrap();
    for (job, survived) in jobs.iter().zip(survived) {
        let lease = Lease { job: job.call.id, attempt: 1, worker: asked.worker };
        let suspect = Some(Suspect { survived, ..Suspect::default() });
        let (hold, next) = (Hold::Silent { lease, beat: None }, NextState::Waiting { due: asked.now });
        let outcome = Outcome { next, failures: 0, suspect };
        let lost = Settlement { hold, outcome, steps: None, attempt: None, now: asked.now };
        assert_eq!(store.settle([lost].into()).await.unwrap(), [Written::Yes]);
    }
    // Of the two that have survived more than that, the one of the higher priority comes first.
    for place in [0, 1, 3, 2] {
        let leased = store.lease(asked.clone()).await.unwrap().jobs;
        assert_eq!(leased.iter().map(|job| job.call.id).collect::<Vec<_>>(), [jobs[place].call.id]);
    }
}

/// A renewal may still be under way when its caller has given it up.
#[tokio::test]
#[cfg_attr(missing = "redis", ignore = "redis-server is not installed")]
async fn a_renewal_that_is_under_way_does_not_bring_back_a_worker_that_left() {
    let (store, asked) = (open(&redis::url()).await, ask());
    store.enqueue(vec![new_job()]).await.unwrap();
    assert_eq!(store.lease(asked.clone()).await.unwrap().jobs.len(), 1);
    assert!(futures::poll!(pin!(store.renew(asked.worker, 1))).is_pending());
    store.leave(asked.worker).await.unwrap();
    // This one is answered after the first.
    store.renew(ask().worker, 1).await.unwrap();
    let seen = store.workers().await.unwrap().into_iter().find(|seen| seen.worker == asked.worker);
    assert_eq!(seen, Some(Presence { worker: asked.worker, beat: None, holds: true, gone: true }));
}
