//! Jobs that no running worker takes: a worker says so, or where none runs, the caller that waits.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use qtasks::prelude::*;
use qtasks_tests::{Stage, eventually};
use tracing::{Level, subscriber::DefaultGuard};

/// What is said on the thread of a test.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<Vec<u8>>>);

impl Said {
    fn bytes(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap()
    }

    /// Gathers what is said on this thread, until the guard is dropped.
    fn listen() -> (Self, DefaultGuard) {
        let said = Self::default();
        let writer = {
            let said = said.clone();
            move || said.clone()
        };
        let subscriber = tracing_subscriber::fmt().with_max_level(Level::WARN).with_ansi(false).without_time();
        let guard = tracing::subscriber::set_default(subscriber.with_writer(writer).finish());
        (said, guard)
    }

    /// The lines about this.
    fn lines(&self, about: &str) -> Vec<String> {
        let text = String::from_utf8(self.bytes().clone()).unwrap();
        text.lines().filter(|line| line.contains(about)).map(|line| line.trim().to_owned()).collect()
    }
}

impl Write for Said {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[qtask(queue = "unheard")]
async fn in_an_unheard_queue() {}

#[tokio::test]
async fn a_task_that_no_worker_knows_and_a_queue_that_none_listens_to_are_said() {
    let (said, _guard) = Said::listen();
    let stage = Stage::in_memory(|builder| builder).await;
    let worker = stage.app.worker().queues(["default"]).start().await.unwrap();
    stage.app.enqueue_json("elsewhere.task", &serde_json::json!({})).await.unwrap();
    stage.app.enqueue(in_an_unheard_queue()).await.unwrap();
    eventually("both are said", async || said.lines("jobs are due").len() == 2).await;
    worker.shutdown().await.unwrap();
    assert_eq!(
        said.lines("jobs are due"),
        [
            "WARN qtasks: jobs are due of a task that no running worker is seen to know; is its crate mentioned (`use \
             emails as _;`) in the binary of a worker? task=\"elsewhere.task\" queue=\"default\"",
            "WARN qtasks: jobs are due in a queue that no running worker is seen to listen to; start one with \
             `.queues([..])` queue=\"unheard\" task=\"in_an_unheard_queue\"",
        ]
    );
}

#[tokio::test]
async fn a_caller_that_waits_while_no_worker_runs_says_so_once() {
    let (said, _guard) = Said::listen();
    let stage = Stage::in_memory(|builder| builder).await;
    let later = stage.app.enqueue(in_an_unheard_queue().delay(Duration::from_secs(3_600))).await.unwrap();
    let job = stage.app.enqueue(in_an_unheard_queue()).await.unwrap();
    let is_said = eventually("it is said", async || !said.lines("no worker").is_empty());
    tokio::select! {
        biased;
        _ = later.result() => panic!("it is not due"),
        _ = job.result() => panic!("no worker runs it"),
        () = is_said => {}
    }
    let expected = format!(
        "WARN qtasks: a caller waits for a job that is due, and no worker runs; start one with `app.worker().start()`, and \
         keep it job={} queue=\"unheard\" task=\"in_an_unheard_queue\"",
        job.id()
    );
    assert_eq!(said.lines("no worker"), [expected]);
}
