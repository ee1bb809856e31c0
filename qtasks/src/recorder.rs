//! Writes what a worker's attempts have handled, and how they ended: many jobs in one commit.
//!
//! Of one attempt there is one write at a time, in the order of its making; those of different attempts do not wait for
//! each other.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    panic::resume_unwind,
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    sync::{mpsc, oneshot},
    task::{JoinError, JoinSet},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{
    error::{Error, Result},
    failure::Stopped,
    job::Lease,
    store::{Hold, Record, Settlement, Store, Transacted, Written},
    tape::{Count, Note, Taken, Tape},
    work::Work,
};

/// Steps that may wait no longer than this are written at once: that makes the larger commits when the store is busy,
/// and the earlier ones when it is idle.
const AT_ONCE: Duration = Duration::from_millis(5);

/// So often what is ready to run may do so first, as long as that brings more to write: a commit for all of it is cheaper.
const ROUNDS: usize = 4;

/// So many tapes are told at a time that their steps are durable: what comes of that is on its way to the store before the
/// next are told.
const PORTION: usize = 32;

/// So many writes are under way at a time. More would bring nothing, and all of them try again when the store is away.
const AT_A_TIME: usize = 8;

/// How an attempt ended, and where it is told that this is written.
type Settling = (Settlement, oneshot::Sender<Written>);

/// Where an attempt says how it ended.
pub(crate) type Settlements = mpsc::UnboundedSender<Settling>;

/// The writer of one worker.
pub(crate) struct Recorder {
    store: Arc<dyn Store>,
    notes: mpsc::UnboundedReceiver<Note>,
    settlements: mpsc::UnboundedReceiver<Settling>,
    /// Tapes whose steps may wait, by the time until which they may.
    later: BTreeMap<(Instant, u64), Arc<Tape>>,
    noted: u64,
    /// What is being written,
    writes: Writes,
    /// and which handlers run in transactions: code of the tasks, which may take its time and holds up no writes.
    handlings: JoinSet<Vec<Answer>>,
    /// What their tapes are to be told of them.
    answers: VecDeque<Answer>,
    /// The attempts of which something is being written, and what has to wait for that.
    writing: HashMap<Lease, Next>,
}

/// Writes under way, each with what its tapes are to be told.
type Writes = FuturesUnordered<BoxFuture<'static, Vec<Answer>>>;

/// What an attempt came to while something of it was being written.
#[derive(Default)]
struct Next {
    /// There is more on its tape. Where a store has given the same lease again, having forgotten the first one, this is the
    /// tape that is not fenced.
    more: Option<Arc<Tape>>,
    settling: Vec<Settling>,
}

/// What there is to write.
#[derive(Default)]
struct Gathered {
    tapes: Vec<Arc<Tape>>,
    settlements: Vec<Settling>,
}

impl Gathered {
    fn len(&self) -> usize {
        self.tapes.len() + self.settlements.len()
    }
}

