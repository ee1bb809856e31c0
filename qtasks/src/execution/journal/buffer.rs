//! The steps and memos of an attempt that the store does not hold yet, as a machine that only decides: it has no lock, no
//! runtime and no clock, and returns after each change what is to be done.

use std::{mem, ops::AddAssign, sync::Arc, time::Duration};

use crate::{
    execution::stopped::Stopped,
    model::{
        job::{Memo, NewJob, Progress, Reply, Step},
        json::Json,
        pending::{BoxedHandler, PendingStep},
    },
};

/// How long progress waits for steps to be written with: progress alone is worth ten writes a second.
const PROGRESS_WAIT: Duration = Duration::from_millis(100);

/// The steps and memos of one attempt on their way to the store, in one order.
pub(crate) struct Buffer {
    ahead: Ahead,
    /// How long a step or memo may wait before it is written.
    wait: Duration,
    batch: Batch,
    next: EntryCount,
    durable: EntryCount,
    /// Bytes of all steps and memos that are not durable, those in flight among them.
    bytes: usize,
    in_flight: InFlight,
    /// Within what time the recorder was last asked to write the batch.
    announced: Option<Duration>,
    /// Whether handlers of this attempt run in transactions of the store.
    in_transactions: bool,
    fenced: bool,
    failed: bool,
    halted: bool,
}

/// How far a body may run ahead of its last durable step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ahead {
    /// The limit of steps and memos.
    pub(crate) values: u64,
    /// The limit of bytes of replies, of memos, and of values that are not handled yet.
    pub(crate) bytes: usize,
}

impl Ahead {
    /// The limits of a task's body.
    pub(crate) const OF_A_BODY: Self = Self { values: 4096, bytes: 1 << 20 };
}

/// Bytes that the recorder has taken and that are not durable.
#[derive(Default)]
struct InFlight {
    /// The bytes of steps and memos.
    entries: usize,
    /// The bytes of values whose handlers run in the store.
    pending: usize,
}

/// How many steps and memos there are; these are also the numbers of the next ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct EntryCount {
    pub(crate) steps: u64,
    pub(crate) memos: u64,
}

impl AddAssign for EntryCount {
    fn add_assign(&mut self, more: Self) {
        self.steps += more.steps;
        self.memos += more.memos;
    }
}

impl EntryCount {
    fn reaches(self, other: Self) -> bool {
        self.steps >= other.steps && self.memos >= other.memos
    }

    /// How many steps and memos there are from `other` on.
    fn since(self, other: Self) -> u64 {
        self.steps - other.steps + self.memos - other.memos
    }
}

/// What the recorder takes out of a buffer and writes in one call.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) steps: Vec<Step>,
    /// Values that become steps in the store.
    pub(crate) pending: Vec<Arc<PendingStep>>,
    pub(crate) memos: Vec<Memo>,
    pub(crate) jobs: Vec<NewJob>,
    pub(crate) progress: Option<Progress>,
}

impl Batch {
    pub(crate) fn is_empty(&self) -> bool {
        self.steps.is_empty() && self.pending.is_empty() && self.memos.is_empty() && self.progress.is_none()
    }
}

/// A memo without its number, which it gets in the buffer.
#[derive(Debug)]
pub(crate) struct MemoEntry {
    pub(crate) step: Option<u64>,
    pub(crate) name: String,
    pub(crate) nth: u64,
    pub(crate) value: Json,
    /// The job that the attempt enqueued by this memo.
    pub(crate) job: Option<NewJob>,
}

/// What is to be done after a change of a buffer.
#[must_use]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Effect {
    /// Within what time the recorder is to write the batch, if it was not asked for that already; zero means at once.
    pub(crate) flush: Option<Duration>,
    /// Which waits are to look again.
    pub(crate) wake: Wake,
}

/// Which waits may be over after a change, and so are to look again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Wake {
    #[default]
    None,
    /// The waits for room, for durable steps, and for the lease.
    Progress,
    /// The waits for nothing but the end, which need not look again at each step.
    End,
    All,
}

impl Wake {
    pub(crate) const fn wakes_progress(self) -> bool {
        matches!(self, Self::Progress | Self::All)
    }

    pub(crate) const fn wakes_end(self) -> bool {
        matches!(self, Self::End | Self::All)
    }
}

impl From<Wake> for Effect {
    fn from(wake: Wake) -> Self {
        Self { flush: None, wake }
    }
}

