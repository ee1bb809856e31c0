//! Calls of a store that are tried again until it carries them out, and what it said last.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use crate::{
    environment::outage::Outage,
    error::{Error, Result, chain},
    store::Store,
};

/// A store that may be away, for what has to be written all the same.
pub(crate) struct RetryingStore {
    pub(crate) store: Arc<dyn Store>,
    /// How many calls it has refused, which are to be tried again.
    failing: AtomicUsize,
    last_error: Mutex<String>,
    outage: Arc<Outage>,
}

/// The calls that a store refuses.
pub(crate) struct Trouble {
    /// How many there are.
    pub(crate) calls: usize,
    /// What the store said last.
    pub(crate) error: String,
}

impl RetryingStore {
    pub(crate) fn new(store: Arc<dyn Store>, outage: Arc<Outage>) -> Arc<Self> {
        Arc::new(Self { store, failing: AtomicUsize::new(0), last_error: Mutex::default(), outage })
    }

    /// Calls `write` until the store is there to carry it out.
    pub(crate) async fn persist<T, F>(&self, doing: &str, write: impl Fn() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let mut failing = None;
        insist(&self.outage, doing, write, |error| {
            failing.get_or_insert_with(|| Failing::new(&self.failing));
            *self.last_error() = error;
        })
        .await
    }

    /// Which calls it refuses at this moment, if any.
    pub(crate) fn trouble(&self) -> Option<Trouble> {
        let calls = self.failing.load(Relaxed);
        (calls > 0).then(|| Trouble { calls, error: self.last_error().clone() })
    }

    fn last_error(&self) -> MutexGuard<'_, String> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Calls `write` until the store is there to carry it out.
pub(crate) async fn persist<T, F: Future<Output = Result<T>>>(
    outage: &Arc<Outage>,
    doing: &str,
    write: impl Fn() -> F,
) -> Result<T> {
    insist(outage, doing, write, drop).await
}

async fn insist<T, F>(
    outage: &Arc<Outage>,
    doing: &str,
    write: impl Fn() -> F,
    mut refused: impl FnMut(String),
) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let mut trouble = None;
    let mut wait = Duration::from_millis(50);
    loop {
        match write().await {
            Err(error @ Error::Store { .. }) => {
                outage.failed(&mut trouble, doing, &error);
                refused(chain(&error));
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(Duration::from_secs(5));
            }
            answer => {
                if let Some(trouble) = trouble {
                    trouble.over();
                }
                return answer;
            }
        }
    }
}

/// Counts a call that fails, until it is carried out or given up.
struct Failing<'a>(&'a AtomicUsize);

impl<'a> Failing<'a> {
    fn new(failing: &'a AtomicUsize) -> Self {
        failing.fetch_add(1, Relaxed);
        Self(failing)
    }
}

impl Drop for Failing<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let calls = if self.calls == 1 {
            "1 call so far, which is"
        } else {
            &format!("{} calls so far, which are", self.calls)
        };
        write!(f, "the store has refused {calls} tried again; its last error: {}", self.error)
    }
}
