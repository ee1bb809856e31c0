//! A process that dies where a case says: from then on none of its calls reaches the store, none of its answers arrives,
//! and nothing that it does counts.

use std::{
    collections::HashMap,
    fmt,
    panic::resume_unwind,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use jiff::Timestamp;
use qtasks::{Clock, Error, QueueTasks, Result, TaskContext, job::WorkerId};
use qtasks_tests::{
    edge::{Behind, CarryOut, Edge},
    promises::Event,
};
use serde_json::json;
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};

use crate::{tasks::Kind, world::World};

/// One process, from its start to its end or its crash. It is also the state that its tasks take, and what stands
/// between it and the store.
#[derive(Clone)]
pub(crate) struct Process {
    life: Arc<Life>,
}

struct Life {
    world: Arc<World>,
    dies_at: Option<String>,
    alive: AtomicBool,
    died: Notify,
    passed: Mutex<Passed>,
    worker: Mutex<Option<WorkerId>>,
}

/// The points that a process has passed: places where it could have died.
#[derive(Default)]
struct Passed {
    names: Vec<String>,
    times: HashMap<String, u32>,
}

impl Process {
    /// A process that dies at the point of this name, if it comes to it.
    pub(crate) fn new(world: &Arc<World>, dies_at: Option<String>) -> Self {
        let life = Life {
            world: world.clone(),
            dies_at,
            alive: AtomicBool::new(true),
            died: Notify::new(),
            passed: Mutex::default(),
            worker: Mutex::default(),
        };
        Self { life: Arc::new(life) }
    }

    /// Runs until all jobs have ended, or until it dies; gives the points that it passed.
    pub(crate) fn run(self, kind: Kind, n: i64) -> Vec<String> {
        let world = self.life.world.clone();
        let still = kind.is_async && world.in_memory;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(still).build().unwrap();
        runtime.block_on(async {
            let lived = tokio::select! {
                lived = self.live(kind, n) => lived,
                () = self.life.died.notified() => Err(dead()),
            };
            assert!(lived.is_ok() || self.is_dead(), "{lived:?}");
        });
        // Its futures are dropped with this, wherever they stand.
        drop(runtime);
        if self.is_dead() {
            self.life.world.outside.block_on(self.buried());
        }
        self.life.passed.lock().unwrap().names.clone()
    }

    async fn live(&self, kind: Kind, n: i64) -> Result<()> {
        let world = &self.life.world;
        let store = Behind::new(self.clone(), world.store.clone(), &world.ledger);
        let clock = Clock::Tokio { start: Timestamp::UNIX_EPOCH, origin: Instant::now() };
        let clock = if world.in_memory { clock } else { Clock::System };
        let app = QueueTasks::builder().store_at(Arc::new(store)).state(self.clone()).clock(clock).build().await?;
        if !world.is_acknowledged() {
            let job = app.enqueue_json(kind.name, &Kind::args(n)).await?.id();
            world.acknowledged(job, n).await;
        }
        let worker = app.worker().concurrency(2).start().await?;
        *self.life.worker.lock().unwrap() = Some(worker.id());
        tokio::select! {
            () = world.all_ended() => {}
            () = self.life.died.notified() => {
                // Threads cannot be dropped: they end when they find that all that they ask is refused.
                if !kind.is_async {
                    let _ = timeout(Duration::from_secs(20), worker.shutdown()).await.expect("the dead come to rest");
                }
                return Err(dead());
            }
        }
        let worker_id = worker.id();
        world.ledger.note(Event::StopBegun { worker: worker_id });
        let stopped = worker.shutdown().await;
        if !self.is_dead() {
            let holds = world.held_by(worker_id).await;
            world.ledger.note(Event::StopEnded { worker: worker_id, well: stopped.is_ok(), holds });
        }
        Ok(())
    }

    /// Tells the store what an operating system would say: that the worker is gone.
    async fn buried(&self) {
        self.life.world.calm().await;
        let worker = *self.life.worker.lock().unwrap();
        if let Some(worker) = worker {
            self.life.world.ledger.note(Event::Killed { worker });
            self.life.world.store.leave(worker).await.unwrap();
        }
    }

    /// What the handlers do: they are seen to begin, and to end, and the process may die before, between and after.
    pub(crate) fn handled(&self, ctx: &TaskContext, value: i64) {
        let key = ctx.idempotency_key();
        let seq =
            key.rsplit(':').next().and_then(|seq| seq.parse().ok()).expect("a key ends in the number of the step");
        let (job, attempt) = (ctx.job_id(), ctx.attempt());
        let point = |place| self.point("handle", place).unwrap_or_else(|_| resume_unwind(Box::new("dead")));
        point("before");
        self.note(Event::Begun { job, seq, attempt, value: json!(value) });
        point("within");
        self.note(Event::Returned { job, seq, attempt });
        point("after");
    }

    fn note(&self, event: Event) {
        if !self.is_dead() {
            self.life.world.ledger.note(event);
        }
    }

    fn is_dead(&self) -> bool {
        !self.life.alive.load(SeqCst)
    }

    /// A place where the process can die; an error when it is dead.
    fn point(&self, what: &str, place: &str) -> Result<()> {
        if self.is_dead() {
            return Err(dead());
        }
        self.life.world.look();
        let name = self.life.passed.lock().unwrap_or_else(PoisonError::into_inner).name(what, place);
        if self.life.dies_at.as_ref() == Some(&name) {
            self.life.alive.store(false, SeqCst);
            self.life.died.notify_waiters();
            self.life.died.notify_one();
            return Err(dead());
        }
        Ok(())
    }
}

impl Passed {
    /// Names the point by what comes to pass there, and for which time.
    fn name(&mut self, what: &str, place: &str) -> String {
        let times = self.times.entry(format!("{what}:{place}")).or_default();
        *times += 1;
        let name = format!("{what}#{times}:{place}");
        self.names.push(name.clone());
        name
    }
}

/// Calls that a worker makes now and then, whatever its jobs do: how often before a crash differs from run to run. None of them
/// changes a job.
const BESIDE: [&str; 4] = ["notes", "note", "add_rates", "prune_rates"];

impl Edge for Process {
    async fn pass<T: Send + 'static>(&self, call: &'static str, carry_out: CarryOut<T>) -> Result<T> {
        if BESIDE.contains(&call) {
            return if self.is_dead() { Err(dead()) } else { self.life.world.carry_out(carry_out).await };
        }
        self.point(call, "arrives")?;
        let answer = self.life.world.carry_out(carry_out).await;
        self.point(call, "carried-out")?;
        answer
    }
}

fn dead() -> Error {
    Error::Misuse("this process is dead")
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a process")
    }
}
