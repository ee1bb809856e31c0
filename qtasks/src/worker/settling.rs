//! The end of an attempt: what it came to is settled, and said.

use std::sync::Arc;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::shared::{Settled, WorkerShared};
use crate::{
    error::chain,
    model::{
        job::{self, Job, Lease},
        lifecycle::{self, Verdict},
        retry::Retry,
    },
    store::{Hold, Settlement},
    telemetry::{End, numbers::Timer},
};

/// The lease of the attempt is lost: the store would fence off whatever the attempt came to.
pub(super) struct LeaseLost;

/// A job whose lease the worker has got, before its body is started.
#[derive(Clone, Copy)]
pub(super) struct Leased<'a> {
    pub(super) shared: &'a Arc<WorkerShared>,
    pub(super) job: &'a Job,
    pub(super) lease: Lease,
    pub(super) began: Timestamp,
    pub(super) timer: Timer,
    /// Cancelled when the attempt is to stop.
    pub(super) stop: &'a CancellationToken,
}

/// An attempt whose steps are durable, and what it came to, which is to be settled.
pub(super) struct Flushed<'a> {
    pub(super) end: AttemptEnd<'a>,
    pub(super) verdict: Verdict,
}

impl Flushed<'_> {
    /// Settles the attempt. Where the store refuses what it came to, the attempt has failed, with the store's own words as the
    /// error: those are short.
    pub(super) async fn settle(self) -> Settled {
        let Self { end, verdict } = self;
        let Leased { shared, job, .. } = end.leased;
        let (settlement, mut said) = end.settlement(verdict, shared.app.now());
        shared.rates.ended(&job.call, &settlement, end.steps);
        let mut settled = shared.settle(settlement).await;
        if let Some(error) = settled.refusal() {
            let error = chain(error);
            tracing::warn!(error, job = %job.call.id, attempt = job.standing.attempt, "what the attempt came to is refused; it has failed");
            (settled, said) = Box::pin(end.settle_refused(error)).await;
        }
        match &settled {
            Settled::Written => said.log(),
            Settled::Failed(error) => {
                let error = chain(error);
                tracing::error!(error, job = %job.call.id, attempt = job.standing.attempt, "the attempt cannot be settled; its lease will run out");
            }
            Settled::LeaseLost | Settled::GivenUp => {}
        }
        settled
    }
}

/// An attempt that is over, and what it has added to the job.
pub(super) struct AttemptEnd<'a> {
    pub(super) leased: Leased<'a>,
    /// How many steps the attempt has added.
    pub(super) steps: u64,
    /// How many values the attempt has skipped.
    pub(super) skipped: u64,
    pub(super) error_type: Option<&'static str>,
    pub(super) retry: Retry,
    /// Whether the body was to be started. An attempt that was none stands in no history.
    pub(super) counts: bool,
}

/// The error of an attempt where the store refuses even its own words about why.
const REFUSED: &str = "the store refuses what the attempt came to, and the text that says why";

impl<'a> AttemptEnd<'a> {
    /// The settlement of the attempt with this verdict, and what is logged when that is written.
    fn settlement(&self, verdict: Verdict, now: Timestamp) -> (Settlement, End<'a>) {
        let Self { leased: Leased { job, lease, began, timer, .. }, steps, skipped, error_type, retry, counts } = self;
        // Only a result is made of all steps. Of none, a server can have lost none.
        let needed = matches!(verdict, Verdict::Done(_)).then_some(job.counts.steps + steps).filter(|steps| *steps > 0);
        let (outcome, ending) = lifecycle::settle(&job.standing, verdict, *steps > 0, retry, fastrand::f64(), now);
        let end = End::new(job, (*steps, *skipped), &outcome, ending.clone(), *timer, *error_type);
        let (number, worker, started) = (lease.attempt, lease.worker, Some(*began));
        let attempt = counts.then_some(job::Attempt { number, worker, started, ended: now, ending, steps: None });
        let hold = Hold::Lease(*lease);
        let settlement = Settlement { hold, outcome, steps: needed, attempt, now };
        (settlement, end)
    }

    /// Settles the attempt as failed, each time with less that the store could refuse, so that this has an end.
    async fn settle_refused(&self, error: String) -> (Settled, End<'a>) {
        let shared = self.leased.shared;
        let failed = |error: &str| {
            self.settlement(Verdict::Failed { error: error.to_owned(), wait: None, again: true }, shared.app.now())
        };
        let (last, last_end) = failed(REFUSED);
        let without_trace = Settlement { attempt: None, ..last };
        for (settlement, end) in [failed(&error), failed(REFUSED)] {
            let settled = shared.settle(settlement).await;
            if settled.refusal().is_none() {
                return (settled, end);
            }
        }
        (shared.settle(without_trace).await, last_end)
    }
}
