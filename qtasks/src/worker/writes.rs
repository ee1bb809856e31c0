//! The writes of a recorder: each one call of the store, made again while the store is away, and made in parts where the
//! store refuses the whole.

use std::{
    panic::{AssertUnwindSafe, resume_unwind},
    sync::Arc,
};

use futures::{FutureExt as _, future::join_all};
use tokio::{sync::oneshot, task::JoinError};
use tracing::Instrument as _;

use super::retrying::RetryingStore;
use crate::{
    error::{Error, Result, chain},
    execution::{
        journal::{EntryCount, Journal},
        stopped::Stopped,
    },
    model::{job::Lease, pending::PendingStep},
    runtime::guard::drop_guarded,
    store::{Record, Settlement, Transacted, Written},
    telemetry::{
        numbers::{Called, Event, Operation, Timer, note},
        spans,
    },
};

/// How an attempt ended, and where the recorder sends whether that is written.
pub(super) type Settling = (Settlement, oneshot::Sender<Result<Written>>);

/// What a write came to, and the journal to report that to.
pub(super) enum WriteOutcome {
    Wrote(Arc<Journal>, EntryCount),
    /// So many steps and memos are written, and the store refuses the next.
    Refused(Arc<Journal>, EntryCount, Error),
    Fenced(Arc<Journal>),
    /// The journal knows the outcome already.
    Reported(Arc<Journal>),
}

impl WriteOutcome {
    /// Reports the outcome to the journal; gives the lease of that.
    pub(super) fn report(self) -> Lease {
        match self {
            Self::Wrote(journal, count) => {
                journal.wrote(count);
                journal.lease()
            }
            Self::Refused(journal, count, error) => {
                journal.wrote(count);
                journal.fail(Stopped::Error(Box::new(error)));
                journal.lease()
            }
            Self::Fenced(journal) => {
                journal.fence();
                journal.lease()
            }
            Self::Reported(journal) => journal.lease(),
        }
    }
}

/// Records what several attempts have handled, in one call.
pub(super) async fn record(store: Arc<RetryingStore>, records: Vec<(Arc<Journal>, Record)>) -> Vec<WriteOutcome> {
    let (journals, records): (Vec<_>, Vec<_>) = records.into_iter().unzip();
    let records: Arc<[Record]> = records.into();
    let timer = Timer::start();
    let written = store.persist("record steps", || store.store.record(Arc::clone(&records))).await;
    note_call(Operation::Record, timer, records.len(), None);
    match written {
        Ok(written) => {
            let answer = |((journal, record), written): ((_, &Record), _)| match written {
                Written::Yes => WriteOutcome::Wrote(journal, count(record)),
                Written::Fenced => WriteOutcome::Fenced(journal),
            };
            journals.into_iter().zip(&*records).zip(written).map(answer).collect()
        }
        // The store refuses all of it. Which record is to blame shows when each is written by itself.
        Err(_) => {
            let each = journals.into_iter().zip(&*records);
            join_all(each.map(|(journal, record)| record_in_parts(&store, journal, record.clone()))).await
        }
    }
}

/// Records as much of what one attempt has handled as the store does not refuse.
async fn record_in_parts(store: &RetryingStore, journal: Arc<Journal>, record: Record) -> WriteOutcome {
    let (mut rest, mut written) = (vec![record], EntryCount::default());
    while let Some(record) = rest.pop() {
        let alone = Arc::new([record]);
        match store.persist("record steps", || store.store.record(alone.clone())).await {
            Ok(outcomes) if outcomes == [Written::Yes] => written += count(&alone[0]),
            Ok(_) => return WriteOutcome::Fenced(journal),
            Err(error) if error.is_refusal() => match halves(&alone[0]) {
                Some([first, second]) => rest.extend([second, first]),
                None => return WriteOutcome::Refused(journal, written, error),
            },
            Err(error) => {
                tracing::error!(error = chain(&error), lease = ?journal.lease(), "steps cannot be recorded; their attempt is given up");
                return WriteOutcome::Fenced(journal);
            }
        }
    }
    WriteOutcome::Wrote(journal, written)
}

/// The first and the second half of the steps of a record; nothing where there is one step, or where there are memos. Steps and
/// memos have one order, which a record does not hold, and jobs belong to their memos.
fn halves(record: &Record) -> Option<[Record; 2]> {
    if record.steps.len() < 2 || !record.memos.is_empty() {
        return None;
    }
    let mut first = record.clone();
    let steps = first.steps.split_off(first.steps.len() / 2);
    let second = Record { steps, ..first.clone() };
    Some([first, second])
}

