//! Jobs that no running worker takes: a worker says so.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex, MutexGuard},
};

use qtasks::prelude::*;
use qtasks_tests::{Stage, eventually};
use tracing::Level;

/// What is said on the thread of a test.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<Vec<u8>>>);

impl Said {
    fn bytes(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap()
    }

    /// The lines about due jobs.
    fn lines(&self) -> Vec<String> {
        let text = String::from_utf8(self.bytes().clone()).unwrap();
        text.lines().filter(|line| line.contains("jobs are due")).map(|line| line.trim().to_owned()).collect()
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
    let said = Said::default();
    let writer = {
        let said = said.clone();
        move || said.clone()
    };
    let subscriber = tracing_subscriber::fmt().with_max_level(Level::WARN).with_ansi(false).without_time();
    let _guard = tracing::subscriber::set_default(subscriber.with_writer(writer).finish());
    let stage = Stage::in_memory(|builder| builder).await;
    let worker = stage.app.worker().queues(["default"]).start().await.unwrap();
    stage.app.enqueue_json("elsewhere.task", &serde_json::json!({})).await.unwrap();
    stage.app.enqueue(in_an_unheard_queue()).await.unwrap();
    eventually("both are said", async || said.lines().len() == 2).await;
    worker.shutdown().await.unwrap();
    assert_eq!(
        said.lines(),
        [
            "WARN qtasks: jobs are due of a task that no running worker is seen to know; is its crate mentioned (`use \
             emails as _;`) in the binary of a worker? task=\"elsewhere.task\" queue=\"default\"",
            "WARN qtasks: jobs are due in a queue that no running worker is seen to listen to; start one with \
             `.queues([..])` queue=\"unheard\" task=\"in_an_unheard_queue\"",
        ]
    );
}
