//! A store, the processes that work on it, and what is seen of their jobs from outside.

use std::{
    fmt,
    io::{BufRead as _, BufReader, Lines, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use futures::future::join_all;
use libtest_mimic::{Arguments, Completion, Trial};
use qtasks::{Status, job::Ending, prelude::*};
use qtasks_tests::{clock::Clock, servers};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// How long anything may take that has no bound of its own.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// How many jobs a process runs at once, when it does not matter.
const CONCURRENCY: usize = 32;
/// How often something is looked for,
const LOOK: Duration = Duration::from_millis(50);
/// and all jobs of a test, in many tests at once.
const LOOK_AT_ALL: Duration = Duration::from_millis(400);
/// Within what time the jobs of a worker that is gone go on elsewhere, on a machine that has much else to do. Where they wait
/// for what a clock says, it is never less than twenty seconds.
const RECOVERY: Duration = Duration::from_secs(6);

/// The kind of a store.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    Sqlite,
    Redis,
    Postgres,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Sqlite, Self::Redis, Self::Postgres];

    /// Those on which due times go by the clock of a server.
    pub(crate) const SERVERS: [Self; 2] = [Self::Redis, Self::Postgres];

    fn missing(self) -> Option<&'static str> {
        match self {
            Self::Sqlite => None,
            Self::Redis => cfg!(missing = "redis").then_some("redis-server is not installed"),
            Self::Postgres => cfg!(missing = "postgres").then_some("Postgres is not installed"),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&format!("{self:?}").to_lowercase())
    }
}

/// A test on a store of this kind, which is ignored where it cannot be done.
pub(crate) fn trial(
    kind: Kind,
    name: &str,
    missing: Option<&'static str>,
    test: impl AsyncFnOnce(Scene) + Send + 'static,
) -> Trial {
    Trial::ignorable_test(format!("{kind}::{name}"), move || {
        if let Some(why) = missing.or(kind.missing()) {
            return Ok(Completion::ignored_with(why));
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.expect("there is a runtime").block_on(async { test(Scene::new(kind).await).await });
        Ok(Completion::Completed)
    })
}

/// Runs the tests, so many at once unless the command line says otherwise.
pub(crate) fn run(at_once: usize, trials: Vec<Trial>) -> ExitCode {
    let arguments = Arguments::from_args();
    let at_once = arguments.test_threads.or(Some(at_once));
    libtest_mimic::run(&Arguments { test_threads: at_once, ..arguments }, trials).exit_code()
}

/// A store of the test alone, and an application that looks on.
pub(crate) struct Scene {
    pub(crate) kind: Kind,
    pub(crate) app: QueueTasks,
    pub(crate) url: String,
    folder: TempDir,
}

impl Scene {
    async fn new(kind: Kind) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let url = match kind {
            Kind::Sqlite => format!("sqlite:{}", folder.path().join("jobs.db").display()),
            Kind::Redis => servers::redis::url(),
            // There are many processes at once, and a server has only so many connections.
            Kind::Postgres => format!("{}&connections=3", servers::postgres::url()),
        };
        let app = QueueTasks::open(&url).await.expect("a store is opened");
        Self { kind, app, url, folder }
    }

    /// A file of the test.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A worker process that listens to these queues.
    pub(crate) fn peer(&self, queues: &str) -> Peer {
        self.peer_of(CONCURRENCY, queues)
    }

    /// One that runs so many jobs at once.
    pub(crate) fn peer_of(&self, concurrency: usize, queues: &str) -> Peer {
        Peer::start(self.command(env!("CARGO_BIN_EXE_peer"), queues, concurrency))
    }

    /// One that may not have come to work yet.
    pub(crate) fn peer_to_come(&self, queues: &str) -> Peer {
        Peer::begin(self.command(env!("CARGO_BIN_EXE_peer"), queues, CONCURRENCY))
    }

    /// One that goes by this clock.
    pub(crate) fn peer_by(&self, clock: &Clock, queues: &str) -> Peer {
        let mut command = self.command(env!("CARGO_BIN_EXE_peer"), queues, CONCURRENCY);
        clock.give(&mut command);
        Peer::start(command)
    }

    /// One of a program that knows none of the tasks.
    pub(crate) fn stranger(&self, queues: &str) -> Peer {
        Peer::start(self.command(env!("CARGO_BIN_EXE_stranger"), queues, CONCURRENCY))
    }

    fn command(&self, program: &str, queues: &str, concurrency: usize) -> Command {
        let mut command = Command::new(program);
        command.args([&self.url, queues, &concurrency.to_string()]);
        command
    }

    /// Enqueues a job, which failures call `name`.
    pub(crate) async fn enqueue<C: CallOptions>(&self, name: &str, call: C) -> Job {
        let job = self.app.enqueue(call).await.expect("it fits");
        self.job(name, job.id()).await
    }

    /// A job that is there.
    pub(crate) async fn job(&self, name: &str, id: JobId) -> Job {
        Job { name: name.to_owned(), handle: self.app.any_job(id).await.expect("it is there") }
    }
}

