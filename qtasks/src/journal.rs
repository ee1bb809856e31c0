//! What an attempt has handled and its store does not hold yet: filled by the executor, emptied by whoever writes.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::sync::{mpsc, watch};

use crate::{
    failure::{Stopped, drop_guarded},
    job::{Lease, Memo, NewJob, Progress, Reply, Step},
    json::Json,
    pending::{BoxedHandler, PendingStep},
    transacting::{Slot, take},
};

/// How far a body may run ahead of its last durable step: this many values,
const VALUES_AHEAD: u64 = 4096;
/// or this many bytes of replies.
const BYTES_AHEAD: usize = 1 << 20;
/// Progress alone is worth a write ten times a second.
const PROGRESS_WAIT: Duration = Duration::from_millis(100);

/// Says whether a worker's leases still hold, by its own clock.
pub(crate) type Holds = Arc<dyn Fn() -> bool + Send + Sync>;

/// The steps and memos of one attempt on their way to the store, in one order.
pub(crate) struct Journal {
    lease: Lease,
    holds: Holds,
    wait: Duration,
    buffer: Mutex<Buffer>,
    durable: watch::Sender<Count>,
    /// Told when nothing more is written, which need not wake at each step whoever waits for that alone.
    ended: watch::Sender<()>,
    /// Whether the body has run ahead as far as it may; as of the last change of the buffer.
    full: AtomicBool,
    fenced: AtomicBool,
    /// Whether the handlers run in transactions of the store.
    in_transactions: AtomicBool,
    failed: AtomicBool,
    /// Whether handlers that run in transactions are to stop.
    halted: AtomicBool,
    failure: Slot<Stopped>,
    requests: mpsc::UnboundedSender<FlushRequest>,
    this: Weak<Self>,
}

#[derive(Default)]
struct Buffer {
    batch: Batch,
    next: Count,
    durable: Count,
    /// Bytes of the steps and memos that are not durable yet,
    bytes: usize,
    /// and how many of them somebody is writing.
    in_flight: usize,
    announced: Option<Duration>,
}

/// How many steps and memos there are, which are also the numbers of the next ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) steps: u64,
    pub(crate) memos: u64,
}

impl Count {
    fn reaches(self, other: Self) -> bool {
        self.steps >= other.steps && self.memos >= other.memos
    }
}

/// What is taken from a journal to be written, in one piece.
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

/// What an attempt did once, before it has a number.
#[derive(Debug)]
pub(crate) struct MemoEntry {
    pub(crate) step: Option<u64>,
    pub(crate) name: String,
    pub(crate) nth: u64,
    pub(crate) value: Json,
    /// The job that was enqueued by it.
    pub(crate) job: Option<NewJob>,
}

/// Tells that a journal has something to write, within `wait`.
#[derive(Debug)]
pub(crate) struct FlushRequest {
    pub(crate) journal: Arc<Journal>,
    pub(crate) wait: Duration,
}

