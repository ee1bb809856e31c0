//! Says when the store does not do what it is asked to: once at the beginning, once a minute, and once when that is over.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{
    clock::{AppClock, Uptime},
    error::Error,
    telemetry,
};

const EVERY: Duration = Duration::from_secs(60);
/// An outage that begins so soon after another is said only when it lasts as long: a store that fails now and then would
/// fill the log.
const CALM: Duration = Duration::from_secs(10);

/// What is known of the store by all who ask it in vain.
#[derive(Debug)]
pub(crate) struct Outage {
    clock: Arc<AppClock>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// How many ask in vain,
    asking: usize,
    /// since when one does,
    since: Option<Uptime>,
    /// and whether one has not any more since then.
    answered: bool,
    /// When it was last said that the store is away, in this outage.
    said: Option<Uptime>,
    /// When the last outage ended that was said.
    ended: Option<Uptime>,
}

impl Outage {
    pub(crate) fn new(clock: Arc<AppClock>) -> Arc<Self> {
        Arc::new(Self { clock, state: Mutex::default() })
    }

    /// Takes note that something failed of which the store was asked; in `trouble` until it is [over](Self::over).
    pub(crate) fn failed(self: &Arc<Self>, trouble: &mut Option<Trouble>, doing: &str, error: &Error) {
        telemetry::try_fails(doing, error);
        let now = self.clock.uptime();
        let mut state = self.state();
        if trouble.is_none() {
            state.asking += 1;
            *trouble = Some(Trouble(self.clone()));
        }
        let since = *state.since.get_or_insert(now);
        let away = now.since(since);
        let is_calm = state.ended.is_none_or(|ended| now.since(ended) >= CALM);
        let said = state.said;
        let is_to_say = said.map_or(is_calm || away >= CALM, |said| now.since(said) >= EVERY);
        if !is_to_say {
            return;
        }
        state.said = Some(now);
        // Not under the lock: what listens may ask the store.
        drop(state);
        match said {
            None => telemetry::store_fails(doing, error),
            Some(_) => telemetry::store_fails_still(away, doing, error),
        }
    }

    /// Whether it is known that the store fails.
    pub(crate) fn is_under_way(&self) -> bool {
        self.state().asking > 0
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One who asks in vain.
#[derive(Debug)]
pub(crate) struct Trouble(Arc<Outage>);

impl Trouble {
    /// The store has done what it was asked to.
    pub(crate) fn over(self) {
        self.0.state().answered = true;
    }
}

impl Drop for Trouble {
    fn drop(&mut self) {
        let now = self.0.clock.uptime();
        let mut state = self.0.state();
        state.asking -= 1;
        if state.asking > 0 {
            return;
        }
        let State { since, answered, said, .. } = std::mem::take(&mut *state);
        state.ended = said.map(|_| now);
        drop(state);
        if let (Some(since), true, true) = (since, answered, said.is_some()) {
            telemetry::store_is_back(now.since(since));
        }
    }
}
