//! A worker that stops at signals. They go to the whole process, so this is one test in a program of its own.

use std::{process::Command, time::Duration};

use futures::future::pending;
use qtasks::{job::State, prelude::*};

#[qtask(checkpoint = "each")]
async fn ticks() -> Vec<u64> {
    for tick in 0.. {
        yield_!(tick);
    }
}

#[qtask(queue = "stubborn")]
async fn never_ends() {
    pending::<()>().await;
}

fn terminate_this_process() {
    let id = std::process::id().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_stops_gracefully_and_a_second_one_at_once() {
    let app = QueueTasks::open("memory:").await.unwrap();

    let worker = app.worker().queues(["default"]).start().await.unwrap();
    // From the call on it listens, although nothing polls it yet: else a signal would end this program.
    let stopped = worker.until_signal();
    let job = app.enqueue(ticks()).await.unwrap();
    assert_eq!(job.stream().next().await.unwrap().unwrap(), 0);
    terminate_this_process();
    stopped.await.unwrap();
    let status = job.status().await.unwrap();
    assert!(matches!(status.state, State::Waiting { .. }), "{status:?}");
    assert_eq!(status.failures, 0);
    assert!(status.steps > 0);

    let worker = app.worker().queues(["stubborn"]).grace(Duration::MAX).start().await.unwrap();
    let mut stopped = Box::pin(worker.until_signal());
    let job = app.enqueue(never_ends()).await.unwrap();
    while job.status().await.unwrap().attempt == 0 {
        tokio::task::yield_now().await;
    }
    terminate_this_process();
    // The first signal must have been taken before the second is sent, or the two would count as one.
    let first = tokio::time::timeout(Duration::from_millis(300), &mut stopped).await;
    assert!(first.is_err(), "the body has its grace");
    terminate_this_process();
    tokio::time::timeout(Duration::from_secs(20), stopped).await.expect("the second signal ends the grace").unwrap();
}
