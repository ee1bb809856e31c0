//! The shell of a journal in all orders that its threads may run in, as `loom` tries them: no wait misses a wake-up.
//!
//! A thread that waits for ever is a deadlock to `loom`, which it reports with the order that led there. How often a thread
//! is stopped in between is bounded, or it would take hours.

use std::{
    mem::ManuallyDrop,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use loom::{
    model::Builder,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
};

use self::shell::{FlushRequest, Journal};
use super::{
    buffer::{self, Ahead, EntryCount, MemoEntry},
    waiters,
};
use crate::{
    execution::stopped::Stopped,
    model::{
        job::{JobId, Lease, Reply, WorkerId},
        json::Json,
    },
};

// The file `shell.rs` once more, with the locks of this file's `sync`.
#[allow(clippy::duplicate_mod, dead_code)]
#[path = "shell.rs"]
mod shell;

mod sync {
    use loom::sync::mpsc;
    pub(crate) use loom::sync::{Mutex, MutexGuard, atomic::AtomicBool};

    /// A sender as tokio's, and one that can say that nothing more comes.
    pub(crate) struct UnboundedSender<T>(pub(crate) mpsc::Sender<Option<T>>);

    impl<T> UnboundedSender<T> {
        pub(crate) fn send(&self, thing: T) -> Result<(), ()> {
            self.0.send(Some(thing)).map_err(|_| ())
        }
    }
}

/// How far a body may run ahead.
const AHEAD: Ahead = Ahead { values: 2, bytes: 1 << 20 };
/// The values of a body: one more than it may run ahead by, so that it has to wait.
const VALUES: u64 = 3;

/// A journal with its recorder and its lease.
struct Scene {
    journal: Arc<Journal>,
    recorder: thread::JoinHandle<()>,
    end: loom::sync::mpsc::Sender<Option<FlushRequest>>,
    lease_holds: Arc<AtomicBool>,
}

impl Scene {
    fn new(lease_holds: bool) -> Self {
        Self::recorded_by(record, lease_holds)
    }

    /// A journal whose recorder calls `record` when it is asked to write.
    fn recorded_by(record: fn(&Journal), lease_holds: bool) -> Self {
        let (end, requests) = loom::sync::mpsc::channel();
        let lease = Lease { job: JobId::default(), attempt: 1, worker: WorkerId::default() };
        let lease_holds = Arc::new(AtomicBool::new(lease_holds));
        let holds = lease_holds.clone();
        let holds = Arc::new(move || holds.load(Relaxed));
        let requested = sync::UnboundedSender(end.clone());
        let journal = Journal::ahead_by(AHEAD, lease, holds, EntryCount::default(), Duration::from_secs(60), requested);
        let recorder = thread::spawn(move || {
            while let Ok(Some(FlushRequest { journal, .. })) = requests.recv() {
                record(&journal);
            }
        });
        Self { journal, recorder, end, lease_holds }
    }

    /// Lets another thread `act`, at any time.
    fn meanwhile(&self, act: impl FnOnce(&Journal, &AtomicBool) + 'static) -> thread::JoinHandle<()> {
        let (journal, lease_holds) = (self.journal.clone(), self.lease_holds.clone());
        thread::spawn(move || act(&journal, &lease_holds))
    }

    fn end(self) {
        self.end.send(None).unwrap();
        self.recorder.join().unwrap();
    }
}

fn record(journal: &Journal) {
    let batch = journal.take();
    if !batch.is_empty() {
        journal.wrote(EntryCount { steps: batch.steps.len() as u64, memos: batch.memos.len() as u64 });
    }
}

/// The output of `future`. Where `loom` has found a deadlock, the future is not dropped: that would take a lock, and so abort
/// the tests.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unparks(thread::current())));
    let mut future = ManuallyDrop::new(Box::pin(future));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => {
                drop(ManuallyDrop::into_inner(future));
                return value;
            }
            Poll::Pending => thread::park(),
        }
    }
}

struct Unparks(thread::Thread);

