//! A store that is away is waited for: a call is made again until it is answered, or its time is over.

use std::time::Duration;

use futures::future::{Either, select};
use tokio::time::Instant;

use crate::{
    error::{Error, Result},
    runtime::alarm::sleep,
    store::{Listener, Store},
};

/// Pauses between two tries double from this one on,
const SHORTEST: Duration = Duration::from_millis(20);
/// up to this one.
const LONGEST: Duration = Duration::from_secs(1);

/// Makes a call of `store`, and makes it again while the store is away, for as long as its [patience](Store::patience)
/// lasts: that is the time of all tries together. Each call of a store can be made again without harm.
///
/// # Errors
///
/// Those of the call that no repetition mends; the last one, when the time is over.
pub(crate) async fn patiently<T, F: Future<Output = Result<T>>>(
    store: &dyn Store,
    call: impl FnMut() -> F,
) -> Result<T> {
    Patience::new(store).call(call).await
}

/// What is left of the time that a caller waits for a store.
pub(crate) struct Patience<'s> {
    store: &'s dyn Store,
    since: Instant,
    pause: Duration,
    /// What came of the last try, and what rings when the store is back; once a try has failed.
    trouble: Option<(Error, Listener)>,
}

impl<'s> Patience<'s> {
    pub(crate) fn new(store: &'s dyn Store) -> Self {
        Self { store, since: Instant::now(), pause: SHORTEST, trouble: None }
    }

    /// Makes a call, again and again until it is answered.
    ///
    /// # Errors
    ///
    /// As [`patiently`].
    pub(crate) async fn call<T, F: Future<Output = Result<T>>>(&mut self, mut call: impl FnMut() -> F) -> Result<T> {
        loop {
            match self.once(call()).await {
                Err(error) if error.is_store_trouble() => self.wait(error).await?,
                answer => return answer,
            }
        }
    }

    /// Makes a call once. The first try has the time that the store itself gives it, and later ones what is left.
    ///
    /// # Errors
    ///
    /// Those of the call; the last one, when the time is over.
    pub(crate) async fn once<T>(&mut self, call: impl Future<Output = Result<T>>) -> Result<T> {
        if self.trouble.is_none() {
            return call.await;
        }
        match select(Box::pin(call), Box::pin(sleep(self.left()))).await {
            Either::Left((answer, _)) => answer,
            Either::Right(((), _)) => Err(self.trouble.take().map_or_else(timed_out, |(error, _)| error)),
        }
    }

    /// Waits before the next try; less long where the store rings.
    ///
    /// # Errors
    ///
    /// The error, when the time is over.
    pub(crate) async fn wait(&mut self, error: Error) -> Result<()> {
        if self.left().is_zero() {
            return Err(error);
        }
        tracing::debug!(error = crate::error::chain(&error), pause = ?self.pause, "a call is made again");
        let mut back = match self.trouble.take() {
            Some((_, back)) => back,
            None => self.store.notifier().work(),
        };
        // A try that failed may have rung too, and so may those of others.
        back.take_notification();
        // Not all callers at the same time.
        let pause = self.pause.mul_f64(0.75 + fastrand::f64() / 2.0).min(self.left());
        sleep(pause / 4).await;
        select(Box::pin(back.notification()), Box::pin(sleep(pause * 3 / 4))).await;
        self.pause = (self.pause * 2).min(LONGEST);
        self.trouble = Some((error, back));
        Ok(())
    }

    /// Whether a call was made more than once, so that an earlier try may have been carried out.
    pub(crate) fn has_tried_again(&self) -> bool {
        self.pause > SHORTEST
    }

    fn left(&self) -> Duration {
        self.store.patience().saturating_sub(self.since.elapsed())
    }
}

/// The time is over, and nothing has gone wrong before: then no try is cut short.
fn timed_out() -> Error {
    Error::store("answer in time", "the time for it is over")
}
