//! Commands on their way to the writer.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError},
    thread::{self, ThreadId},
    time::Instant,
};

use tokio::sync::oneshot;

use super::command::{Command, Given, Phase, Write};
use crate::store::sqlite::{error::Fault, files::Files, holding::Holding};
use crate::{
    error::{Error, Result},
    model::job::{Job, WorkerId},
    store::{Ask, FreeSlots, waiters::Waiter},
};

/// Where commands wait for the writer; first in, first out.
pub(crate) struct Queue {
    files: Arc<Files>,
    pending: Mutex<Pending>,
    changed: Condvar,
    /// The thread that carries the commands out.
    writer: OnceLock<ThreadId>,
    pub(crate) holding: Holding,
}

#[derive(Default)]
struct Pending {
    commands: VecDeque<Box<dyn Command>>,
    /// Workers that wait for new jobs.
    waiters: Vec<Waiter>,
    /// Workers whose waiters are to be removed, each with the channel that says when that is done.
    leaving: Vec<(WorkerId, oneshot::Sender<()>)>,
    /// Whether the writer sleeps, and has to be woken.
    asleep: bool,
    /// Whether the file was written to, by this process or another.
    touched: bool,
    closed: bool,
}

impl Pending {
    /// Whether there is nothing for the writer to do.
    fn is_empty(&self) -> bool {
        self.commands.is_empty() && self.leaving.is_empty() && !self.touched
    }
}

/// What the writer takes from the queue in one go.
pub(crate) struct Taken {
    pub(crate) batch: Vec<Box<dyn Command>>,
    pub(crate) touched: bool,
    /// Workers whose waiters are to be removed.
    pub(crate) leaving: Vec<(WorkerId, oneshot::Sender<()>)>,
    /// Whether the queue is closed and this is its last batch.
    pub(crate) ended: bool,
}

/// Rows that one transaction writes at most, about, so that no caller waits long behind it.
const WEIGHT: usize = 4096;

impl Queue {
    pub(crate) fn new(files: Arc<Files>) -> Self {
        Self {
            files,
            pending: Mutex::default(),
            changed: Condvar::new(),
            writer: OnceLock::new(),
            holding: Holding::default(),
        }
    }

    /// Gives the writer a change to make, and waits until it is durable.
    ///
    /// # Cancel safety
    ///
    /// The change is made, whether or not the caller still waits for it.
    pub(crate) async fn ask<W: Write>(&self, write: W) -> Result<W::Outcome> {
        if self.writer.get() == Some(&thread::current().id()) {
            return Err(Error::Misuse(
                "a handler in a transaction waits for the store, which waits for the handler; write through the \
                 transaction, and enqueue with `app.enqueue_in(tx, ..)`",
            ));
        }
        let _hold = self.holding.hold();
        let (answer, outcome) = oneshot::channel();
        self.give(Box::new(Given { write, since: Instant::now(), outcome: None, answer }));
        outcome.await.unwrap_or(Err(Fault::Gone)).map_err(|fault| fault.of_write(W::DOING, &self.files.url.path))
    }

    /// Waits for new jobs.
    pub(crate) async fn stand(&self, ask: Ask, free: FreeSlots) -> Result<Vec<Job>> {
        let (waiter, jobs) = Waiter::new(ask, free);
        let failed = |fault| self.files.explain(fault, Ask::DOING);
        {
            let mut pending = self.pending();
            if pending.closed {
                return Err(failed(Fault::Gone));
            }
            pending.waiters.push(waiter);
        }
        // Only now: the writer answers all waiters that are there when it learns that the files have changed.
        self.files.known().map_err(failed)?;
        jobs.await.map_err(|_| failed(Fault::Gone))
    }

    /// Waits until the waiter of this worker is answered.
    pub(crate) async fn stop_lease_on_enqueue(&self, worker: WorkerId) {
        let _hold = self.holding.hold();
        let (done, answered) = oneshot::channel();
        {
            let mut pending = self.pending();
            if pending.closed {
                return;
            }
            pending.leaving.push((worker, done));
        }
        self.changed.notify_one();
        // Where the writer has ended, so have all waiters.
        _ = answered.await;
    }

    /// Takes the workers that have begun to wait for new jobs.
    pub(crate) fn waiters(&self) -> Vec<Waiter> {
        std::mem::take(&mut self.pending().waiters)
    }

    fn give(&self, command: Box<dyn Command>) {
        let mut pending = self.pending();
        if pending.closed {
            return;
        }
        pending.commands.push_back(command);
        let wake = std::mem::take(&mut pending.asleep);
        drop(pending);
        if wake {
            self.changed.notify_one();
        }
    }

    /// Says that it is this thread that carries the commands out.
    pub(crate) fn serve(&self) {
        _ = self.writer.set(thread::current().id());
    }

    /// Says that the file was written to.
    pub(crate) fn touch(&self) {
        self.pending().touched = true;
        self.changed.notify_one();
    }

    /// Lets the writer end once it has made all changes that wait.
    pub(crate) fn close(&self) {
        self.pending().closed = true;
        self.changed.notify_one();
    }

    /// Waits for commands until `until`, and takes those that one transaction may hold.
    pub(crate) fn take(&self, until: Instant) -> Taken {
        let mut pending = self.pending();
        while pending.is_empty() && !pending.closed {
            let remaining = until.saturating_duration_since(Instant::now());
            if remaining.is_zero() {
                break;
            }
            pending.asleep = true;
            pending = self.changed.wait_timeout(pending, remaining).unwrap_or_else(PoisonError::into_inner).0;
        }
        pending.asleep = false;
        let count = fitting(pending.commands.iter().map(|command| command.weight())).min(pending.commands.len());
        Taken {
            batch: pending.commands.drain(..count).collect(),
            touched: std::mem::take(&mut pending.touched),
            leaving: std::mem::take(&mut pending.leaving),
            ended: pending.closed && pending.commands.is_empty(),
        }
    }

    /// Takes what has come meanwhile and may join a transaction that has begun: commands of about `room` rows, without
    /// handlers, which come last.
    pub(crate) fn join(&self, room: usize) -> Vec<Box<dyn Command>> {
        let mut pending = self.pending();
        let mut remaining = room;
        let count = pending.commands.iter().take_while(|command| {
            let fits = command.weight() <= remaining && command.phase() != Phase::Handlers;
            remaining = remaining.saturating_sub(command.weight());
            fits
        });
        let count = count.count();
        pending.commands.drain(..count).collect()
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many of the commands of these weights one transaction may hold; always one.
fn fitting(weights: impl Iterator<Item = usize>) -> usize {
    let mut sum = 0_usize;
    let fits = |weight: &usize| {
        sum = sum.saturating_add(*weight);
        sum <= WEIGHT
    };
    weights.take_while(fits).count().max(1)
}

/// Closes the queue when the writer ends, for whatever reason, and drops the commands that will not be carried out.
pub(crate) struct Closing<'a>(pub(crate) &'a Queue);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        let mut pending = self.0.pending();
        pending.closed = true;
        pending.commands.clear();
        pending.waiters.clear();
        pending.leaving.clear();
    }
}
