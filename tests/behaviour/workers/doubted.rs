//! While a worker is in doubt about its leases, it begins nothing.

use std::sync::Arc;

use qtasks::{
    Clock,
    prelude::*,
    store::{Memory, Store},
};
use qtasks_tests::{
    Diary,
    edge::{Behind, CarryOut, Edge},
    in_time,
    ledger::Ledger,
};
use tokio::sync::{Notify, watch};

use super::losing::notes;

#[qtask]
pub(super) async fn comes_and_goes(name: String, diary: State<Diary>) {
    diary.note(format!("{name} comes"));
    tokio::task::yield_now().await;
    diary.note(format!("{name} goes"));
}

#[qtask]
pub(super) async fn holds_up(diary: State<Diary>) {
    diary.note("holds up");
    diary.told("go on").await;
}

/// While it is shut no worker renews its leases; it names the workers that ask to.
#[derive(Clone, Debug, Default)]
struct Gate {
    shut: watch::Sender<bool>,
    waits: Arc<Notify>,
}

impl Edge for Gate {
    async fn pass<T: Send + 'static>(&self, call: &'static str, carry_out: CarryOut<T>) -> qtasks::Result<T> {
        if call == "renew" && *self.shut.borrow() {
            self.waits.notify_one();
            self.shut.subscribe().wait_for(|shut| !shut).await.unwrap();
        }
        carry_out().await
    }
}

#[qtask(generate_handler = notes)]
async fn waits_in_between(diary: State<Diary>) -> Vec<i64> {
    yield_!(1);
    diary.told("go on").await;
    yield_!(2);
}

/// Has a worker get into doubt about its leases as soon as the diary says `first`, and tells its job to go on. Gives what
/// the diary says when all that can go on has done so. Then leases are renewed again, and it comes to say `last`.
async fn doubted(first: &str, last: &str, enqueue: impl AsyncFnOnce(&QueueTasks)) -> Vec<String> {
    let (gate, diary, memory) = (Gate::default(), Diary::default(), Arc::new(Memory::new()));
    let store = Behind::new(gate.clone(), memory.clone(), &Ledger::default());
    let app = QueueTasks::builder().store_at(Arc::new(store)).clock(Clock::tokio()).state(diary.clone());
    let app = app.build().await.unwrap();
    enqueue(&app).await;
    let worker = app.worker().concurrency(1).start().await.unwrap();
    diary.until(first).await;
    gate.shut.send_replace(true);
    memory.notifier().notify_doubt();
    in_time(gate.waits.notified()).await;
    diary.note("go on");
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    let then = diary.lines();
    gate.shut.send_replace(false);
    diary.until(last).await;
    worker.shutdown().await.unwrap();
    then
}

#[tokio::test(start_paused = true)]
async fn while_leases_are_in_doubt_no_handler_is_called() {
    let one = async |app: &QueueTasks| _ = app.enqueue(waits_in_between()).await.unwrap();
    assert_eq!(doubted("handle 1", "handle 2", one).await, ["handle 1", "go on"]);
}

#[tokio::test(start_paused = true)]
async fn while_leases_are_in_doubt_no_body_is_started() {
    let two = async |app: &QueueTasks| {
        app.enqueue(holds_up()).await.unwrap();
        app.enqueue(comes_and_goes("later".into())).await.unwrap();
    };
    assert_eq!(doubted("holds up", "later comes", two).await, ["holds up", "go on"]);
}