/// Values whose handlers will not run. Dropping them runs code of the task's own: so their caller releases its lock first.
pub(crate) type Unrun = Vec<Arc<PendingStep>>;

/// Changes that the body makes.
impl Buffer {
    /// A buffer whose next step and memo have the numbers `next`. The recorder is asked to write each within `wait`.
    pub(crate) fn new(ahead: Ahead, next: EntryCount, wait: Duration) -> Self {
        Self {
            ahead,
            wait,
            batch: Batch::default(),
            next,
            durable: next,
            bytes: 0,
            in_flight: InFlight::default(),
            announced: None,
            in_transactions: false,
            fenced: false,
            failed: false,
            halted: false,
        }
    }

    /// Adds the next step.
    pub(crate) fn push(&mut self, hash: u64, reply: Reply) -> Effect {
        self.bytes += reply.as_str().len();
        let seq = self.next_step();
        self.batch.steps.push(Step { seq, hash, reply });
        self.added()
    }

    /// Adds the next memo.
    pub(crate) fn push_memo(&mut self, MemoEntry { step, name, nth, value, job }: MemoEntry) -> Effect {
        self.bytes += value.as_str().len() + job.as_ref().map_or(0, |job| job.call.args.as_str().len());
        let number = self.next.memos;
        self.next.memos += 1;
        self.batch.memos.push(Memo { number, step, name, nth, value });
        self.batch.jobs.extend(job);
        self.added()
    }

    /// Adds the next value, whose handler runs in the store and makes a step of it. Gives the handler back where it must not
    /// run: an earlier handler has failed, or the lease is lost.
    pub(crate) fn push_pending(
        &mut self,
        hash: u64,
        bytes: usize,
        handler: BoxedHandler,
    ) -> Result<Effect, BoxedHandler> {
        if self.goes_on().is_err() {
            return Err(handler);
        }
        self.in_transactions = true;
        self.bytes += bytes;
        let seq = self.next_step();
        self.batch.pending.push(Arc::new(PendingStep::new(seq, hash, bytes, handler)));
        Ok(self.added())
    }

    /// Keeps the progress that the task reports, in the place of an earlier one.
    pub(crate) fn report(&mut self, progress: Progress) -> Effect {
        self.batch.progress = Some(progress);
        let wait = self.announced.unwrap_or(PROGRESS_WAIT);
        self.announce(wait)
    }

    /// Asks for a write of everything at once; also gives the counts that are durable when it is [done](Self::flushed).
    pub(crate) fn flush(&mut self) -> (Effect, EntryCount) {
        let effect = if self.batch.is_empty() { Effect::default() } else { self.announce(Duration::ZERO) };
        (effect, self.next)
    }

    fn next_step(&mut self) -> u64 {
        self.next.steps += 1;
        self.next.steps - 1
    }

    /// A full buffer is written at once, so that a body that waits for room need not ask for a write.
    fn added(&mut self) -> Effect {
        let wait = if self.is_full() { Duration::ZERO } else { self.wait };
        self.announce(wait)
    }

    fn announce(&mut self, wait: Duration) -> Effect {
        if self.announced.is_some_and(|announced| announced <= wait) {
            return Effect::default();
        }
        self.announced = Some(wait);
        Effect { flush: Some(wait), wake: Wake::None }
    }
}

/// Changes that the recorder makes, and what ends an attempt.
impl Buffer {
    /// Takes out everything that is to be written.
    pub(crate) fn take(&mut self) -> Batch {
        self.announced = None;
        let pending = bytes_of(&self.batch.pending);
        self.in_flight.entries += self.bytes - self.in_flight.entries - self.in_flight.pending - pending;
        self.in_flight.pending += pending;
        // The next batch is likely to be as large.
        let steps = Vec::with_capacity(self.batch.steps.len());
        mem::replace(&mut self.batch, Batch { steps, ..Batch::default() })
    }

    /// Counts the steps and memos that were taken as durable: `written` of them.
    pub(crate) fn wrote(&mut self, written: EntryCount) -> Effect {
        self.bytes -= mem::take(&mut self.in_flight.entries);
        self.reach(EntryCount { steps: self.durable.steps + written.steps, memos: self.durable.memos + written.memos });
        Wake::Progress.into()
    }