impl Journal {
    /// A journal whose next step and memo have these numbers, to be written within `wait` of their making.
    pub(crate) fn new(
        lease: Lease,
        holds: Holds,
        next: Count,
        wait: Duration,
        requests: mpsc::UnboundedSender<FlushRequest>,
    ) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            lease,
            holds,
            wait,
            buffer: Mutex::new(Buffer { next, durable: next, ..Buffer::default() }),
            durable: watch::Sender::new(next),
            ended: watch::Sender::new(()),
            full: AtomicBool::new(false),
            fenced: AtomicBool::new(false),
            in_transactions: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            halted: AtomicBool::new(false),
            failure: Slot::default(),
            requests,
            this: this.clone(),
        })
    }

    /// How many steps the job has that are durable.
    pub(crate) fn steps(&self) -> u64 {
        self.durable.borrow().steps
    }

    /// Waits until the job has more durable steps than so many.
    pub(crate) async fn has_more_than(&self, steps: u64) {
        let mut durable = self.durable.subscribe();
        drop(durable.wait_for(|durable| durable.steps > steps).await.expect("the journal holds the sender"));
    }

    pub(crate) fn lease(&self) -> Lease {
        self.lease
    }

    /// Adds the next step.
    pub(crate) fn push(&self, hash: u64, reply: Reply) {
        let mut buffer = self.buffer();
        buffer.bytes += reply.as_str().len();
        let seq = buffer.next.steps;
        buffer.next.steps += 1;
        buffer.batch.steps.push(Step { seq, hash, reply });
        self.full.store(buffer.is_full(), Relaxed);
        self.announce(&mut buffer, self.wait);
    }

    /// Adds the next memo.
    pub(crate) fn push_memo(&self, MemoEntry { step, name, nth, value, job }: MemoEntry) {
        let mut buffer = self.buffer();
        buffer.bytes += value.as_str().len() + job.as_ref().map_or(0, |job| job.args.as_str().len());
        let number = buffer.next.memos;
        buffer.next.memos += 1;
        buffer.batch.memos.push(Memo { number, step, name, nth, value });
        buffer.batch.jobs.extend(job);
        self.full.store(buffer.is_full(), Relaxed);
        self.announce(&mut buffer, self.wait);
    }

    /// Adds the next value, which becomes a step in the store.
    pub(crate) fn push_pending(&self, hash: u64, bytes: usize, run: BoxedHandler) {
        let mut buffer = self.buffer();
        // Its handler is not to run: an earlier one has failed, or the lease is lost.
        if self.goes_on().is_err() {
            return;
        }
        self.in_transactions.store(true, Relaxed);
        buffer.bytes += bytes;
        let seq = buffer.next.steps;
        buffer.next.steps += 1;
        buffer.batch.pending.push(Arc::new(PendingStep::new(seq, hash, bytes, run)));
        self.full.store(buffer.is_full(), Relaxed);
        self.announce(&mut buffer, self.wait);
    }

    /// Where a handler in a transaction says why it failed, before that is known to last.
    pub(crate) fn failure(&self) -> &Slot<Stopped> {
        &self.failure
    }

    /// Takes note of how far the task is.
    pub(crate) fn progress(&self, progress: Progress) {
        let mut buffer = self.buffer();
        buffer.batch.progress = Some(progress);
        if buffer.announced.is_none() {
            self.announce(&mut buffer, PROGRESS_WAIT);
        }
    }

    /// Whether [`wait_for_room`](Self::wait_for_room) has nothing to wait for.
    pub(crate) fn is_open(&self) -> bool {
        (self.holds)() && !self.full.load(Relaxed) && self.goes_on().is_ok()
    }

    /// Waits until the lease holds and the body may run ahead by one more value.
    pub(crate) async fn wait_for_room(&self) -> Result<(), Stopped> {
        if self.is_full() {
            // Under the lock that guards it, and anew after each write: one that ends before this waits is not missed.
            self.until(|_| !self.buffer().is_full()).await?;
        }
        // Last, for any wait may have been long.
        self.held().await?;
        self.goes_on()
    }

    /// Whether the body has run ahead as far as it may; if so, asks that all that was added be written at once.
    fn is_full(&self) -> bool {
        let mut buffer = self.buffer();
        if buffer.is_full() {
            self.announce(&mut buffer, Duration::ZERO);
        }
        buffer.is_full()
    }

    /// Waits until the lease holds: one that ran out may be renewed, or have passed on to another worker.
    pub(crate) async fn held(&self) -> Result<(), Stopped> {
        while !(self.holds)() {
            let mut news = self.durable.subscribe();
            self.goes_on()?;
            if !(self.holds)() {
                news.changed().await.expect("the journal holds the sender");
            }
        }
        Ok(())
    }

    /// Tells that the lease was renewed; whoever waits for that is woken.
    pub(crate) fn renewed(&self) {
        self.durable.send_modify(|_| ());
    }

    async fn until(&self, enough: impl Fn(&Count) -> bool) -> Result<(), Stopped> {
        let mut durable = self.durable.subscribe();
        let enough = durable.wait_for(|durable| enough(durable) || self.goes_on().is_err()).await;
        drop(enough.expect("the journal holds the sender"));
        self.goes_on()
    }

    /// Waits until a handler that ran in a transaction has failed.
    pub(crate) async fn handler_failed(&self) {
        let mut news = self.ended.subscribe();
        drop(news.wait_for(|()| self.has_failed()).await.expect("the journal holds the sender"));
    }

    /// Has handlers that run in transactions stop where they are. Their attempt ends for this reason, unless all that was
    /// added is durable by then.
    pub(crate) fn halt(&self, reason: Stopped) {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(reason);
        self.halted.store(true, Relaxed);
        self.ended.send_modify(|()| ());
    }

    /// Waits until handlers that run in transactions are to stop, and gives the reason.
    pub(crate) async fn halted(&self) -> Stopped {
        let mut news = self.ended.subscribe();
        let is_over = || self.halted.load(Relaxed) || self.goes_on().is_err();
        drop(news.wait_for(|()| is_over()).await.expect("the journal holds the sender"));
        self.goes_on().err().or_else(|| take(&self.failure)).unwrap_or(Stopped::Released)
    }

    /// Waits until the lease is lost.
    pub(crate) async fn lost(&self) {
        let mut news = self.ended.subscribe();
        drop(news.wait_for(|()| self.is_fenced()).await.expect("the journal holds the sender"));
    }

    /// Asks that all that was added be written at once, and waits for it.
    pub(crate) async fn flush(&self) -> Result<(), Stopped> {
        let next = {
            let mut buffer = self.buffer();
            if !buffer.batch.is_empty() {
                self.announce(&mut buffer, Duration::ZERO);
            }
            buffer.next
        };
        self.until(|durable| durable.reaches(next)).await
    }

    /// The last [`flush`](Self::flush). The error is that of a handler which failed in a transaction, whatever the body
    /// came to meanwhile.
    pub(crate) async fn finish(&self) -> Result<(), Stopped> {
        self.flush().await.map_err(|stopped| match stopped {
            Stopped::Fenced => stopped,
            _ => take(&self.failure).unwrap_or(stopped),
        })
    }

    /// Waits until the handlers of all values before have run, where they run in transactions: in the store, nothing
    /// that comes after them may overtake them.
    pub(crate) async fn handlers_done(&self) -> Result<(), Stopped> {
        if self.in_transactions.load(Relaxed) { self.flush().await } else { Ok(()) }
    }

    /// Takes what there is to write.
    pub(crate) fn take(&self) -> Batch {
        let mut buffer = self.buffer();
        buffer.announced = None;
        buffer.in_flight = buffer.bytes;
        // The next ones are likely to be as many.
        let steps = Vec::with_capacity(buffer.batch.steps.len());
        std::mem::replace(&mut buffer.batch, Batch { steps, ..Batch::default() })
    }

    /// Puts back what was taken and did not get its turn, to be taken again soon.
    pub(crate) fn put_back(&self, mut pending: Vec<Arc<PendingStep>>) {
        let mut buffer = self.buffer();
        if self.goes_on().is_err() {
            return;
        }
        buffer.bytes += pending.iter().map(|step| step.bytes).sum::<usize>();
        pending.append(&mut buffer.batch.pending);
        buffer.batch.pending = pending;
        self.full.store(buffer.is_full(), Relaxed);
        self.announce(&mut buffer, Duration::ZERO);
    }

    /// Tells that so many steps and memos more, those that were taken, are written.
    pub(crate) fn wrote(&self, written: Count) {
        let mut buffer = self.buffer();
        buffer.bytes -= std::mem::take(&mut buffer.in_flight);
        buffer.durable.steps += written.steps;
        buffer.durable.memos += written.memos;
        self.full.store(buffer.is_full(), Relaxed);
        drop(buffer);
        self.durable.send_modify(|durable| {
            durable.steps += written.steps;
            durable.memos += written.memos;
        });
    }

    /// Tells that the steps before this number, the handlers of which ran in transactions, are written.
    pub(crate) fn handled(&self, upto: u64) {
        let steps = upto.saturating_sub(self.steps());
        self.wrote(Count { steps, memos: 0 });
    }

    /// Tells that nothing more of this attempt will be written; whoever waits is woken.
    pub(crate) fn fence(&self) {
        self.end(&self.fenced);
    }

    pub(crate) fn is_fenced(&self) -> bool {
        self.fenced.load(Relaxed)
    }

    /// Tells that a handler failed in a transaction and left nothing behind: those of later values do not run, and the
    /// attempt ends. [`flush`](Self::flush) gives the reason: what the handler said, or else `otherwise`.
    pub(crate) fn fail(&self, otherwise: Stopped) {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(otherwise);
        self.end(&self.failed);
    }

    /// Tells that handlers ran and what they wrote did not last, whatever they said: the job is to be given back.
    pub(crate) fn release(&self) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(Stopped::Released);
        self.end(&self.failed);
    }

    fn end(&self, how: &AtomicBool) {
        let unrun = {
            let mut buffer = self.buffer();
            how.store(true, Relaxed);
            // They hold the attempt, which holds this.
            std::mem::take(&mut buffer.batch.pending)
        };
        // What the values do when they are dropped is the task's own affair, and may take its time.
        drop_guarded(unrun);
        self.durable.send_modify(|_| ());
        self.ended.send_modify(|()| ());
    }

    fn has_failed(&self) -> bool {
        self.failed.load(Relaxed)
    }

    fn goes_on(&self) -> Result<(), Stopped> {
        match (self.is_fenced(), self.has_failed()) {
            (true, _) => Err(Stopped::Fenced),
            (_, true) => Err(Stopped::Released),
            _ => Ok(()),
        }
    }

    fn announce(&self, buffer: &mut Buffer, wait: Duration) {
        if buffer.announced.is_some_and(|announced| announced <= wait) {
            return;
        }
        buffer.announced = Some(wait);
        let journal = self.this.upgrade().expect("a journal is always held by whoever calls it");
        // Nobody writes any more once the worker is gone, and then the lease runs out.
        if self.requests.send(FlushRequest { journal, wait }).is_err() {
            self.fenced.store(true, Relaxed);
        }
    }

    fn buffer(&self) -> MutexGuard<'_, Buffer> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Buffer {
    fn is_full(&self) -> bool {
        let ahead = self.next.steps - self.durable.steps + self.next.memos - self.durable.memos;
        ahead >= VALUES_AHEAD || self.bytes >= BYTES_AHEAD
    }
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the journal of {:?}", self.lease)
    }
}