/// A job, by a name for those who read of a failure.
pub(crate) struct Job {
    pub(crate) name: String,
    pub(crate) handle: JobHandle<Value>,
}

impl Job {
    pub(crate) async fn status(&self) -> Status {
        insist(async || self.handle.status().await).await
    }

    /// Waits until it has made so many steps.
    pub(crate) async fn has_made(&self, steps: u64) {
        let made = within(PATIENCE, async || (self.status().await.steps >= steps).then_some(())).await;
        assert!(made.is_some(), "{} makes no steps", self.name);
    }

    /// That it goes on elsewhere, now that its worker is gone.
    pub(crate) async fn goes_on_elsewhere(&self) {
        let goes_on = within(RECOVERY, async || {
            let Status { state, attempts, .. } = self.status().await;
            (state.name() == "running" && attempts.len() == 1).then_some(attempts)
        });
        let lost = goes_on.await.unwrap_or_else(|| panic!("{} does not go on within {RECOVERY:?}", self.name));
        assert_eq!(lost[0].ending, Ending::Lost);
    }

    /// Whether a worker runs it.
    pub(crate) async fn runs(&self) -> bool {
        self.status().await.state.name() == "running"
    }
}

/// Waits until each of the jobs runs.
pub(crate) async fn all_run(jobs: &[Job]) {
    let end = Instant::now() + PATIENCE;
    loop {
        let all = statuses(jobs).await;
        if all.iter().all(|status| status.state.name() == "running") {
            return;
        }
        // Once one has ended, they never all run.
        let ended = all.iter().any(|status| status.state.name() == "done");
        assert!(!ended && Instant::now() < end, "not all of them run: {}", told(jobs, &all));
        tokio::time::sleep(LOOK_AT_ALL).await;
    }
}

/// That the jobs end done at the first start of their bodies, as they do when no worker is robbed. A lease that was given back
/// before anything ran has a number, and no place in the history.
pub(crate) async fn each_ends_at_its_first_attempt(jobs: &[Job]) {
    let end = Instant::now() + PATIENCE;
    loop {
        let all = statuses(jobs).await;
        let undisturbed = all.iter().all(|status| {
            let good = matches!(status.state.name(), "waiting" | "running" | "done");
            let done = status.attempts.iter().all(|attempt| attempt.ending == Ending::Done);
            good && done && status.failures == 0
        });
        assert!(undisturbed, "a job was disturbed: {}", told(jobs, &all));
        if all.iter().all(|status| status.state.name() == "done" && status.attempts.len() == 1) {
            return;
        }
        assert!(Instant::now() < end, "not all of them end: {}", told(jobs, &all));
        tokio::time::sleep(LOOK_AT_ALL).await;
    }
}

/// How the jobs stand.
pub(crate) async fn statuses(jobs: &[Job]) -> Vec<Status> {
    join_all(jobs.iter().map(Job::status)).await
}

/// What the store answers, asked again while it is too busy to do so in time.
async fn insist<T>(ask: impl AsyncFn() -> qtasks::Result<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        match ask().await {
            Err(error) if error.is_store_trouble() && Instant::now() < end => tokio::time::sleep(LOOK).await,
            answer => return answer.expect("the store can be read"),
        }
    }
}

/// How the jobs stand, for those who read of a failure.
pub(crate) fn told(jobs: &[Job], all: &[Status]) -> String {
    let lines = jobs.iter().zip(all).map(|(job, status)| {
        let endings: Vec<_> = status.attempts.iter().map(|attempt| &attempt.ending).collect();
        let Status { state, attempt, failures, .. } = status;
        format!("\n{}: {}, attempt {attempt}, failures {failures}, ended {endings:?}", job.name, state.name())
    });
    lines.collect()
}

/// What is found in time, looked for now and then.
pub(crate) async fn within<T>(limit: Duration, find: impl AsyncFn() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    loop {
        let last = Instant::now() >= end;
        let found = find().await;
        if found.is_some() || last {
            return found;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Makes a file that jobs wait for.
pub(crate) fn touch(file: &Path) {
    std::fs::write(file, "").expect("a file is written");
}

/// A worker process, which is killed at the latest when this is dropped.
pub(crate) struct Peer {
    child: Child,
    words: ChildStdin,
    said: Lines<BufReader<ChildStdout>>,
}

impl Peer {
    fn start(command: Command) -> Self {
        let mut peer = Self::begin(command);
        assert_eq!(peer.answer(), "works");
        peer
    }

    fn begin(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a process is started");
        let words = child.stdin.take().expect("it is piped");
        let said = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        Self { child, words, said }
    }

    /// Has it do something, and gives what it answers.
    pub(crate) fn tell(&mut self, words: &str) -> String {
        writeln!(self.words, "{words}").expect("it listens");
        self.answer()
    }

    fn answer(&mut self) -> String {
        self.said.next().expect("it lives").expect("it writes text")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it lives");
    }

    /// Kills it with SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("it lives");
        self.child.wait().expect("it was started here");
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
