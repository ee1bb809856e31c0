//! A server, two worker processes, and a user who enqueues and watches all the time. Something befalls the server, and in
//! the end all must be as promised.

use std::{
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use futures::future::join_all;
use qtasks::{Budget, Find, prelude::*, store::Store};
use qtasks_tests::{
    kills::{
        check::{self, Findings, check},
        ledger::{What, now},
        process::Worker,
    },
    length::by_length,
    servers::proxy::Proxy,
};
use tempfile::TempDir;
use tokio::{
    sync::Semaphore,
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep, timeout},
};

use crate::{
    kinds::Kind,
    server::Server,
    tasks::plain,
    watch::{Watch, await_plain, follow},
};

/// How long anything may take until it goes on, on a machine that has much else to do.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is looked whether it goes on. A look reads a whole ledger.
const LOOK: Duration = Duration::from_millis(250);
const WORKERS: usize = 2;
/// How many jobs a worker runs at once. It leases as many again ahead, and of twice as many there are some for the other.
const CONCURRENCY: usize = 4;
const JOBS: usize = 4 * CONCURRENCY;
/// How often a job comes that does not yield.
const SOMETIMES: Duration = Duration::from_millis(200);
/// How long a handler takes, in milliseconds: so jobs take long enough for something to happen meanwhile. In the short form
/// there is less to do at a time,
const PAUSES: [&str; 2] = ["80", "20"];
/// and a job has fewer values, so that it takes as long.
const MOST_VALUES: [u64; 2] = [20, 40];

/// What there is.
pub(crate) struct Scene {
    pub(crate) server: Server,
    /// The line over which workers and users reach the server, if not at once.
    pub(crate) proxy: Option<Proxy>,
    workers: Vec<Worker>,
    app: QueueTasks,
    store: Arc<dyn Store>,
    over: Arc<AtomicBool>,
    user: JoinHandle<Vec<Followed>>,
    _folder: TempDir,
}

/// How the scene is set.
#[derive(Clone, Copy, Default)]
pub(crate) struct Setting {
    /// How long bytes take from one end of a line to the other, where there is a line that something can befall.
    pub(crate) line: Option<Duration>,
    /// What else the URL of the workers and the user says.
    pub(crate) parameters: &'static str,
}

/// A job whose enqueue was acknowledged, to its end.
pub(crate) struct Followed {
    /// When it was acknowledged.
    pub(crate) since: u64,
    pub(crate) job: check::Job,
    pub(crate) watch: Watch,
}

impl Followed {
    /// That its user saw what was promised.
    pub(crate) async fn is_well(&self, app: &QueueTasks) {
        if !self.watch.is_good() {
            let status = async { app.any_job(self.job.id).await?.status().await };
            panic!("job {}: {:?}, {:?}", self.job.id, self.watch, status.await);
        }
    }
}

impl Scene {
    pub(crate) async fn set(server: Server, Setting { line, parameters }: Setting) -> Self {
        let proxy = match line {
            Some(latency) => Some(Proxy::to(server.port(), latency).await),
            None => None,
        };
        let url = server.url(proxy.as_ref().map_or(server.port(), |proxy| proxy.port)) + parameters;
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let store = qtasks::store::open(&url).await.expect("a store is opened");
        let app = QueueTasks::builder().store_at(store.clone()).build().await.expect("an application is built");
        let workers = (0..WORKERS).map(|number| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_portable"));
            command.args(["--pause", by_length(PAUSES[0], PAUSES[1])]);
            Worker::start(command, &url, CONCURRENCY, folder.path().join(format!("ledger-{number}")))
        });
        let workers = workers.collect::<Result<_, _>>().expect("workers are started");
        let over = Arc::<AtomicBool>::default();
        let user = tokio::spawn(use_it(app.clone(), over.clone()));
        Self { server, proxy, workers, app, store, over, user, _folder: folder }
    }

    /// Waits until each worker goes on: it has leased and started more jobs than it could hold before.
    pub(crate) async fn goes_on(&mut self) {
        let before: Vec<_> = self.workers.iter().map(starts).collect();
        let begun = Instant::now();
        loop {
            let now: Vec<_> = self.workers.iter().map(starts).collect();
            if now.iter().zip(&before).all(|(now, before)| *now > before + 2 * CONCURRENCY) {
                return;
            }
            for worker in &mut self.workers {
                assert_eq!(worker.ended().expect("it is known"), None, "a worker has ended");
            }
            assert!(begun.elapsed() < PATIENCE, "workers had started {before:?} jobs, and then no more than {now:?}");
            sleep(LOOK).await;
        }
    }

    /// Whether the server cannot be asked anything.
    pub(crate) async fn is_away(&self) -> bool {
        let looked = self.store.find(Find::default().oldest_first(), None, Budget::jobs(1)).await;
        looked.is_err_and(|error| error.is_store_trouble())
    }

    /// Lets everything come to its end, and holds it to what was promised.
    pub(crate) async fn ends_well(self) {
        let Ended { followed, processes, app, server: _server } = self.end().await;
        for followed in &followed {
            followed.is_well(&app).await;
        }
        let jobs: Vec<_> = followed.into_iter().map(|followed| followed.job).collect();
        let findings = check(&jobs, &processes);
        // A worker that does not reach the store may lose its jobs.
        let (robbed, again_in_flight) = (findings.robbed.clone(), findings.again_in_flight);
        assert_eq!(findings, Findings { robbed, again_in_flight, ..Findings::default() });
    }

    /// Lets everything come to its end, and stops the workers.
    pub(crate) async fn end(mut self) -> Ended {
        self.over.store(true, Relaxed);
        let followed = timeout(PATIENCE, self.user).await.expect("all jobs end").expect("the user is well");
        // Also those whose enqueue came to nothing, as far as the user was told.
        let left = timeout(PATIENCE, none_is_left(&*self.store)).await;
        assert!(left.is_ok(), "a job that nobody follows does not end");
        for worker in &mut self.workers {
            worker.stop().expect("a worker works");
        }
        let stopped = timeout(PATIENCE, join_all(self.workers.iter_mut().map(has_stopped))).await;
        assert!(stopped.is_ok(), "a worker that was told to stop goes on");
        let processes = self.workers.iter().map(|worker| worker.process().expect("a ledger can be read"));
        Ended { followed, processes: processes.collect(), app: self.app, server: self.server }
    }
}

