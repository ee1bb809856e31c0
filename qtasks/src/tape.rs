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
    failure::Stopped,
    job::{Lease, Progress, Reply, Step},
};

/// How far a body may run ahead of its last durable step: this many values,
const VALUES_AHEAD: u64 = 4096;
/// or this many bytes of replies.
const BYTES_AHEAD: usize = 1 << 20;
/// Progress alone is worth a write ten times a second.
const PROGRESS_WAIT: Duration = Duration::from_millis(100);

/// Says whether a worker's leases still hold, by its own clock.
pub(crate) type Holds = Arc<dyn Fn() -> bool + Send + Sync>;

/// The steps of one attempt on their way to the store.
pub(crate) struct Tape {
    lease: Lease,
    holds: Holds,
    wait: Duration,
    buffer: Mutex<Buffer>,
    durable: watch::Sender<u64>,
    /// Whether the body has run ahead as far as it may; as of the last change of the buffer.
    full: AtomicBool,
    fenced: AtomicBool,
    notes: mpsc::UnboundedSender<Note>,
    this: Weak<Self>,
}

#[derive(Default)]
struct Buffer {
    steps: Vec<Step>,
    progress: Option<Progress>,
    next: u64,
    durable: u64,
    /// Bytes of the steps that are not durable yet,
    bytes: usize,
    /// and how many of them somebody is writing.
    in_flight: usize,
    announced: Option<Duration>,
}

/// Tells that a tape has something to write, within `wait`.
#[derive(Debug)]
pub(crate) struct Note {
    pub(crate) tape: Arc<Tape>,
    pub(crate) wait: Duration,
}

impl Tape {
    /// A tape whose next step is number `next`, to be written within `wait` of its making.
    pub(crate) fn new(
        lease: Lease,
        holds: Holds,
        next: u64,
        wait: Duration,
        notes: mpsc::UnboundedSender<Note>,
    ) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            lease,
            holds,
            wait,
            buffer: Mutex::new(Buffer { next, durable: next, ..Buffer::default() }),
            durable: watch::Sender::new(next),
            full: AtomicBool::new(false),
            fenced: AtomicBool::new(false),
            notes,
            this: this.clone(),
        })
    }

    /// How many steps the job has that are durable.
    pub(crate) fn steps(&self) -> u64 {
        *self.durable.borrow()
    }

    pub(crate) fn lease(&self) -> Lease {
        self.lease
    }

    /// Adds the next step.
    pub(crate) fn push(&self, hash: u64, reply: Reply) {
        let mut buffer = self.buffer();
        buffer.bytes += reply.len();
        let seq = buffer.next;
        buffer.next += 1;
        buffer.steps.push(Step { seq, hash, reply });
        self.full.store(buffer.is_full(), Relaxed);
        self.announce(&mut buffer, self.wait);
    }

    /// Takes note of how far the task is.
    pub(crate) fn progress(&self, progress: Progress) {
        let mut buffer = self.buffer();
        buffer.progress = Some(progress);
        if buffer.announced.is_none() {
            self.announce(&mut buffer, PROGRESS_WAIT);
        }
    }

    /// Waits until the lease holds and the body may run ahead by one more value.
    pub(crate) async fn room(&self) -> Result<(), Stopped> {
        self.held().await?;
        // Nobody but the body fills the buffer, and it is here.
        while self.full.load(Relaxed) {
            let durable = {
                let mut buffer = self.buffer();
                self.announce(&mut buffer, Duration::ZERO);
                buffer.durable
            };
            self.durable(durable + 1).await?;
        }
        if self.is_fenced() { Err(Stopped::Fenced) } else { Ok(()) }
    }

    /// Waits until the lease holds: one that ran out may be renewed, or have passed on to another worker.
    async fn held(&self) -> Result<(), Stopped> {
        while !(self.holds)() {
            let mut news = self.durable.subscribe();
            if self.is_fenced() {
                return Err(Stopped::Fenced);
            }
            if !(self.holds)() {
                news.changed().await.expect("the tape holds the sender");
            }
        }
        Ok(())
    }

    /// Tells that the lease was renewed; whoever waits for that is woken.
    pub(crate) fn renewed(&self) {
        self.durable.send_modify(|_| ());
    }

    /// Waits until the steps before number `upto` are durable.
    pub(crate) async fn durable(&self, upto: u64) -> Result<(), Stopped> {
        let mut durable = self.durable.subscribe();
        let enough = durable.wait_for(|durable| *durable >= upto || self.is_fenced()).await;
        drop(enough.expect("the tape holds the sender"));
        if self.is_fenced() { Err(Stopped::Fenced) } else { Ok(()) }
    }

    /// Asks that all that was added be written at once, and waits for it.
    pub(crate) async fn flush(&self) -> Result<(), Stopped> {
        let next = {
            let mut buffer = self.buffer();
            if !buffer.steps.is_empty() || buffer.progress.is_some() {
                self.announce(&mut buffer, Duration::ZERO);
            }
            buffer.next
        };
        self.durable(next).await
    }

    /// Takes what there is to write.
    pub(crate) fn take(&self) -> (Vec<Step>, Option<Progress>) {
        let mut buffer = self.buffer();
        buffer.announced = None;
        buffer.in_flight = buffer.bytes;
        (std::mem::take(&mut buffer.steps), buffer.progress.take())
    }

    /// Tells that what was taken, up to number `upto`, is written.
    pub(crate) fn wrote(&self, upto: u64) {
        let mut buffer = self.buffer();
        buffer.bytes -= std::mem::take(&mut buffer.in_flight);
        buffer.durable = upto.max(buffer.durable);
        self.full.store(buffer.is_full(), Relaxed);
        drop(buffer);
        self.durable.send_if_modified(|durable| std::mem::replace(durable, upto.max(*durable)) < upto);
    }

    /// Tells that nothing more of this attempt will be written; whoever waits is woken.
    pub(crate) fn fence(&self) {
        self.fenced.store(true, Relaxed);
        self.durable.send_modify(|_| ());
    }

    pub(crate) fn is_fenced(&self) -> bool {
        self.fenced.load(Relaxed)
    }

    fn announce(&self, buffer: &mut Buffer, wait: Duration) {
        if buffer.announced.is_some_and(|announced| announced <= wait) {
            return;
        }
        buffer.announced = Some(wait);
        let tape = self.this.upgrade().expect("a tape is always held by whoever calls it");
        // Nobody writes any more once the worker is gone, and then the lease runs out.
        if self.notes.send(Note { tape, wait }).is_err() {
            self.fenced.store(true, Relaxed);
        }
    }

    fn buffer(&self) -> MutexGuard<'_, Buffer> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Buffer {
    fn is_full(&self) -> bool {
        self.next - self.durable >= VALUES_AHEAD || self.bytes >= BYTES_AHEAD
    }
}

