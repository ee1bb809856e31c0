//! A stop that takes long says what it waits for.

use std::{
    future::pending,
    io::{self, Write},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
    time::Duration,
};

use qtasks::{Error, prelude::*, store::Memory};
use qtasks_tests::{
    Diary, Stage,
    edge::{Behind, CarryOut, Edge},
    ledger::Ledger,
};
use tokio::time::Instant;
use tracing::subscriber::DefaultGuard;

/// What was said on the thread of a test.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<Vec<u8>>>);

impl Write for Said {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Said {
    /// Listens to this thread, on which all of a test runs.
    fn listen() -> (Self, DefaultGuard) {
        let said = Self::default();
        let writer = said.clone();
        let listener = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        (said, tracing::subscriber::set_default(listener))
    }

    /// The lines with this text.
    fn lines(&self, text: &str) -> Vec<String> {
        let said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let said = String::from_utf8_lossy(&said).into_owned();
        said.lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
    }
}

const IS_STOPPING: &str = "the worker is stopping and waits for ";
const STILL_STOPPING: &str = "the worker is still stopping: it waits for ";
const NO_LONGER_WAITS: &str = "the worker stops at once, and no longer waits for ";

/// Answers, refuses, or is silent.
#[derive(Debug, Default)]
struct Moody(AtomicU8);

const REFUSES: u8 = 1;
const IS_SILENT: u8 = 2;

impl Edge for Moody {
    async fn pass<T: Send + 'static>(&self, _call: &'static str, carry_out: CarryOut<T>) -> qtasks::Result<T> {
        match self.0.load(Relaxed) {
            REFUSES => Err(Error::Store { doing: "hear us", source: "the cable is out".into() }),
            IS_SILENT => pending().await,
            _ => carry_out().await,
        }
    }
}

async fn moody() -> (Stage, Arc<Behind<Moody>>) {
    let store = Arc::new(Behind::new(Moody::default(), Arc::new(Memory::new()), &Ledger::default()));
    (Stage::on(store.clone()).await, store)
}

#[qtask]
async fn ends_when_told(diary: State<Diary>) {
    diary.note("runs");
    diary.told("go on").await;
}

#[qtask]
fn ends_on_its_thread_when_told(diary: State<Diary>) {
    diary.note("runs");
    // A wait of the test's own would be over soon, by the clock that runs ahead.
    tokio::runtime::Handle::current().block_on(diary.told("go on"));
    diary.note("ends");
}