impl Recorder {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        notes: mpsc::UnboundedReceiver<Note>,
        settlements: mpsc::UnboundedReceiver<Settling>,
    ) -> Self {
        Self {
            store,
            notes,
            settlements,
            later: BTreeMap::new(),
            noted: 0,
            writes: Writes::new(),
            handlings: JoinSet::new(),
            answers: VecDeque::new(),
            writing: HashMap::new(),
        }
    }

    /// Writes until `finished`, and then what is left. When the store is away, it waits for its return, but no longer
    /// once `given_up`.
    pub(crate) async fn run(self, finished: CancellationToken, given_up: CancellationToken) {
        tokio::select! {
            () = self.write(finished) => {}
            () = given_up.cancelled() => {}
        }
    }

    async fn write(mut self, finished: CancellationToken) {
        loop {
            let (mut gathered, mut last) = (Gathered::default(), false);
            if self.answers.is_empty() {
                let room = self.writes.len() < AT_A_TIME;
                let idle = self.writes.is_empty() && self.handlings.is_empty();
                tokio::select! {
                    biased;
                    Some(answers) = self.writes.next() => self.answers.extend(answers),
                    Some(ended) = self.handlings.join_next() => self.answers.extend(answers_of(ended)),
                    Some(note) = self.notes.recv(), if room => self.note(note, &mut gathered.tapes),
                    Some(settling) = self.settlements.recv(), if room => gathered.settlements.push(settling),
                    () = until(self.later.keys().next().map(|key| key.0)), if room => {}
                    () = finished.cancelled(), if idle => last = true,
                }
            }
            self.tell(&mut gathered);
            self.gather(&mut gathered).await;
            self.ripe(Instant::now(), &mut gathered.tapes);
            let begun = self.begin(gathered);
            if last && !begun {
                return;
            }
        }
    }

    /// Tells some tapes what was written; what waited for that is to be written next.
    fn tell(&mut self, gathered: &mut Gathered) {
        for answer in self.answers.drain(..self.answers.len().min(PORTION)) {
            let lease = answer.tell();
            let Next { more, settling } = self.writing.remove(&lease).unwrap_or_default();
            gathered.tapes.extend(more);
            gathered.settlements.extend(settling);
        }
    }

    /// Lets what is ready to run do so, as long as that brings more to write: a commit for all of it is cheaper.
    async fn gather(&mut self, gathered: &mut Gathered) {
        let mut before = None;
        for _ in 0..ROUNDS {
            // In this order: what an attempt has to write was announced before its settlement.
            while let Ok(settling) = self.settlements.try_recv() {
                gathered.settlements.push(settling);
            }
            while let Ok(note) = self.notes.try_recv() {
                self.note(note, &mut gathered.tapes);
            }
            if before.replace(gathered.len()) == Some(gathered.len()) {
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    fn note(&mut self, Note { tape, wait }: Note, tapes: &mut Vec<Arc<Tape>>) {
        if wait <= AT_ONCE {
            tapes.push(tape);
        } else {
            self.noted += 1;
            self.later.insert((Instant::now() + wait, self.noted), tape);
        }
    }

    fn ripe(&mut self, now: Instant, tapes: &mut Vec<Arc<Tape>>) {
        while let Some(entry) = self.later.first_entry() {
            if entry.key().0 > now {
                return;
            }
            tapes.push(entry.remove());
        }
    }

    /// Begins to write; gives whether there was anything that could be.
    fn begin(&mut self, Gathered { tapes, settlements }: Gathered) -> bool {
        let before = self.writes.len() + self.handlings.len();
        let records: Vec<_> = tapes.into_iter().filter_map(|tape| self.take(tape)).collect();
        if !records.is_empty() {
            self.writes.push(record(self.store.clone(), records).boxed());
        }
        let settlements: Vec<_> = settlements.into_iter().filter_map(|settling| self.free(settling)).collect();
        if !settlements.is_empty() {
            self.writes.push(settle(self.store.clone(), settlements).boxed());
        }
        self.writes.len() + self.handlings.len() > before
    }

    /// What there is to record of an attempt, unless that has to wait, or to go with values for handlers.
    fn take(&mut self, tape: Arc<Tape>) -> Option<(Arc<Tape>, Record)> {
        let lease = tape.lease();
        if let Some(next) = self.writing.get_mut(&lease) {
            if next.more.is_none() || !tape.is_fenced() {
                next.more = Some(tape);
            }
            return None;
        }
        let taken = tape.take();
        if taken.is_empty() {
            return None;
        }
        self.writing.insert(lease, Next::default());
        let Taken { steps, works, memos, jobs, progress } = taken;
        let record = Record { lease, steps, memos, jobs, progress, passed: false };
        if works.is_empty() {
            return Some((tape, record));
        }
        self.handlings.spawn(handle(self.store.clone(), tape, record, works));
        None
    }

    /// The settlement, unless it has to wait: that would fence off what is being written.
    fn free(&mut self, settling: Settling) -> Option<Settling> {
        let Hold::Lease(lease) = settling.0.hold else { return Some(settling) };
        match self.writing.get_mut(&lease) {
            Some(next) => {
                next.settling.push(settling);
                None
            }
            None => Some(settling),
        }
    }
}

/// What a tape is to be told.
enum Answer {
    Wrote(Arc<Tape>, Count),
    Fenced(Arc<Tape>),
    /// It was told already.
    Told(Arc<Tape>),
}

impl Answer {
    /// Tells it to the tape; gives the lease of that.
    fn tell(self) -> Lease {
        match self {
            Self::Wrote(tape, count) => {
                tape.wrote(count);
                tape.lease()
            }
            Self::Fenced(tape) => {
                tape.fence();
                tape.lease()
            }
            Self::Told(tape) => tape.lease(),
        }
    }
}

async fn record(store: Arc<dyn Store>, records: Vec<(Arc<Tape>, Record)>) -> Vec<Answer> {
    let (tapes, records): (Vec<_>, Vec<_>) = records.into_iter().unzip();
    match persist("record steps", || store.record(records.clone())).await {
        Ok(written) => {
            let answer = |((tape, record), written): ((_, &Record), _)| match written {
                Written::Yes => {
                    Answer::Wrote(tape, Count { steps: record.steps.len() as u64, memos: record.memos.len() as u64 })
                }
                Written::Fenced => Answer::Fenced(tape),
            };
            tapes.into_iter().zip(&records).zip(written).map(answer).collect()
        }
        Err(error) => {
            tracing::error!(%error, "steps cannot be recorded; their attempts are given up");
            tapes.into_iter().map(Answer::Fenced).collect()
        }
    }
}

/// What came of handlers. Their own panics are caught where they run.
fn answers_of(ended: std::result::Result<Vec<Answer>, JoinError>) -> Vec<Answer> {
    ended.unwrap_or_else(|panicked| resume_unwind(panicked.into_panic()))
}

/// Writes what else there is of a tape, and then has the handlers of these values run, which must not overtake it.
async fn handle(store: Arc<dyn Store>, tape: Arc<Tape>, record: Record, works: Vec<Arc<Work>>) -> Vec<Answer> {
    if !record.steps.is_empty() || !record.memos.is_empty() || record.progress.is_some() {
        for answer in self::record(store.clone(), vec![(tape.clone(), record)]).await {
            answer.tell();
        }
    }
    transact(&*store, &tape, works).await;
    vec![Answer::Told(tape)]
}

/// Has the store run the handlers of these values, as many as it takes on at a time.
async fn transact(store: &dyn Store, tape: &Arc<Tape>, mut works: Vec<Arc<Work>>) {
    let lease = Some(tape.lease());
    match persist("run handlers", || store.transact(lease, works.clone())).await {
        Ok(Transacted::Upto(seq)) => {
            tape.handled(seq);
            works.retain(|work| work.seq >= seq);
            if !works.is_empty() {
                tape.put_back(works);
            }
        }
        Ok(Transacted::Failed(seq)) => {
            tape.handled(seq);
            tape.fail(Stopped::Released);
        }
        Ok(Transacted::Spent(seq)) => {
            tracing::warn!(lease = ?tape.lease(), seq, "what handlers wrote was not committed; the job starts again");
            tape.handled(seq);
            tape.release();
        }
        Ok(Transacted::Fenced) => tape.fence(),
        Err(error) => tape.fail(Stopped::Error(Box::new(error))),
    }
}

async fn settle(store: Arc<dyn Store>, settlements: Vec<Settling>) -> Vec<Answer> {
    let (settlements, answers): (Vec<_>, Vec<_>) = settlements.into_iter().unzip();
    match persist("settle attempts", || store.settle(settlements.clone())).await {
        Ok(written) => {
            for (answer, written) in answers.into_iter().zip(written) {
                // Whoever asked may be gone; the job is settled all the same.
                let _ = answer.send(written);
            }
        }
        Err(error) => tracing::error!(%error, "attempts cannot be settled; their leases will run out"),
    }
    Vec::new()
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Calls `write` until the store is there to carry it out.
pub(crate) async fn persist<T, F: Future<Output = Result<T>>>(doing: &str, write: impl Fn() -> F) -> Result<T> {
    let mut wait = Duration::from_millis(50);
    loop {
        match write().await {
            Err(error @ Error::Store { .. }) => {
                tracing::warn!(error = crate::error::chain(&error), ?wait, "the store did not {doing}; trying again");
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(Duration::from_secs(5));
            }
            answer => return answer,
        }
    }
}