impl Reply {
    fn len(&self) -> usize {
        match self {
            Self::Value(json) => json.as_str().len(),
            Self::Skipped(error) => error.len(),
        }
    }
}

impl fmt::Debug for Tape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the tape of {:?}", self.lease)
    }
}

/// The steps that earlier attempts recorded, page after page.
#[derive(Debug)]
pub(crate) struct Recorded {
    pages: mpsc::Receiver<Vec<Step>>,
    page: std::vec::IntoIter<Step>,
}

impl Recorded {
    pub(crate) fn new(pages: mpsc::Receiver<Vec<Step>>) -> Self {
        Self { pages, page: Vec::new().into_iter() }
    }

    /// The next step; when the pages stop early, whoever reads them has given up.
    pub(crate) async fn next(&mut self) -> Result<Step, Stopped> {
        loop {
            if let Some(step) = self.page.next() {
                return Ok(step);
            }
            self.page = self.pages.recv().await.ok_or(Stopped::Released)?.into_iter();
        }
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

    fn tape(wait: Duration) -> (Arc<Tape>, mpsc::UnboundedReceiver<Note>) {
        let (notes, received) = mpsc::unbounded_channel();
        let lease = Lease { job: JobId::new(), attempt: 1, worker: WorkerId::new() };
        (Tape::new(lease, Arc::new(|| true), 0, wait, notes), received)
    }

    fn push(tape: &Tape, count: usize) {
        for _ in 0..count {
            tape.push(0, Reply::Value(Json::from_stored("1")));
        }
    }

    #[test]
    fn many_steps_are_announced_once_until_they_are_taken() {
        let (tape, mut notes) = tape(Duration::from_millis(5));
        push(&tape, 3);
        assert_eq!(notes.try_recv().unwrap().wait, Duration::from_millis(5));
        assert!(notes.try_recv().is_err());
        assert_eq!(tape.take().0.iter().map(|step| step.seq).collect::<Vec<_>>(), [0, 1, 2]);
        push(&tape, 1);
        assert!(notes.try_recv().is_ok());
    }

    #[test]
    fn a_body_may_run_ahead_by_so_many_values_and_no_further() {
        let (tape, mut notes) = tape(Duration::from_secs(60));
        push(&tape, VALUES_AHEAD as usize - 1);
        assert!(tape.room().now_or_never().is_some());
        push(&tape, 1);
        assert!(tape.room().now_or_never().is_none());
        assert_eq!(
            [notes.try_recv().unwrap().wait, notes.try_recv().unwrap().wait],
            [Duration::from_secs(60), Duration::ZERO]
        );
        let taken = tape.take().0.len() as u64;
        assert!(tape.room().now_or_never().is_none(), "what is in flight is not durable");
        tape.wrote(taken);
        assert!(tape.room().now_or_never().is_some());
    }

    #[test]
    fn a_body_may_run_ahead_by_so_many_bytes_and_no_further() {
        let (tape, _notes) = tape(Duration::ZERO);
        tape.push(0, Reply::Value(Json::from_stored("1".repeat(BYTES_AHEAD))));
        assert!(tape.room().now_or_never().is_none());
        tape.wrote(tape.take().0.len() as u64);
        assert!(tape.room().now_or_never().is_some());
    }

    #[test]
    fn a_body_whose_lease_has_run_out_waits_until_it_is_renewed_or_lost() {
        let (notes, _received) = mpsc::unbounded_channel();
        let lease = Lease { job: JobId::new(), attempt: 1, worker: WorkerId::new() };
        let is_good = Arc::new(AtomicBool::new(false));
        let good = is_good.clone();
        let tape = Tape::new(lease, Arc::new(move || good.load(Relaxed)), 0, Duration::ZERO, notes);
        let mut room = std::pin::pin!(tape.room());
        assert!(room.as_mut().now_or_never().is_none());
        is_good.store(true, Relaxed);
        tape.renewed();
        assert!(matches!(room.now_or_never(), Some(Ok(()))));
        is_good.store(false, Relaxed);
        tape.fence();
        assert!(matches!(tape.room().now_or_never(), Some(Err(Stopped::Fenced))));
    }

    #[test]
    fn a_fenced_tape_lets_nobody_wait_or_go_on() {
        let (tape, _notes) = tape(Duration::ZERO);
        push(&tape, 1);
        tape.fence();
        assert!(matches!(tape.durable(1).now_or_never(), Some(Err(Stopped::Fenced))));
        assert!(matches!(tape.room().now_or_never(), Some(Err(Stopped::Fenced))));
    }
}
