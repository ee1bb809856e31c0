//! What the tests of qtasks share: a place for jobs, an application there, and a diary that its tasks write; and what
//! simulations need: a ledger of what happens, a store that calls reach over an edge, and who judges the ledger; servers of
//! the tests' own; worker processes to be killed; clocks for them that are wrong; and how long tests take.

pub mod clock;
pub mod edge;
pub mod jobs;
pub mod kills;
pub mod ledger;
pub mod length;
pub mod promises;
pub mod servers;

use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use qtasks::{
    Builder, Clock, QueueTasks, State,
    store::{Memory, Store},
};
use tempfile::TempDir;
use tokio::{runtime::Handle, sync::watch, time::timeout};

/// How long a test waits for something before it fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs each of the tests on every store.
#[macro_export]
macro_rules! on_every_store {
    ($($test:ident),* $(,)?) => {
        mod memory {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test($crate::Stage::open($crate::Place::memory()).await).await;
            })*
        }

        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test($crate::Stage::open($crate::Place::sqlite()).await).await;
            })*
        }

        mod redis {
            $(#[cfg_attr(missing = "redis", ignore = "redis-server is not installed")]
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test($crate::Stage::open($crate::Place::redis()).await).await;
            })*
        }

        mod postgres {
            $(#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test($crate::Stage::open($crate::Place::postgres()).await).await;
            })*
        }
    };
}

/// Where the jobs of one test are kept.
#[derive(Debug)]
pub struct Place {
    /// The URL of the store there.
    pub url: String,
    folder: Option<TempDir>,
}

impl Place {
    /// In memory.
    pub fn memory() -> Self {
        Self::at("memory:".to_owned())
    }

    /// In a SQLite file that goes away with this.
    pub fn sqlite() -> Self {
        let folder = light_folder();
        let url = format!("sqlite:{}", folder.path().join("jobs.db").display());
        Self { url, folder: Some(folder) }
    }

    /// On a Redis server, apart from all others there.
    pub fn redis() -> Self {
        Self::at(servers::redis::url())
    }

    /// In tables of its own on the Postgres server of this process.
    pub fn postgres() -> Self {
        Self::at(servers::postgres::url())
    }

    /// At a URL that is nobody else's.
    pub fn at(url: String) -> Self {
        Self { url, folder: None }
    }
}

/// An application, and the diary that its tasks write.
#[derive(Debug)]
pub struct Stage {
    /// The application.
    pub app: QueueTasks,
    /// Its tasks take it as a `State<Diary>`.
    pub diary: Diary,
    /// Where its jobs are kept.
    pub store: Arc<dyn Store>,
    /// Where its store is.
    pub place: Place,
}

impl Stage {
    /// An application whose jobs are kept at `place`.
    pub async fn open(place: Place) -> Self {
        let store = qtasks::store::open(&place.url).await.expect("a store is opened");
        Self::built(place, store, |builder| builder).await
    }

    /// One in memory, with more to say.
    pub async fn in_memory(more: impl FnOnce(Builder) -> Builder) -> Self {
        Self::built(Place::memory(), Arc::new(Memory::new()), more).await
    }

    /// One at `place`, on a store that stands before the one there.
    pub async fn behind(place: Place, before: impl FnOnce(Arc<dyn Store>) -> Arc<dyn Store>) -> Self {
        let store = qtasks::store::open(&place.url).await.expect("a store is opened");
        Self::built(place, before(store), |builder| builder).await
    }

    /// One on a store of the test's own.
    pub async fn on(store: Arc<dyn Store>) -> Self {
        Self::built(Place::memory(), store, |builder| builder.clock(Clock::tokio())).await
    }

    async fn built(place: Place, store: Arc<dyn Store>, more: impl FnOnce(Builder) -> Builder) -> Self {
        let diary = Diary::default();
        let builder = QueueTasks::builder().store_at(store.clone()).state(diary.clone());
        Self { app: more(builder).build().await.expect("an application is built"), diary, store, place }
    }

