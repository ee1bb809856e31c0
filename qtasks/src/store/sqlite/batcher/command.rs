//! What the writer is asked to do.

use std::time::Instant;

use tokio::sync::oneshot;

use super::tables::Tables;
use crate::{
    error::Result,
    store::{Ask, Leased, sqlite::error::Fault},
};

/// A change of the tables, and what it answers.
///
/// It may be applied more than once, when the transaction around it is rolled back.
pub(crate) trait Write: Send + 'static {
    type Outcome: Send + 'static;

    /// What the write does, for errors: "the store could not ..".
    const DOING: &'static str;

    /// About how many rows the write changes.
    fn weight(&self) -> usize {
        1
    }

    /// When the write is applied, among others in a transaction.
    fn phase(&self) -> Phase {
        Phase::Change
    }

    /// Whether the write adds jobs, so that it can wait where room is short: no job that is there already needs it.
    fn is_new(&self) -> bool {
        false
    }

    /// If this is a lease: what the worker asked for, and what it gets.
    fn lease<'w>(&'w self, _outcome: &'w Self::Outcome) -> Option<(&'w Ask, &'w Leased)> {
        None
    }

    fn apply(&self, tables: &mut Tables<'_>) -> Result<Self::Outcome, Fault>;

    /// Called when what was applied is rolled back, before it is applied again.
    fn undone(&self, _fault: &Fault) {}
}

/// The order in which a transaction applies what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// In the order of arrival.
    Change,
    /// After all changes, so that the jobs which they enqueue can be leased.
    Lease,
    /// Last, when all that can fail has succeeded: handlers cannot run again when the transaction is rolled back.
    Handlers,
}

/// A [`Write`] of any kind, with the channel to the caller that waits for its outcome.
pub(crate) trait Command: Send {
    fn weight(&self) -> usize;
    /// When the command was given to the writer.
    fn since(&self) -> Instant;
    fn phase(&self) -> Phase;
    fn is_new(&self) -> bool;
    fn lease(&self) -> Option<(&Ask, &Leased)>;
    fn apply(&mut self, tables: &mut Tables<'_>) -> Result<(), Fault>;
    fn undone(&self, fault: &Fault);
    /// Answers with the outcome of the last [`apply`](Self::apply), or with what kept it from being committed.
    fn answer(self: Box<Self>, fault: Option<Fault>);
}

/// A change, when the caller gave it, the outcome of the last try, and the channel on which the caller waits for it.
pub(crate) struct Given<W: Write> {
    pub(crate) write: W,
    pub(crate) since: Instant,
    pub(crate) outcome: Option<W::Outcome>,
    pub(crate) answer: oneshot::Sender<Result<W::Outcome, Fault>>,
}

impl<W: Write> Command for Given<W> {
    fn weight(&self) -> usize {
        self.write.weight()
    }

    fn since(&self) -> Instant {
        self.since
    }

    fn phase(&self) -> Phase {
        self.write.phase()
    }

    fn is_new(&self) -> bool {
        self.write.is_new()
    }

    fn lease(&self) -> Option<(&Ask, &Leased)> {
        self.write.lease(self.outcome.as_ref()?)
    }

    fn apply(&mut self, tables: &mut Tables<'_>) -> Result<(), Fault> {
        self.outcome = Some(self.write.apply(tables)?);
        Ok(())
    }

    fn undone(&self, fault: &Fault) {
        self.write.undone(fault);
    }

    fn answer(self: Box<Self>, fault: Option<Fault>) {
        let outcome = match fault {
            Some(fault) => Err(fault),
            None => self.outcome.ok_or(Fault::Gone),
        };
        // The caller may have stopped waiting.
        _ = self.answer.send(outcome);
    }
}
