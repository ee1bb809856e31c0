//! Bodies of `fn` tasks that never return. The threads of bodies are the whole program's, so this is a program of its own.

use std::sync::{Arc, Mutex, mpsc};

use qtasks::prelude::*;
use qtasks_tests::in_time;

/// A thread that is told when to go on.
#[derive(Clone)]
struct Doors(Arc<Mutex<Vec<mpsc::Sender<()>>>>);

impl Doors {
    fn new() -> Self {
        Self(Arc::default())
    }

    /// Waits until all are opened.
    fn wait(&self) {
        let (door, opened) = mpsc::channel();
        self.0.lock().unwrap().push(door);
        _ = opened.recv();
    }

    fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    fn open(&self) {
        self.0.lock().unwrap().clear();
    }
}

#[qtask(max_time = "50ms", retry = 0)]
fn hangs(doors: State<Doors>) {
    doors.wait();
}

#[qtask(max_time = "30s")]
fn calls() -> u32 {
    TaskContext::current().attempt()
}

#[qtask]
async fn polls() -> u32 {
    TaskContext::current().attempt()
}

#[test]
fn bodies_that_hang_take_no_thread_from_others_and_too_many_of_them_stop_the_leasing_of_more() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let doors = Doors::new();
        let app = QueueTasks::builder().store("memory:").state(doors.clone());
        let app = app.build().await.unwrap();
        let worker = app.worker().concurrency(90).start().await.unwrap();
        let hung = app.enqueue_all((0..90).map(|_| hangs())).await.unwrap();
        for job in &hung {
            in_time(job.result()).await.unwrap_err();
        }
        assert_eq!(doors.count(), 90, "each had a thread of its own");
        let called = app.enqueue(calls()).await.unwrap();
        let polled = app.enqueue(polls()).await.unwrap();
        assert_eq!(in_time(polled.result()).await.unwrap(), 1);
        assert_eq!(called.status().await.unwrap().state.name(), "waiting", "no more threads are given away");
        doors.open();
        assert_eq!(in_time(called.result()).await.unwrap(), 1);
        worker.shutdown().await.unwrap();
    });
}
