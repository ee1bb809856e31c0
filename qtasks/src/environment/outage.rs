//! Logs that the store fails: once when that begins, once a minute while it lasts, and once when it is over.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{
    clock::{AppClock, Uptime},
    error::Error,
    telemetry,
};

/// How often an outage is logged while it lasts.
const EVERY: Duration = Duration::from_secs(60);
/// An outage that begins less than this after the last one is logged only when it has lasted as long: otherwise a store that
/// fails now and then would fill the log.
const CALM: Duration = Duration::from_secs(10);

/// The outage of a store, as all parts of an application see it together.
#[derive(Debug)]
pub(crate) struct Outage {
    clock: Arc<AppClock>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// How many callers the store fails at this moment.
    callers: usize,
    /// When this outage began.
    since: Option<Uptime>,
    /// Whether the store has answered one of the callers since the outage began.
    answered: bool,
    /// When this outage was last logged.
    reported: Option<Uptime>,
    /// When the last outage ended that was logged.
    ended: Option<Uptime>,
}

impl Outage {
    pub(crate) fn new(clock: Arc<AppClock>) -> Arc<Self> {
        Arc::new(Self { clock, state: Mutex::default() })
    }

    /// Records that a call of the store failed, and logs the outage where that is due. `failing` counts the caller until it is
    /// dropped; after a call that succeeds, [`FailingCaller::answered`] drops it.
    pub(crate) fn failed(self: &Arc<Self>, failing: &mut Option<FailingCaller>, doing: &str, error: &Error) {
        telemetry::try_fails(doing, error);
        let now = self.clock.uptime();
        let mut state = self.state();
        if failing.is_none() {
            state.callers += 1;
            *failing = Some(FailingCaller(self.clone()));
        }
        let since = *state.since.get_or_insert(now);
        let away = now.since(since);
        let is_calm = state.ended.is_none_or(|ended| now.since(ended) >= CALM);
        let reported = state.reported;
        let is_due = reported.map_or(is_calm || away >= CALM, |reported| now.since(reported) >= EVERY);
        if !is_due {
            return;
        }
        state.reported = Some(now);
        // Not under the lock: a subscriber of `tracing` may call the store.
        drop(state);
        match reported {
            None => telemetry::store_fails(doing, error),
            Some(_) => telemetry::store_fails_still(away, doing, error),
        }
    }

    /// Whether the store fails at this moment, as far as any caller has seen.
    pub(crate) fn is_under_way(&self) -> bool {
        self.state().callers > 0
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A caller whose calls the store fails, counted in the outage until this is dropped.
#[derive(Debug)]
pub(crate) struct FailingCaller(Arc<Outage>);

impl FailingCaller {
    /// Records that the store has carried out the call, and counts the caller no more.
    pub(crate) fn answered(self) {
        self.0.state().answered = true;
    }
}

impl Drop for FailingCaller {
    fn drop(&mut self) {
        let now = self.0.clock.uptime();
        let mut state = self.0.state();
        state.callers -= 1;
        if state.callers > 0 {
            return;
        }
        let State { since, answered, reported, .. } = std::mem::take(&mut *state);
        state.ended = reported.map(|_| now);
        drop(state);
        if let (Some(since), true, true) = (since, answered, reported.is_some()) {
            telemetry::store_is_back(now.since(since));
        }
    }
}