    /// Counts the steps before number `upto`, whose handlers ran in transactions, as durable. The store did not come to the
    /// `rest`, which goes back into the batch, before the values that were added since, and is to be written at once. The
    /// `rest` is given back where its handlers must not run.
    pub(crate) fn handled(&mut self, upto: u64, mut rest: Unrun) -> (Effect, Unrun) {
        self.bytes -= mem::take(&mut self.in_flight.pending);
        self.reach(EntryCount { steps: upto.max(self.durable.steps), memos: self.durable.memos });
        if rest.is_empty() || self.goes_on().is_err() {
            return (Wake::Progress.into(), rest);
        }
        self.bytes += bytes_of(&rest);
        rest.append(&mut self.batch.pending);
        self.batch.pending = rest;
        (Effect { wake: Wake::Progress, ..self.announce(Duration::ZERO) }, Unrun::new())
    }

    /// Takes over what is durable, but no more than was added: a store that claims more is not believed.
    fn reach(&mut self, durable: EntryCount) {
        let EntryCount { steps, memos } = self.next;
        self.durable = EntryCount { steps: durable.steps.min(steps), memos: durable.memos.min(memos) };
    }

    /// Ends all waits, and lets no more handlers run: the lease is lost, or the attempt is over.
    pub(crate) fn fence(&mut self) -> (Effect, Unrun) {
        self.fenced = true;
        self.end()
    }

    /// Lets no more handlers run: one failed in a transaction, which was rolled back, or the store refuses a write.
    pub(crate) fn fail(&mut self) -> (Effect, Unrun) {
        self.failed = true;
        self.end()
    }

    fn end(&mut self) -> (Effect, Unrun) {
        // The pending values hold the attempt, which holds this buffer: they are taken out to break the circle.
        (Wake::All.into(), mem::take(&mut self.batch.pending))
    }

    /// Makes handlers that run in transactions stop where they are.
    pub(crate) fn halt(&mut self) -> Effect {
        self.halted = true;
        Wake::End.into()
    }
}

/// Conditions of waits: each is `None` as long as the wait goes on.
impl Buffer {
    /// The wait until the body may run ahead by one more value; `holds` says whether the lease holds.
    pub(crate) fn has_room(&self, holds: impl FnOnce() -> bool) -> Option<Result<(), Stopped>> {
        match self.goes_on() {
            Ok(()) if self.is_full() => None,
            _ => self.held(holds),
        }
    }

    /// The wait until the lease holds: one that ran out may be renewed, or have passed on to another worker.
    pub(crate) fn held(&self, holds: impl FnOnce() -> bool) -> Option<Result<(), Stopped>> {
        match self.goes_on() {
            Ok(()) => holds().then_some(Ok(())),
            ended => Some(ended),
        }
    }

    /// The wait until `all` these steps and memos are durable.
    pub(crate) fn flushed(&self, all: EntryCount) -> Option<Result<(), Stopped>> {
        match self.goes_on() {
            Ok(()) => self.durable.reaches(all).then_some(Ok(())),
            ended => Some(ended),
        }
    }

    /// The wait until handlers that run in transactions must stop. The error says why, unless they were halted for a reason
    /// that the buffer does not know.
    pub(crate) fn halted(&self) -> Option<Result<(), Stopped>> {
        match self.goes_on() {
            Ok(()) => self.halted.then_some(Ok(())),
            ended => Some(ended),
        }
    }

    pub(crate) fn goes_on(&self) -> Result<(), Stopped> {
        match (self.fenced, self.failed) {
            (true, _) => Err(Stopped::Fenced),
            (_, true) => Err(Stopped::Released),
            _ => Ok(()),
        }
    }

    /// Whether [`has_room`](Self::has_room) waits for nothing but the lease.
    pub(crate) fn is_open(&self) -> bool {
        !(self.fenced || self.failed || self.is_full())
    }

    fn is_full(&self) -> bool {
        self.next.since(self.durable) >= self.ahead.values || self.bytes >= self.ahead.bytes
    }

    /// The number of the memo that is added next.
    pub(crate) fn next_memo(&self) -> u64 {
        self.next.memos
    }

    /// Whether the memo of this number is durable.
    pub(crate) fn has_memo(&self, number: u64) -> bool {
        self.durable.memos > number
    }

    /// How many steps the job has that are durable.
    pub(crate) fn steps(&self) -> u64 {
        self.durable.steps
    }

    pub(crate) fn is_fenced(&self) -> bool {
        self.fenced
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.failed
    }

    pub(crate) fn in_transactions(&self) -> bool {
        self.in_transactions
    }
}

fn bytes_of(pending: &[Arc<PendingStep>]) -> usize {
    pending.iter().map(|step| step.bytes).sum()
}

#[cfg(test)]
mod tests;