impl Wake for Unparks {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn value() -> Reply {
    Reply::Value(Json::from_stored("1"))
}

/// Yields all values, as the driver does; gives how many steps are durable.
async fn body(journal: &Journal) -> Result<u64, Stopped> {
    body_of(VALUES, journal).await
}

async fn body_of(values: u64, journal: &Journal) -> Result<u64, Stopped> {
    for _ in 0..values {
        if !journal.is_open() {
            journal.wait_for_room().await?;
        }
        journal.push(0, value());
    }
    journal.flush().await?;
    Ok(journal.steps())
}

/// Tries the orders of `model` in which threads are interrupted at most so often.
fn explore(stops: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(stops);
    builder.check(model);
}

#[test]
fn a_body_gets_room_and_its_flush_is_answered() {
    explore(4, || {
        let scene = Scene::new(true);
        assert!(matches!(block_on(body(&scene.journal)), Ok(VALUES)));
        scene.end();
    });
}

#[test]
fn a_fence_at_any_time_ends_the_wait_of_the_body() {
    explore(3, || {
        let scene = Scene::new(true);
        let fence = scene.meanwhile(|journal, _| journal.fence());
        assert!(matches!(block_on(body(&scene.journal)), Ok(VALUES) | Err(Stopped::Fenced)));
        fence.join().unwrap();
        scene.end();
    });
}

/// Nothing but the fence wakes the body here.
#[test]
fn a_fence_at_any_time_ends_all_waits_while_the_store_is_away() {
    for values in [1, VALUES] {
        explore(3, move || {
            let scene = Scene::recorded_by(|journal| _ = journal.take(), true);
            let fence = scene.meanwhile(|journal, _| journal.fence());
            assert!(matches!(block_on(body_of(values, &scene.journal)), Err(Stopped::Fenced)));
            fence.join().unwrap();
            scene.end();
        });
    }
}

#[test]
fn a_renewal_at_any_time_lets_the_body_go_on() {
    explore(3, || {
        let scene = Scene::new(false);
        let renewal = scene.meanwhile(|journal, lease_holds| {
            lease_holds.store(true, Relaxed);
            journal.renewed();
        });
        assert!(matches!(block_on(scene.journal.held()), Ok(())));
        assert!(matches!(block_on(body(&scene.journal)), Ok(VALUES)));
        renewal.join().unwrap();
        scene.end();
    });
}

#[test]
fn a_fence_and_a_renewal_at_any_time_let_no_wait_hang() {
    explore(2, || {
        let scene = Scene::new(false);
        let renewal = scene.meanwhile(|journal, lease_holds| {
            lease_holds.store(true, Relaxed);
            journal.renewed();
        });
        let fence = scene.meanwhile(|journal, _| journal.fence());
        assert!(matches!(block_on(body(&scene.journal)), Ok(VALUES) | Err(Stopped::Fenced)));
        renewal.join().unwrap();
        fence.join().unwrap();
        scene.end();
    });
}

#[test]
fn two_that_wait_for_the_same_write_are_both_answered() {
    explore(3, || {
        let scene = Scene::new(true);
        let memo = scene.meanwhile(|journal, _| {
            let value = Json::from_stored("1");
            journal.push_memo(MemoEntry { step: None, name: String::new(), nth: 0, value, job: None });
            assert!(matches!(block_on(journal.flush()), Ok(())));
        });
        scene.journal.push(0, value());
        assert!(matches!(block_on(scene.journal.flush()), Ok(())));
        memo.join().unwrap();
        scene.end();
    });
}

#[test]
fn those_that_wait_for_the_end_hear_of_it() {
    explore(3, || {
        let scene = Scene::new(true);
        let halted = scene.meanwhile(|journal, _| {
            assert!(matches!(block_on(journal.halted()), Stopped::Released | Stopped::Fenced));
            block_on(journal.lost());
        });
        let failed = scene.meanwhile(|journal, _| block_on(journal.handler_failed()));
        scene.journal.halt(Stopped::Released);
        scene.journal.fail(Stopped::Released);
        scene.journal.fence();
        halted.join().unwrap();
        failed.join().unwrap();
        scene.end();
    });
}

#[test]
fn a_suspect_that_waits_for_its_first_step_hears_of_it() {
    explore(4, || {
        let scene = Scene::new(true);
        let suspect = scene.meanwhile(|journal, _| block_on(journal.has_more_than(0)));
        scene.journal.push(0, value());
        suspect.join().unwrap();
        scene.end();
    });
}

/// The wait for room as it once was: whether the buffer is full is read before the lock, and what is durable after that.
async fn wait_for_room_in_the_old_order(journal: &Journal) {
    while !journal.is_open() {
        let durable = journal.steps();
        journal.has_more_than(durable).await;
    }
}

#[test]
#[should_panic(expected = "deadlock")]
fn the_old_order_of_reads_is_found_to_hang() {
    explore(2, || {
        let scene = Scene::new(true);
        for _ in 0..VALUES {
            block_on(wait_for_room_in_the_old_order(&scene.journal));
            scene.journal.push(0, value());
        }
        scene.end();
    });
}
