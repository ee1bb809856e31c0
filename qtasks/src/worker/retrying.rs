//! Calls of a store that are made again until the store carries them out, and the error that it gave last.

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

/// A store, and what is known of the calls that it fails: for what has to be written although the store may be away.
pub(crate) struct RetryingStore {
    pub(crate) store: Arc<dyn Store>,
    /// How many calls have failed and are made again.
    failing: AtomicUsize,
    last_error: Mutex<String>,
    outage: Arc<Outage>,
}

/// The calls that a store fails at this moment.
pub(crate) struct FailingCalls {
    calls: usize,
    last_error: String,
}

impl RetryingStore {
    pub(crate) fn new(store: Arc<dyn Store>, outage: Arc<Outage>) -> Arc<Self> {
        Arc::new(Self { store, failing: AtomicUsize::new(0), last_error: Mutex::default(), outage })
    }

    /// Calls `write` until the store carries it out, or gives an error that no repetition mends.
    pub(crate) async fn persist<T, F>(&self, doing: &str, write: impl Fn() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let mut failing = None;
        insist(&self.outage, doing, write, |error| {
            failing.get_or_insert_with(|| FailingCall::new(&self.failing));
            *self.last_error() = error;
        })
        .await
    }

    /// The calls that fail at this moment, if there are any.
    pub(crate) fn failing_calls(&self) -> Option<FailingCalls> {
        let calls = self.failing.load(Relaxed);
        (calls > 0).then(|| FailingCalls { calls, last_error: self.last_error().clone() })
    }

    fn last_error(&self) -> MutexGuard<'_, String> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Calls `write` until the store carries it out, or gives an error that no repetition mends.
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
    mut failed: impl FnMut(String),
) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let mut failing = None;
    let mut wait = Duration::from_millis(50);
    loop {
        match write().await {
            Err(error @ Error::Store { .. }) => {
                outage.failed(&mut failing, doing, &error);
                failed(chain(&error));
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(Duration::from_secs(5));
            }
            answer => {
                if let Some(failing) = failing {
                    failing.answered();
                }
                return answer;
            }
        }
    }
}

/// Counts a call that fails, until it is carried out or dropped.
struct FailingCall<'a>(&'a AtomicUsize);

impl<'a> FailingCall<'a> {
    fn new(failing: &'a AtomicUsize) -> Self {
        failing.fetch_add(1, Relaxed);
        Self(failing)
    }
}

impl Drop for FailingCall<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl fmt::Display for FailingCalls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let calls = if self.calls == 1 {
            "1 call so far, which is"
        } else {
            &format!("{} calls so far, which are", self.calls)
        };
        write!(f, "the store has refused {calls} tried again; its last error: {}", self.last_error)
    }
}
