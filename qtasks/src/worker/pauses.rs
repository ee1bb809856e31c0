//! What is paused, as a worker knows it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use tokio::{
    sync::{Notify, watch},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use crate::{
    clock::Uptime,
    environment::{App, notes::kind, outage::FailingCaller},
    model::{job::JobCall, pause::Pause},
};

/// How often a worker reads what is paused, whether or not it is notified.
const EVERY: Duration = Duration::from_millis(400);
/// For so long a worker goes by what it has read. No job is started later than this after it was paused.
const KNOWN: Duration = Duration::from_secs(1);

/// What is paused, as the worker has read it last.
pub(crate) struct Pauses {
    seen: watch::Sender<Seen>,
    /// Notifies the dispatcher of other pauses.
    changed: Arc<Notify>,
    /// What stops the attempts of each queue and task: a stop of the worker, or a pause that says so.
    stops: Mutex<HashMap<String, HashMap<String, CancellationToken>>>,
    stopping: CancellationToken,
}

/// What was read, and when the store was asked for it.
#[derive(Clone)]
pub(crate) struct Seen {
    asked: Option<Uptime>,
    pauses: Arc<[Pause]>,
}

impl Seen {
    /// The pauses that hold.
    pub(crate) fn holding(&self, now: Timestamp) -> Vec<Pause> {
        self.pauses.iter().filter(|pause| pause.holds(now)).cloned().collect()
    }
}

impl Pauses {
    /// Of a worker for which nothing has been read yet. `stopping` is cancelled when the worker stops.
    pub(crate) fn new(stopping: CancellationToken) -> Self {
        let seen = watch::Sender::new(Seen { asked: None, pauses: Arc::new([]) });
        Self { seen, changed: Arc::default(), stops: Mutex::default(), stopping }
    }

    /// Reads what is paused, again and again, until the worker has ended.
    pub(crate) async fn keep_reading(&self, app: &App) {
        let mut notes = app.store.notifier().notes();
        let mut failing = None;
        loop {
            let asked = app.clock.uptime();
            match app.store.notes(kind::PAUSE).await {
                Ok(notes) => {
                    if let Some(failing) = failing.take() {
                        FailingCaller::answered(failing);
                    }
                    let pauses = notes.iter().filter_map(|note| Pause::read(&note.name, &note.value, note.until));
                    self.learn(asked, pauses.collect(), app.clock.now());
                }
                Err(error) => app.outage.failed(&mut failing, "read what is paused", &error),
            }
            tokio::select! {
                () = notes.notification() => {}
                () = sleep(EVERY) => {}
            }
        }
    }

    fn learn(&self, asked: Uptime, pauses: Arc<[Pause]>, now: Timestamp) {
        self.stop_attempts(&pauses, now);
        let before = self.seen.send_replace(Seen { asked: Some(asked), pauses: pauses.clone() });
        if before.pauses != pauses {
            self.changed.notify_one();
        }
    }

    fn stop_attempts(&self, pauses: &[Pause], now: Timestamp) {
        for pause in pauses.iter().filter(|pause| pause.stops) {
            for (queue, tasks) in self.stops().iter_mut() {
                // An attempt that begins after the pause gets a new token.
                tasks.extract_if(|task, _| pause.keeps(queue, task, now)).for_each(|(_, stop)| stop.cancel());
            }
        }
    }

    /// What is cancelled when an attempt at this job is to stop.
    pub(crate) fn stop_of(&self, call: &JobCall) -> CancellationToken {
        let mut stops = self.stops();
        if let Some(stop) = stops.get(&call.queue).and_then(|tasks| tasks.get(&call.task)) {
            return stop.clone();
        }
        let tasks = stops.entry(call.queue.clone()).or_default();
        tasks.entry(call.task.clone()).or_insert_with(|| self.stopping.child_token()).clone()
    }

    fn stops(&self) -> MutexGuard<'_, HashMap<String, HashMap<String, CancellationToken>>> {
        self.stops.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Is changed each time that the worker has read what is paused.
    pub(crate) fn changes(&self) -> watch::Receiver<Seen> {
        self.seen.subscribe()
    }

    /// Whether the job may be started, if what was read last still counts.
    pub(crate) fn allows(&self, call: &JobCall, app: &App) -> Option<bool> {
        let seen = self.seen.borrow();
        if seen.pauses.is_empty() {
            return counts(&seen, app.clock.soon()).then_some(true);
        }
        let (seen, now) = (seen.clone(), app.clock.now());
        let paused = seen.pauses.iter().any(|pause| pause.keeps(&call.queue, &call.task, now));
        counts(&seen, app.clock.soon()).then_some(!paused)
    }

    /// The pauses that hold, for the worker's dispatcher.
    pub(crate) fn watch(&self) -> PauseWatch {
        let mut seen = self.seen.subscribe();
        seen.mark_changed();
        PauseWatch { seen, changed: self.changed.clone(), holding: Vec::new() }
    }
}

/// Whether what was read is not older than it may be.
fn counts(seen: &Seen, now: Uptime) -> bool {
    seen.asked.is_some_and(|asked| now.since(asked) < KNOWN)
}

/// The pauses that hold, for a dispatcher.
pub(crate) struct PauseWatch {
    seen: watch::Receiver<Seen>,
    changed: Arc<Notify>,
    holding: Vec<Pause>,
}

impl PauseWatch {
    /// Whether other pauses hold than before, by a change or by the end of one.
    pub(crate) fn have_changed(&mut self, now: Timestamp) -> bool {
        if !self.seen.has_changed().unwrap_or(false) && self.holding.iter().all(|pause| pause.holds(now)) {
            return false;
        }
        let holding = self.seen.borrow_and_update().holding(now);
        std::mem::replace(&mut self.holding, holding) != self.holding
    }

    /// Whether jobs of this queue and task are paused.
    pub(crate) fn keep(&self, queue: &str, task: &str) -> bool {
        self.holding.iter().any(|pause| pause.scope().covers(queue, task))
    }

    /// Of these queues, those that are not paused as a whole.
    pub(crate) fn open_queues(&self, queues: &[String]) -> Arc<[String]> {
        // No task has such a name.
        queues.iter().filter(|queue| !self.keep(queue, "")).cloned().collect()
    }

    /// Of these tasks, those that are not paused as a whole.
    pub(crate) fn open_tasks(&self, tasks: &[&'static str]) -> Arc<[&'static str]> {
        tasks.iter().filter(|task| !self.keep("", task)).copied().collect()
    }

    /// Waits until other pauses may hold: some were made or resumed, or one ends by itself.
    pub(crate) async fn may_change(&self, app: &App) {
        let ends = async {
            match self.holding.iter().filter_map(|pause| pause.until).min() {
                Some(end) => app.clock.sleep_until(end).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.changed.notified() => {}
            () = ends => {}
        }
    }
}
