//! Where all that take part in a simulated run write down what happens, in one order.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use qtasks::{
    Error, Result,
    job::JobId,
    store::{Hold, Notifier, Settlement, Store, Written},
};
use serde_json::Value;
use tokio::sync::OwnedMutexGuard;

use crate::promises::{End, Event, Fate, Item};

/// What happened so far. Clones share it.
#[derive(Clone, Default)]
pub struct Ledger {
    events: Arc<Mutex<Vec<Event>>>,
    order: Arc<tokio::sync::Mutex<()>>,
    notifiers: Arc<Mutex<Vec<Weak<Notifier>>>>,
}

impl Ledger {
    /// Writes down an event.
    pub fn note(&self, event: Event) {
        self.all().push(event);
    }

    /// Lets one call of a store be carried out and written down before the next, for as long as this is held: threads
    /// could write down in another order than that in which the store was changed.
    pub async fn in_order(&self) -> OwnedMutexGuard<()> {
        self.order.clone().lock_owned().await
    }

    /// All events.
    pub fn events(&self) -> Vec<Event> {
        self.all().clone()
    }

    /// Writes down that a stream was opened; gives its number.
    pub fn opened(&self, job: JobId, from: u64) -> u64 {
        let mut events = self.all();
        let stream = events.len() as u64;
        events.push(Event::Opened { stream, job, from });
        stream
    }

    /// Writes down what a stream gave.
    pub fn heard(&self, stream: u64, item: Option<Result<Value>>) {
        self.note(match item {
            Some(Ok(value)) => Event::Item { stream, item: Item::Value(value) },
            Some(Err(Error::Skipped { error, .. })) => Event::Item { stream, item: Item::Skipped(error) },
            Some(Err(Error::Dead { .. })) => Event::Closed { stream, end: End::Job("dead".into()) },
            Some(Err(Error::Cancelled { .. })) => Event::Closed { stream, end: End::Job("cancelled".into()) },
            Some(Err(_)) => Event::Closed { stream, end: End::Trouble },
            None => Event::Closed { stream, end: End::Job("done".into()) },
        });
    }

    /// A notifier of one who takes part, which rings whenever something is carried out that the ledger is told of. Several who
    /// listen to one notifier are woken in an order of chance; the notifiers of a ledger ring one after the other.
    pub fn notifier(&self) -> Arc<Notifier> {
        let notifier = Arc::new(Notifier::new());
        self.notifiers.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&notifier));
        notifier
    }

    /// Whether this attempt at a job has been settled.
    pub(crate) fn has_settled(&self, job: JobId, attempt: u32) -> bool {
        let is_its_end = |event: &Event| matches!(event, Event::Settled { job: of, attempt: at, .. } if (*of, *at) == (job, Some(attempt)));
        self.all().iter().any(is_its_end)
    }

    pub(crate) fn ring(&self, jobs: impl IntoIterator<Item = JobId>, work: bool) {
        let jobs: Vec<_> = jobs.into_iter().collect();
        self.notifiers.lock().unwrap_or_else(PoisonError::into_inner).retain(|notifier| {
            let Some(notifier) = notifier.upgrade() else { return false };
            notifier.notify_jobs(jobs.iter().copied());
            if work {
                notifier.notify_work();
            }
            true
        });
    }

    fn all(&self) -> MutexGuard<'_, Vec<Event>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.all().iter()).finish()
    }
}

/// Reads what became of a job.
///
/// # Errors
///
/// Those of the store.
pub async fn fate(store: &dyn Store, job: JobId, result: Option<Value>) -> Result<Option<Fate>> {
    let Some(found) = store.job(job).await? else { return Ok(None) };
    let steps = store.steps(job, 0, usize::MAX >> 1).await?;
    Ok(Some(Fate::of(&found, steps, &store.attempts(job).await?, result)))
}

/// The events that a carried out settlement comes to.
pub(crate) fn settled(settlements: &[Settlement], written: &[Written]) -> Vec<Event> {
    let carried_out = settlements.iter().zip(written).filter(|(_, written)| **written == Written::Yes);
    carried_out
        .map(|(settlement, _)| {
            let attempt = match settlement.hold {
                Hold::Lease(lease) => Some(lease.attempt),
                _ => None,
            };
            let state = settlement.outcome.next.kind().to_string();
            Event::Settled { job: settlement.job(), attempt, state }
        })
        .collect()
}