fn count(record: &Record) -> EntryCount {
    EntryCount { steps: record.steps.len() as u64, memos: record.memos.len() as u64 }
}

/// The outcome of a run of handlers. Panics of the handlers are caught where they run, so any other is a panic of ours.
pub(super) fn outcomes_of(ended: std::result::Result<Vec<WriteOutcome>, JoinError>) -> Vec<WriteOutcome> {
    ended.unwrap_or_else(|panicked| resume_unwind(panicked.into_panic()))
}

/// Records what comes before these values on a journal, and then has the store run their handlers.
pub(super) async fn handle(
    store: Arc<RetryingStore>,
    journal: Arc<Journal>,
    record: Record,
    pending: Vec<Arc<PendingStep>>,
) -> Vec<WriteOutcome> {
    if !record.steps.is_empty() || !record.memos.is_empty() || record.progress.is_some() {
        for answer in self::record(store.clone(), vec![(journal.clone(), record)]).await {
            answer.report();
        }
    }
    if journal.has_failed() {
        // The drop of a value is code of the task's own.
        drop_guarded(pending);
    // Handlers have guards of their own. Any other panic ends this attempt, and not the recorder.
    } else if let Err(payload) = AssertUnwindSafe(transact(&store, &journal, pending)).catch_unwind().await {
        journal.fail(Stopped::panic(payload));
    }
    vec![WriteOutcome::Reported(journal)]
}

/// Has the store run the handlers of these values, as many as it takes at a time.
async fn transact(store: &RetryingStore, journal: &Arc<Journal>, mut pending: Vec<Arc<PendingStep>>) {
    let lease = Some(journal.lease());
    match store.persist("run handlers", || store.store.transact(lease, pending.clone())).await {
        Ok(Transacted::Upto(seq)) => {
            pending.retain(|step| step.seq >= seq);
            journal.handled(seq, pending);
        }
        Ok(Transacted::Failed(seq)) => {
            journal.handled(seq, Vec::new());
            journal.fail(Stopped::Released);
        }
        Ok(Transacted::Spent(seq)) => {
            tracing::warn!(lease = ?journal.lease(), seq, "what handlers wrote was not committed; the job starts again");
            journal.handled(seq, Vec::new());
            journal.release();
        }
        Ok(Transacted::Fenced) => journal.fence(),
        Err(error) => journal.fail(Stopped::Error(Box::new(error))),
    }
}

/// Settles several attempts, and answers each.
pub(super) async fn settle(store: Arc<RetryingStore>, settlements: Vec<Settling>) -> Vec<WriteOutcome> {
    let (settlements, outcomes): (Vec<_>, Vec<_>) = settlements.into_iter().unzip();
    let (span, timer, count) = (spans::settle(settlements.len()), Timer::start(), settlements.len());
    let written = settle_all(&store, settlements).instrument(span.clone()).await;
    let error_type =
        written.iter().find_map(|written| written.as_ref().err()).map(|error| spans::call_failed(&span, error));
    note_call(Operation::Settle, timer, count, error_type);
    for (answer, written) in outcomes.into_iter().zip(written) {
        // The attempt may no longer wait; the job is settled all the same.
        let _ = answer.send(written);
    }
    Vec::new()
}

fn note_call(operation: Operation, timer: Timer, jobs: usize, error_type: Option<&'static str>) {
    note(&Event::Called(operation, Called { took: timer.elapsed(), jobs, queue: None, error_type }));
}

/// Settles several attempts in one call; where the store refuses that, one by one.
async fn settle_all(store: &RetryingStore, settlements: Vec<Settlement>) -> Vec<Result<Written>> {
    let settlements: Arc<[Settlement]> = settlements.into();
    match store.persist("settle attempts", || store.store.settle(Arc::clone(&settlements))).await {
        Ok(written) => written.into_iter().map(Ok).collect(),
        Err(error) if settlements.len() < 2 => vec![Err(error)],
        Err(_) => {
            let alone = |settlement: &Settlement| {
                let alone = Arc::new([settlement.clone()]);
                async move {
                    let written = store.persist("settle an attempt", || store.store.settle(alone.clone())).await;
                    written.map(|written| written.first().copied().unwrap_or(Written::Fenced))
                }
            };
            join_all(settlements.iter().map(alone)).await
        }
    }
}