/// Stops a worker while the store refuses or is silent; gives what was said, the job, and how long the stop took.
async fn stopped_without_a_store(mood: u8) -> (Said, JobId, Duration) {
    let (said, _listening) = Said::listen();
    let (stage, store) = moody().await;
    let worker = stage.app.worker().grace(Duration::from_secs(9)).start().await.unwrap();
    let job = stage.app.enqueue(ends_when_told()).await.unwrap();
    stage.diary.until("runs").await;
    store.edge.0.store(mood, Relaxed);
    stage.diary.note("go on");
    let begun = Instant::now();
    let error = worker.shutdown().await.unwrap_err();
    assert!(matches!(error, Error::NotGivenBack), "{error}");
    assert!(error.to_string().starts_with("the store was away while the worker stopped"), "{error}");
    (said, job.id(), begun.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_stop_that_waits_for_a_store_which_refuses_says_so_with_its_last_error() {
    let (said, job, _) = stopped_without_a_store(REFUSES).await;
    let named = format!("the store to write what became of jobs, 1 in number: ends_when_told (job {job}, attempt 1)");
    let trouble = "the store has refused 1 call so far, which is tried again; its last error: the store could not hear us: \
                   the cable is out";
    let still = said.lines(STILL_STOPPING);
    assert_eq!(still.len(), 1, "{still:?}");
    assert!(still[0].contains(" WARN ") && still[0].contains("after=14"), "{still:?}");
    assert!(still[0].contains(&named) && still[0].contains(trouble), "{still:?}");
    let given_up = said.lines(NO_LONGER_WAITS);
    assert!(given_up.len() == 1 && given_up[0].contains(&named) && given_up[0].contains(trouble), "{given_up:?}");
}

#[tokio::test(start_paused = true)]
async fn a_stop_that_waits_for_a_store_which_is_silent_says_so_and_ends() {
    let (said, job, took) = stopped_without_a_store(IS_SILENT).await;
    let still = said.lines(STILL_STOPPING);
    assert!(
        (1..=2).contains(&still.len()) && still[0].contains(&format!("ends_when_told (job {job}, attempt 1)")),
        "{still:?}"
    );
    assert!(took < Duration::from_secs(30), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_silent_store_does_not_hold_up_the_stop_of_a_worker_without_jobs() {
    let (said, _listening) = Said::listen();
    let (stage, store) = moody().await;
    let worker = stage.app.worker().grace(Duration::from_secs(9)).start().await.unwrap();
    store.edge.0.store(IS_SILENT, Relaxed);
    // By now it asks for lost workers and for jobs to prune.
    tokio::time::sleep(Duration::from_secs(100)).await;
    let begun = Instant::now();
    _ = worker.shutdown().await;
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    let still = said.lines(STILL_STOPPING);
    assert!((1..=2).contains(&still.len()) && still[0].contains("it waits for the store to answer"), "{still:?}");
}

#[tokio::test(start_paused = true)]
async fn a_stop_within_the_grace_says_which_bodies_run_and_does_not_warn() {
    let (said, _listening) = Said::listen();
    let (stage, _store) = moody().await;
    let worker = stage.app.worker().grace(Duration::from_secs(20)).start().await.unwrap();
    let job = stage.app.enqueue(ends_when_told()).await.unwrap();
    stage.diary.until("runs").await;
    worker.shutdown().await.unwrap();
    let news = said.lines(IS_STOPPING);
    assert_eq!(news.len(), 2, "after 5 s and 15 s: {news:?}");
    let named = format!("bodies that run, 1 in number: ends_when_told (job {}, attempt 1)", job.id());
    assert!(news.iter().all(|line| line.contains(" INFO ") && line.contains(&named)), "{news:?}");
    assert_eq!(said.lines(" WARN "), [""; 0]);
}

/// Waits for a line that a thread writes, which takes no time by a clock that a test has paused.
async fn written_by_thread(diary: &Diary, line: &str) {
    let begun = std::time::Instant::now();
    while diary.count(line) == 0 {
        assert!(begun.elapsed() < Duration::from_secs(60), "`{line}` was not written in time");
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_under_a_paused_clock_does_not_talk_without_end() {
    let (said, _listening) = Said::listen();
    let (stage, _store) = moody().await;
    let worker = stage.app.worker().grace(Duration::from_secs(3000)).start().await.unwrap();
    let job = stage.app.enqueue(ends_on_its_thread_when_told()).await.unwrap();
    written_by_thread(&stage.diary, "runs").await;
    let stopping = tokio::spawn(worker.shutdown());
    // By itself the clock stands still while the body runs on its thread.
    while !stopping.is_finished() {
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    stopping.await.unwrap().unwrap();
    let news = said.lines(IS_STOPPING);
    let named = format!("ends_on_its_thread_when_told (job {}, attempt 1, on a thread)", job.id());
    assert!(news.len() == 9 && news[0].contains(&named), "{} times: {:?}", news.len(), news.first());
    stage.diary.note("go on");
    written_by_thread(&stage.diary, "ends").await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_names_ten_jobs_and_counts_the_others() {
    let (said, _listening) = Said::listen();
    let (stage, _store) = moody().await;
    let worker = stage.app.worker().concurrency(12).grace(Duration::from_secs(6)).start().await.unwrap();
    stage.app.enqueue_all((0..12).map(|_| ends_when_told())).await.unwrap();
    stage.diary.until_times("runs", 12).await;
    worker.shutdown().await.unwrap();
    let news = said.lines(IS_STOPPING);
    assert!(news[0].contains("bodies that run, 12 in number: "), "{news:?}");
    assert!(news[0].contains("attempt 1) and 2 more") && news[0].matches("attempt 1").count() == 10, "{news:?}");
}
