//! What befalls a Redis server, with work in flight, and what is said of it.

use std::{
    collections::HashMap,
    pin::pin,
    time::{Duration, Instant},
};

use futures::future::join_all;
use jiff::Timestamp;
use qtasks::{
    Error,
    prelude::*,
    store::{Budget, Find, Redis},
};
use qtasks_tests::{Diary, eventually, in_time, servers::redis, whole};
use tokio::sync::Notify;

use crate::{ask, insist, lasting, new_job, open};

#[tokio::test]
#[cfg_attr(missing = "redis", ignore = "redis-server is not installed")]
async fn a_server_that_was_away_is_found_again_and_rings_for_everybody() {
    let server = lasting();
    let store = open(&server.url()).await;
    let job = new_job();
    store.enqueue(vec![job.clone()]).await.unwrap();
    server.server.kill();
    let error = store.enqueue(vec![new_job()]).await.unwrap_err();
    assert!(error.is_store_trouble(), "{error}");
    // Once the loss of the connection was noticed, there is none to be had.
    let error = store.job(job.call.id).await.unwrap_err();
    assert_eq!(
        whole(&error),
        format!(
            "the store could not read a job: no connection to 127.0.0.1:{}: Connection refused (os error 111)",
            server.port
        )
    );
    let (mut work, mut news) = (store.notifier().work(), store.notifier().job(job.call.id));
    server.restart();
    in_time(work.notification()).await;
    in_time(news.notification()).await;
    assert_eq!(store.job(job.call.id).await.unwrap().unwrap().call.id, job.call.id);
    assert_eq!(store.lease(ask()).await.unwrap().jobs.len(), 1);
}

#[tokio::test]
#[cfg_attr(missing = "redis", ignore = "redis-server is not installed")]
async fn a_frozen_server_is_answered_for_in_bounded_time() {
    let server = lasting();
    let store = open(&format!("{}&timeout=1", server.url())).await;
    store.enqueue(vec![new_job()]).await.unwrap();
    server.server.freeze();
    let begun = Instant::now();
    let calls = (0..20).map(|_| store.lease(ask()));
    for answer in join_all(calls).await {
        assert_eq!(
            whole(&answer.unwrap_err()),
            format!("the store could not lease jobs: no answer from 127.0.0.1:{} within 1s", server.port)
        );
    }
    let error = store.enqueue(vec![new_job()]).await.unwrap_err();
    assert!(error.is_store_trouble());
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    server.server.thaw();
    let enqueued = new_job();
    insist(async || store.enqueue(vec![enqueued.clone()]).await).await;
    assert!(insist(async || store.job(enqueued.call.id).await).await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(missing = "redis", ignore = "redis-server is not installed")]
async fn what_was_acknowledged_survives_a_kill_of_a_server_that_syncs_always() {
    let server = lasting();
    let store = open(&server.url()).await;
    let mut acknowledged = Vec::new();
    for round in 0..3 {
        let enqueueing = (0..8).map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut ids = Vec::new();
                loop {
                    let job = new_job();
                    let id = job.call.id;
                    match store.enqueue(vec![job]).await {
                        Ok(_) => ids.push(id),
                        Err(_) => return ids,
                    }
                }
            })
        });
        let enqueueing: Vec<_> = enqueueing.collect();
        let some = acknowledged.len() + 200;
        eventually("some jobs are there", async || {
            store.find(Find::default().oldest_first(), None, Budget::jobs(some)).await.unwrap().jobs.len() >= some
        })
        .await;
        server.server.kill();
        for ids in join_all(enqueueing).await {
            acknowledged.extend(ids.unwrap());
        }
        assert!(acknowledged.len() > 100 * (round + 1));
        server.restart();
        let found =
            insist(async || store.find(Find::default().oldest_first(), None, Budget::jobs(usize::MAX)).await).await;
        let found: std::collections::HashSet<_> = found.jobs.iter().map(|job| job.call.id).collect();
        let lost: Vec<_> = acknowledged.iter().filter(|id| !found.contains(id)).collect();
        assert!(lost.is_empty(), "{} of {} were lost", lost.len(), acknowledged.len());
        acknowledged = found.into_iter().collect();
    }
}

