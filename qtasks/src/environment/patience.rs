//! Waits for a store that is away: makes a call again until the store answers it, or the caller's time is over.

use std::time::Duration;

use futures::future::{Either, select};
use tokio::time::Instant;

use crate::{
    error::{Error, Result},
    runtime::alarm::sleep,
    store::{Listener, Store},
};

/// The pause after the first try. It doubles with each further try.
const SHORTEST: Duration = Duration::from_millis(20);
/// The longest pause between two tries.
const LONGEST: Duration = Duration::from_secs(1);

/// Makes a call of `store`, and makes it again while the store is away, as long as its [patience](Store::patience) lasts:
/// that is the time of all tries together. Each call of a store can be made again without harm.
///
/// # Errors
///
/// Those of the call that no repetition mends; when the time is over, that of the last try.
pub(crate) async fn patiently<T, F: Future<Output = Result<T>>>(
    store: &dyn Store,
    call: impl FnMut() -> F,
) -> Result<T> {
    Patience::new(store).call(call).await
}

/// The time that a caller waits for a store, over all its calls and their tries.
pub(crate) struct Patience<'s> {
    store: &'s dyn Store,
    since: Instant,
    pause: Duration,
    /// The error of the last try, and what notifies when the store is back. There is none before the first try has failed.
    last_failure: Option<(Error, Listener)>,
}

impl<'s> Patience<'s> {
    pub(crate) fn new(store: &'s dyn Store) -> Self {
        Self { store, since: Instant::now(), pause: SHORTEST, last_failure: None }
    }

    /// Makes a call, and makes it again until the store answers it.
    ///
    /// # Errors
    ///
    /// As [`patiently`].
    pub(crate) async fn call<T, F: Future<Output = Result<T>>>(&mut self, mut call: impl FnMut() -> F) -> Result<T> {
        loop {
            match self.once(call()).await {
                Err(error) if error.is_store_trouble() => Box::pin(self.wait(error)).await?,
                answer => return answer,
            }
        }
    }

    /// Makes a call once. The first try may take as long as the store itself allows, and later ones the time that is left.
    ///
    /// # Errors
    ///
    /// Those of the call; when the time is over, that of the last try.
    pub(crate) async fn once<T>(&mut self, call: impl Future<Output = Result<T>>) -> Result<T> {
        if self.last_failure.is_none() {
            return call.await;
        }
        match select(Box::pin(call), Box::pin(sleep(self.time_left()))).await {
            Either::Left((answer, _)) => answer,
            Either::Right(((), _)) => Err(self.last_failure.take().map_or_else(timed_out, |(error, _)| error)),
        }
    }

    /// Waits before the next try, until the pause is over or the store notifies.
    ///
    /// # Errors
    ///
    /// The error of the last try, when the time is over.
    pub(crate) async fn wait(&mut self, error: Error) -> Result<()> {
        if self.time_left().is_zero() {
            return Err(error);
        }
        tracing::debug!(error = crate::error::chain(&error), pause = ?self.pause, "a call is made again");
        let mut listener = match self.last_failure.take() {
            Some((_, listener)) => listener,
            None => self.store.notifier().work(),
        };
        // A try that failed may have notified too, and so may those of other callers.
        listener.take_notification();
        // Not all callers at the same time.
        let pause = self.pause.mul_f64(0.75 + fastrand::f64() / 2.0).min(self.time_left());
        sleep(pause / 4).await;
        select(Box::pin(listener.notification()), Box::pin(sleep(pause * 3 / 4))).await;
        self.pause = (self.pause * 2).min(LONGEST);
        self.last_failure = Some((error, listener));
        Ok(())
    }

    /// Whether a call was made more than once, so that the store may have carried out an earlier try.
    pub(crate) fn has_tried_again(&self) -> bool {
        self.pause > SHORTEST
    }

    fn time_left(&self) -> Duration {
        self.store.patience().saturating_sub(self.since.elapsed())
    }
}

/// The error of a try that was cut short without an earlier error. There is none such: the first try is never cut short.
fn timed_out() -> Error {
    Error::store("answer in time", "the time for it is over")
}