    /// Another application with the same jobs; where they are not in memory, as another process would open it.
    pub async fn neighbour(&self) -> QueueTasks {
        let builder = QueueTasks::builder().state(self.diary.clone());
        let builder = match &*self.place.url {
            "memory:" => builder.store_at(self.store.clone()),
            url => builder.store(url),
        };
        builder.build().await.expect("an application is built")
    }

    /// The file that its jobs are kept in.
    pub fn file(&self) -> PathBuf {
        self.place.folder.as_ref().expect("its jobs are kept in a file").path().join("jobs.db")
    }

    /// Runs what is due.
    pub async fn work(&self) {
        in_time(self.app.worker().run_until_idle()).await.expect("a worker runs");
    }
}

/// What tasks did, line by line. A task can wait for a line too, so that a test says when it goes on.
#[derive(Clone, Default)]
pub struct Diary {
    lines: Arc<Lines>,
}

struct Lines {
    all: Mutex<Vec<String>>,
    written: watch::Sender<()>,
}

impl Default for Lines {
    fn default() -> Self {
        Self { all: Mutex::default(), written: watch::Sender::new(()) }
    }
}

impl Diary {
    /// Writes a line.
    pub fn note(&self, line: impl fmt::Display) {
        self.lines.all.lock().unwrap_or_else(PoisonError::into_inner).push(line.to_string());
        self.lines.written.send_replace(());
    }

    /// Begins anew.
    pub fn clear(&self) {
        self.lines.all.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// All lines.
    pub fn lines(&self) -> Vec<String> {
        self.lines.all.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many lines are this one.
    pub fn count(&self, line: &str) -> usize {
        self.lines().iter().filter(|other| *other == line).count()
    }

    /// Waits for a line.
    pub async fn until(&self, line: &str) {
        self.until_times(line, 1).await;
    }

    /// Waits until a line was written so many times.
    pub async fn until_times(&self, line: &str, times: usize) {
        if timeout(PATIENCE, self.written(line, times)).await.is_err() {
            panic!("`{line}` was not written in time, but {:?}", self.lines());
        }
    }

    /// Waits for a line, as a task does: without an end, so that it is never the task which gives up first.
    pub async fn told(&self, line: &str) {
        self.written(line, 1).await;
    }

    async fn written(&self, line: &str, times: usize) {
        let mut written = self.lines.written.subscribe();
        while self.count(line) < times {
            written.changed().await.expect("the diary holds the sender");
        }
    }

    /// Waits for a line on a thread that may block.
    pub fn until_blocking(&self, line: &str) {
        Handle::current().block_on(self.until(line));
    }
}

impl fmt::Debug for Diary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.lines()).finish()
    }
}

/// A line when this is dropped: by that a test sees that a body's drop code ran.
pub struct NotesDrop(pub State<Diary>, pub &'static str);

impl Drop for NotesDrop {
    fn drop(&mut self) {
        self.0.note(self.1);
    }
}

impl fmt::Debug for NotesDrop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.1)
    }
}

/// A temporary folder whose syncs cost nothing, where the system has one: for tests that do not ask what survives a power cut,
/// and that write little.
///
/// # Panics
///
/// When no folder can be made.
pub fn light_folder() -> TempDir {
    let in_memory = tempfile::tempdir_in("/dev/shm");
    in_memory.or_else(|_| tempfile::tempdir()).expect("a temporary folder can be made")
}

/// What `future` gives, which must not take long.
pub async fn in_time<F: Future>(future: F) -> F::Output {
    timeout(PATIENCE, future).await.expect("this takes no time")
}

/// Waits until `condition` holds.
pub async fn eventually(what: &str, condition: impl AsyncFn() -> bool) {
    let look = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    assert!(timeout(PATIENCE, look).await.is_ok(), "{what}: not in time");
}

/// The text of an error with those behind it.
pub fn whole(error: &(dyn std::error::Error + 'static)) -> String {
    // Those of qtasks say by themselves what stands behind them.
    let source = error.source().filter(|_| !error.is::<qtasks::Error>());
    let source = source.map(|source| format!(": {}", whole(source)));
    format!("{error}{}", source.unwrap_or_default())
}