fn note(value: u64, diary: qtasks::State<Diary>, ctx: TaskContext) -> u64 {
    diary.note(format!("{} {value}", ctx.job_id()));
    diary.note("a value");
    value * 2
}

#[qtask(generate_handler = note, checkpoint = "each")]
async fn doubled(count: u64) -> Vec<u64> {
    for value in 0..count {
        yield_!(value);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(missing = "redis", ignore = "redis-server is not installed")]
async fn workers_go_on_when_their_server_was_killed_or_frozen() {
    const JOBS: usize = 16;
    const VALUES: u64 = 100;
    let (server, diary) = (lasting(), Diary::default());
    let url = format!("{}&timeout=1", server.url());
    let app = async || QueueTasks::builder().store(&url).state(diary.clone()).build().await.unwrap();
    let (one, other) = (app().await, app().await);
    let workers = [&one, &other].map(|app| app.worker().concurrency(8).start());
    let [first, second] = workers;
    let (first, second) = (first.await.unwrap(), second.await.unwrap());
    let jobs = one.enqueue_all((0..JOBS).map(|_| doubled(VALUES))).await.unwrap();
    for (round, is_killed) in [true, false, true].into_iter().enumerate() {
        diary.until_times("a value", JOBS * VALUES as usize / 5 * (round + 1)).await;
        if is_killed {
            server.server.kill();
            server.restart();
        } else {
            server.server.freeze();
            // For longer than calls wait.
            let refused = tokio::time::timeout(Duration::from_secs(5), one.any_job(jobs[0].id())).await;
            assert!(refused.unwrap().unwrap_err().is_store_trouble());
            server.server.thaw();
        }
    }
    let expected: Vec<u64> = (0..VALUES).map(|value| value * 2).collect();
    for job in &jobs {
        assert_eq!(insist(async || job.result().await).await, expected);
        assert_eq!(insist(async || job.status().await).await.failures, 0);
    }
    let calls = diary.lines().into_iter().filter(|line| line != "a value").fold(HashMap::new(), |mut calls, line| {
        *calls.entry(line).or_insert(0) += 1;
        calls
    });
    assert_eq!(calls.len(), JOBS * VALUES as usize);
    let again: usize = calls.values().map(|calls| calls - 1).sum();
    assert!(again <= JOBS * 3, "only a value in flight is handled again, and {again} were");
    first.shutdown().await.unwrap();
    second.shutdown().await.unwrap();
}

#[tokio::test]
#[cfg_attr(missing = "redis", ignore = "redis-server is not installed")]
async fn errors_say_what_is_wrong_and_never_the_password() {
    let server = redis::Redis::start(&[]);
    assert_eq!(server.tell("ACL SETUSER me on >right ~* &* +@all").unwrap(), "+OK");
    let place = format!("127.0.0.1:{}", server.port);
    let error = Redis::open(&format!("redis://me:secret@{place}")).await.unwrap_err();
    assert_eq!(
        whole(&error),
        format!(
            "the store could not connect to its server: no connection to {place}: \"WRONGPASS\": invalid \
             username-password pair or user is disabled."
        )
    );
    let store = Redis::open(&format!("redis://me:right@{place}?app=a")).await.unwrap();
    assert_eq!(format!("{store:?}"), format!("Redis {{ server: \"{place}\", .. }}"));
    assert_eq!(server.tell("SET {b}:format 6").unwrap(), "+OK");
    let error = Redis::open(&format!("redis://{place}?app=b")).await.unwrap_err();
    assert_eq!(
        whole(&error),
        format!(
            "the store at `{place}` has the format 6, and this qtasks knows formats up to 5; update qtasks here, or use \
             another store"
        )
    );
    assert_eq!(server.tell("SET {c}:format 1").unwrap(), "+OK");
    let error = Redis::open(&format!("redis://{place}?app=c")).await.unwrap_err();
    assert_eq!(
        whole(&error),
        format!("`{place}` is not a store of qtasks: it has the format 1, which was never released; use another `app`")
    );
    server.server.kill();
    let error = Redis::open(&format!("redis://me:secret@{place}")).await.unwrap_err();
    assert_eq!(
        whole(&error),
        format!(
            "the store could not connect to its server: no connection to {place}: Connection refused (os error 111)"
        )
    );
}

/// A generator whose jobs wait, run, remember and end; and one that asks for another.
#[qtask(echo = true)]
async fn remembers(ctx: TaskContext) -> Vec<u64> {
    yield_!(0);
    GATE.notified().await;
    for number in 1..4 {
        yield_!(ctx.once("number", || async move { number }).await);
    }
    ctx.sleep(Duration::from_millis(1)).await;
    ctx.enqueue(nothing()).await.unwrap();
}

#[qtask]
async fn nothing() {}

/// Behind it the server is full.
static GATE: Notify = Notify::const_new();

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(missing = "redis", ignore = "redis-server is not installed")]
async fn a_full_server_is_worked_off() {
    let server = redis::Redis::start(&[]);
    let url = server.url();
    let app = async || QueueTasks::builder().store(&*url).state(Diary::default()).build().await;
    let first = app().await.unwrap();
    let worker = first.worker().concurrency(2).start().await.unwrap();
    let later = remembers().delay(Duration::from_millis(1));
    let calls = [remembers().priority(3), remembers().priority(2), later, remembers().priority(1)];
    let jobs = first.enqueue_all(calls).await.unwrap();
    let later = first.enqueue(remembers().delay(Duration::from_secs(3600))).await.unwrap();
    assert_eq!(jobs[0].stream().next().await.unwrap().unwrap(), 0);
    assert_eq!(server.tell("CONFIG SET maxmemory 1").unwrap(), "+OK");

    let refused = whole(&first.enqueue(remembers()).await.unwrap_err());
    assert!(refused.contains("maxmemory") && refused.contains("are worked off all the same"), "{refused}");
    let second = app().await.expect("nothing is to be written when it is opened");
    let other = second.worker().concurrency(2).start().await.unwrap();
    for _ in 0..5 {
        GATE.notify_one();
    }
    for job in &jobs {
        let result = tokio::time::timeout(Duration::from_secs(20), async {
            loop {
                GATE.notify_one();
                if let Ok(result) = tokio::time::timeout(Duration::from_millis(100), job.result()).await {
                    return result;
                }
            }
        });
        assert_eq!(result.await.expect("a full server is worked off").unwrap(), [0, 1, 2, 3]);
    }
    later.cancel().await.unwrap();
    later.retry().await.unwrap();
    later.cancel().await.unwrap();
    let store = open(&url).await;
    let end = Timestamp::now() + Duration::from_secs(60);
    let asked_for =
        store.find(Find::default().task("nothing").oldest_first(), None, Budget::jobs(100)).await.unwrap().jobs.len();
    assert_eq!((asked_for, store.prune(end, end, 100).await.unwrap()), (4, 9));
    worker.shutdown().await.unwrap();
    other.shutdown().await.unwrap();
    assert!(store.workers().await.unwrap().is_empty());
    let new = whole(&Redis::open(&format!("{url}-new")).await.expect_err("the first to open it writes something"));
    assert!(new.contains("maxmemory"), "{new}");
}

#[cfg_attr(missing = "redis", ignore = "redis-server is not installed")]
#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_job_that_the_server_has_forgotten_is_told() {
    let server = redis::Redis::start(&[]);
    let app = QueueTasks::open(&server.url()).await.unwrap();
    let job = app.enqueue(doubled(1)).await.unwrap();
    let mut values = job.stream();
    let mut waiting = pin!(async { tokio::join!(job.result(), values.next()) });
    for _ in 0..3 {
        assert!(futures::poll!(&mut waiting).is_pending());
        // What was asked before is answered before.
        app.any_job(job.id()).await.unwrap();
    }
    server.tell("FLUSHALL").unwrap();
    let (result, value) = in_time(waiting).await;
    assert!(matches!(result, Err(Error::NoSuchJob(id)) if id == job.id()), "{result:?}");
    assert!(matches!(value, Some(Err(Error::NoSuchJob(id))) if id == job.id()), "{value:?}");
}
