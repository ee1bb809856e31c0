//! Servers that are killed, frozen, away, or throw everybody out, while work is in flight.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use futures::future::join_all;
use qtasks::{State, prelude::*, store::Store};
use qtasks_tests::{eventually, in_time, servers::postgres::Postgres, whole};

use crate::{ask, new_job, open, with};

/// How many values were handled.
#[derive(Clone, Default)]
pub(crate) struct Handled(Arc<AtomicU64>);

impl Handled {
    /// Waits until more are.
    async fn some_more(&self) {
        let before = self.0.load(Relaxed);
        eventually("work goes on", async || self.0.load(Relaxed) > before + 100).await;
    }
}

async fn handle(number: u64, handled: State<Handled>) -> u64 {
    handled.0.fetch_add(1, Relaxed);
    tokio::time::sleep(Duration::from_millis(2)).await;
    number
}

#[qtask(generate_handler = handle)]
async fn count(from: u64, to: u64) -> Vec<u64> {
    for number in from..to {
        yield_!(number);
    }
}

const JOBS: u64 = 20;
const VALUES: u64 = 200;

/// Has a worker do much, while something happens to the server; all of it is done soon afterwards, and what was seen to be
/// recorded stays.
async fn work_goes_on(server: &Postgres, happens: impl AsyncFnOnce(Handled)) {
    let handled = Handled::default();
    let url = with(&server.database(), "timeout=2");
    let app = QueueTasks::builder().store(url).state(handled.clone()).build().await.unwrap();
    let worker = app.worker().concurrency(JOBS as usize).start().await.unwrap();
    let calls = (0..JOBS).map(|job| count(job * VALUES, (job + 1) * VALUES));
    let jobs = app.enqueue_all(calls).await.unwrap();
    let mut first = jobs[0].stream();
    assert_eq!(in_time(first.next()).await.unwrap().unwrap(), 0);
    happens(handled).await;
    let begun = Instant::now();
    for (job, handle) in (0..).zip(&jobs) {
        let expected: Vec<_> = (job * VALUES..(job + 1) * VALUES).collect();
        assert_eq!(result(handle).await, expected);
    }
    assert!(begun.elapsed() < Duration::from_secs(25), "work goes on within seconds");
    worker.shutdown().await.unwrap();
}

/// The result, for somebody who asks again while the store is away.
async fn result(job: &JobHandle<Vec<u64>>) -> Vec<u64> {
    let asked = async {
        loop {
            match job.result().await {
                Ok(result) => return result,
                Err(error) if error.is_store_trouble() => tokio::time::sleep(Duration::from_millis(50)).await,
                Err(error) => panic!("{error:?}"),
            }
        }
    };
    in_time(asked).await
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test(flavor = "multi_thread")]
async fn work_goes_on_when_the_server_is_killed_and_started_again() {
    let server = Postgres::start(&[]);
    work_goes_on(&server, async |handled| {
        handled.some_more().await;
        server.kill();
        server.restart();
    })
    .await;
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test(flavor = "multi_thread")]
async fn work_goes_on_when_every_connection_is_cut() {
    let server = Postgres::start(&["-c", "fsync=off"]);
    work_goes_on(&server, async |handled| {
        for _ in 0..5 {
            server.cut_all();
            handled.some_more().await;
        }
    })
    .await;
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test(flavor = "multi_thread")]
async fn work_goes_on_when_the_server_was_frozen() {
    let server = Postgres::start(&["-c", "fsync=off"]);
    let other = open(&with(&server.database(), "timeout=5")).await;
    work_goes_on(&server, async |_| {
        server.freeze();
        // Longer than the leases of the worker last.
        let error = other.enqueue(vec![new_job()]).await.unwrap_err();
        assert!(error.is_store_trouble(), "{error:?}");
        server.thaw();
    })
    .await;
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_answer_is_an_error_in_bounded_time() {
    let server = Postgres::start(&["-c", "fsync=off"]);
    let store = open(&with(&server.database(), "timeout=1")).await;
    store.enqueue(vec![new_job()]).await.unwrap();
    server.freeze();
    for connection in ["that was there", "that is to be made"] {
        let begun = Instant::now();
        let error = store.enqueue(vec![new_job()]).await.unwrap_err();
        let said = "the store could not enqueue jobs: no answer from the server within 1 s";
        assert_eq!(whole(&error), said, "on a connection {connection}");
        assert!(begun.elapsed() < Duration::from_secs(5) && error.is_store_trouble());
    }
    let others = join_all((0..20).map(|_| store.lease(ask(1)))).await;
    assert!(others.iter().all(|other| other.as_ref().is_err_and(|error| error.is_store_trouble())));
    server.thaw();
    eventually("it is back", async || store.enqueue(vec![new_job()]).await.is_ok()).await;
    server.kill();
    let error = store.enqueue(vec![new_job()]).await.unwrap_err();
    assert!(error.is_store_trouble() && !whole(&error).contains("secret"), "{error:?}");
    server.restart();
    eventually("it is back again", async || store.enqueue(vec![new_job()]).await.is_ok()).await;
    let work = Mutex::new(store.notifier().work());
    let news =
        async || server.tell("SELECT qtasks.enqueue('task')").is_ok() && work.lock().unwrap().take_notification();
    eventually("news come in again", news).await;
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test(flavor = "multi_thread")]
async fn many_calls_share_few_connections() {
    let server = Postgres::start(&["-c", "fsync=off"]);
    let store = open(&with(&server.database(), "connections=1")).await;
    let calls = (0..200).map(|_| {
        let store = Arc::clone(&store);
        async move {
            let job = new_job();
            let id = job.call.id;
            store.enqueue(vec![job]).await.unwrap();
            store.job(id).await.unwrap().unwrap();
        }
    });
    join_all(calls).await;
    let connections = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'qtasks'";
    assert_eq!(server.tell(connections).unwrap(), "2", "one that is shared, and one for news");
}