/// What earlier attempts recorded, page after page.
#[derive(Debug)]
pub(crate) struct Recorded<T> {
    /// Where further pages come from; nothing after the last.
    pages: Option<mpsc::Receiver<Vec<T>>>,
    page: std::vec::IntoIter<T>,
}

impl<T> Recorded<T> {
    /// What comes over `pages`; an empty page is the last one.
    pub(crate) fn new(pages: mpsc::Receiver<Vec<T>>) -> Self {
        Self { pages: Some(pages), page: Vec::new().into_iter() }
    }

    /// Nothing.
    pub(crate) fn none() -> Self {
        Self { pages: None, page: Vec::new().into_iter() }
    }

    /// The next one, or nothing after the last; when the pages stop before that, whoever reads them has given up.
    pub(crate) async fn next(&mut self) -> Result<Option<T>, Stopped> {
        if self.page.len() == 0
            && let Some(pages) = &mut self.pages
        {
            self.page = pages.recv().await.ok_or(Stopped::Released)?.into_iter();
            self.pages.take_if(|_| self.page.len() == 0);
        }
        Ok(self.page.next())
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::{
        job::{JobId, WorkerId},
        json::Json,
    };

    fn journal(wait: Duration) -> (Arc<Journal>, mpsc::UnboundedReceiver<FlushRequest>) {
        let (requests, received) = mpsc::unbounded_channel();
        let lease = Lease { job: JobId::new(), attempt: 1, worker: WorkerId::new() };
        (Journal::new(lease, Arc::new(|| true), Count::default(), wait, requests), received)
    }

    fn push(journal: &Journal, count: usize) {
        for _ in 0..count {
            journal.push(0, Reply::Value(Json::from_stored("1")));
        }
    }

    #[test]
    fn many_steps_are_announced_once_until_they_are_taken() {
        let (journal, mut requests) = journal(Duration::from_millis(5));
        push(&journal, 3);
        assert_eq!(requests.try_recv().unwrap().wait, Duration::from_millis(5));
        assert!(requests.try_recv().is_err());
        assert_eq!(journal.take().steps.iter().map(|step| step.seq).collect::<Vec<_>>(), [0, 1, 2]);
        push(&journal, 1);
        assert!(requests.try_recv().is_ok());
    }

    #[test]
    fn a_body_may_run_ahead_by_so_many_values_and_no_further() {
        let (journal, mut requests) = journal(Duration::from_secs(60));
        push(&journal, VALUES_AHEAD as usize - 1);
        assert!(journal.wait_for_room().now_or_never().is_some());
        push(&journal, 1);
        assert!(journal.wait_for_room().now_or_never().is_none());
        assert_eq!(
            [requests.try_recv().unwrap().wait, requests.try_recv().unwrap().wait],
            [Duration::from_secs(60), Duration::ZERO]
        );
        let taken = Count { steps: journal.take().steps.len() as u64, memos: 0 };
        assert!(journal.wait_for_room().now_or_never().is_none(), "what is in flight is not durable");
        journal.wrote(taken);
        assert!(journal.wait_for_room().now_or_never().is_some());
    }

    #[test]
    fn a_body_may_run_ahead_by_so_many_bytes_and_no_further() {
        let (journal, _requests) = journal(Duration::ZERO);
        journal.push(0, Reply::Value(Json::from_stored("1".repeat(BYTES_AHEAD))));
        assert!(journal.wait_for_room().now_or_never().is_none());
        journal.wrote(Count { steps: journal.take().steps.len() as u64, memos: 0 });
        assert!(journal.wait_for_room().now_or_never().is_some());
    }

    #[test]
    fn a_body_whose_lease_has_run_out_waits_until_it_is_renewed_or_lost() {
        let (requests, _received) = mpsc::unbounded_channel();
        let lease = Lease { job: JobId::new(), attempt: 1, worker: WorkerId::new() };
        let is_good = Arc::new(AtomicBool::new(false));
        let good = is_good.clone();
        let journal =
            Journal::new(lease, Arc::new(move || good.load(Relaxed)), Count::default(), Duration::ZERO, requests);
        let mut wait_for_room = std::pin::pin!(journal.wait_for_room());
        assert!(wait_for_room.as_mut().now_or_never().is_none());
        is_good.store(true, Relaxed);
        journal.renewed();
        assert!(matches!(wait_for_room.now_or_never(), Some(Ok(()))));
        is_good.store(false, Relaxed);
        journal.fence();
        assert!(matches!(journal.wait_for_room().now_or_never(), Some(Err(Stopped::Fenced))));
    }

    fn push_pending_steps(journal: &Journal, count: usize) {
        for _ in 0..count {
            journal.push_pending(0, 1, Box::new(()));
        }
    }

    fn seqs(pending: &[Arc<PendingStep>]) -> Vec<u64> {
        pending.iter().map(|step| step.seq).collect()
    }

    #[test]
    fn values_that_did_not_get_their_turn_come_before_those_that_were_added_since() {
        let (journal, mut requests) = journal(Duration::from_secs(60));
        push_pending_steps(&journal, 3);
        let taken = journal.take().pending;
        push_pending_steps(&journal, 2);
        journal.handled(1);
        journal.put_back(taken[1..].to_vec());
        assert_eq!(std::iter::from_fn(|| requests.try_recv().ok()).last().unwrap().wait, Duration::ZERO);
        assert_eq!(seqs(&journal.take().pending), [1, 2, 3, 4]);
        journal.handled(5);
        assert_eq!(journal.buffer().bytes, 0);
    }

    #[test]
    fn after_a_handler_that_failed_no_value_is_handled_and_the_flush_says_why() {
        let (journal, _requests) = journal(Duration::ZERO);
        push_pending_steps(&journal, 2);
        _ = journal.take();
        push_pending_steps(&journal, 1);
        *journal.failure().lock().unwrap() = Some(Stopped::Panic("no".into()));
        assert!(journal.wait_for_room().now_or_never().unwrap().is_ok(), "it is not known to last yet");
        journal.handled(1);
        journal.fail(Stopped::Released);
        push_pending_steps(&journal, 1);
        assert!(journal.take().pending.is_empty());
        assert!(matches!(journal.wait_for_room().now_or_never(), Some(Err(Stopped::Released))));
        assert!(matches!(journal.flush().now_or_never(), Some(Err(Stopped::Released))));
        assert!(matches!(journal.finish().now_or_never(), Some(Err(Stopped::Panic(_)))));
        assert_eq!(journal.steps(), 1);
    }

    #[test]
    fn an_attempt_whose_handlers_could_not_be_committed_is_given_back_whatever_they_said() {
        let (journal, _requests) = journal(Duration::ZERO);
        push_pending_steps(&journal, 1);
        *journal.failure().lock().unwrap() = Some(Stopped::Panic("no".into()));
        journal.release();
        assert!(matches!(journal.flush().now_or_never(), Some(Err(Stopped::Released))));
    }

    #[test]
    fn a_fenced_tape_lets_nobody_wait_or_go_on() {
        let (journal, _requests) = journal(Duration::ZERO);
        push(&journal, 1);
        journal.fence();
        assert!(matches!(journal.flush().now_or_never(), Some(Err(Stopped::Fenced))));
        assert!(matches!(journal.wait_for_room().now_or_never(), Some(Err(Stopped::Fenced))));
    }
}