/// What it came to.
pub(crate) struct Ended {
    pub(crate) followed: Vec<Followed>,
    pub(crate) processes: Vec<check::Process>,
    pub(crate) app: QueueTasks,
    pub(crate) server: Server,
}

/// How many jobs a worker has started, by its ledger: with each it has leased one, and read how it stands.
fn starts(worker: &Worker) -> usize {
    let entries = worker.process().expect("a ledger can be read").entries;
    entries.iter().filter(|entry| matches!(entry.what, What::Started { .. })).count()
}

async fn none_is_left(store: &dyn Store) {
    loop {
        let jobs = store
            .find(Find::default().oldest_first(), None, Budget::jobs(1_000_000))
            .await
            .expect("the server is there")
            .jobs;
        if jobs.iter().all(|job| job.standing.state.name() == "done") {
            return;
        }
        sleep(Duration::from_millis(50)).await;
    }
}

async fn has_stopped(worker: &mut Worker) {
    loop {
        if let Some(status) = worker.ended().expect("it is known") {
            return assert!(status.success(), "a worker that was told to stop ended with {status}");
        }
        sleep(Duration::from_millis(10)).await;
    }
}

/// Enqueues jobs and follows them until it is over and they have ended: always so many that yield, and others without
/// waiting for any, so that jobs are on their way in whatever befalls the store.
async fn use_it(app: QueueTasks, over: Arc<AtomicBool>) -> Vec<Followed> {
    let (yielding, others) = tokio::join!(enqueue_yielding(&app, &over), enqueue_plain(&app, &over));
    yielding.join_all().await.into_iter().chain(others.join_all().await).collect()
}

async fn enqueue_yielding(app: &QueueTasks, over: &AtomicBool) -> JoinSet<Followed> {
    let (slots, mut following, mut rng) = (Arc::new(Semaphore::new(JOBS)), JoinSet::new(), fastrand::Rng::with_seed(1));
    while !over.load(Relaxed) {
        let slot = slots.clone().acquire_owned().await.expect("it is never closed");
        let (app, kind) = (app.clone(), Kind::ALL[rng.usize(..Kind::ALL.len())]);
        let (first, count) = (rng.u64(..1_000_000), rng.u64(1..by_length(MOST_VALUES[0], MOST_VALUES[1])));
        following.spawn(async move {
            let _slot = slot;
            let watch = Watch::default();
            let job = watch.insist(|| kind.enqueue(&app, first, count)).await.expect("it fits");
            let since = now();
            Followed { since, job: follow(job, first, count, &watch).await, watch }
        });
    }
    following
}

async fn enqueue_plain(app: &QueueTasks, over: &AtomicBool) -> JoinSet<Followed> {
    let mut following = JoinSet::new();
    for value in 0.. {
        if over.load(Relaxed) {
            break;
        }
        let watch = Watch::default();
        let job = watch.insist(|| app.enqueue(plain(value))).await.expect("it fits");
        let since = now();
        following.spawn(async move { Followed { since, job: await_plain(job, value, &watch).await, watch } });
        sleep(SOMETIMES).await;
    }
    following
}
