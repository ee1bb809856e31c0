//! Writes what a worker's attempts have handled, and how they ended: many jobs in one commit.
//!
//! Of one attempt there is one write at a time, in the order of its making; those of different attempts do not wait for
//! each other.

use std::{
    collections::{HashMap, VecDeque},
    panic::{AssertUnwindSafe, resume_unwind},
    sync::Arc,
    time::Duration,
};

use futures::{
    FutureExt as _, StreamExt as _,
    future::{BoxFuture, join_all},
    stream::FuturesUnordered,
};
use tokio::{
    sync::{mpsc, oneshot},
    task::{JoinError, JoinSet},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{later::Later, retrying::RetryingStore};
use crate::{
    error::{Error, Result, chain},
    execution::{
        journal::{Batch, Count, FlushRequest, Journal},
        stopped::Stopped,
    },
    model::{job::Lease, pending::PendingStep},
    runtime::guard::drop_guarded,
    store::{Hold, Record, Settlement, Transacted, Written},
};

/// Steps that may wait no longer than this are written at once: that makes the larger commits when the store is busy,
/// and the earlier ones when it is idle.
const AT_ONCE: Duration = Duration::from_millis(5);

/// So often what is ready to run may do so first, as long as that brings more to write: a commit for all of it is cheaper.
const ROUNDS: usize = 4;

/// How many journals hear at a time that their steps are durable: what comes of that is on its way to the store before the
/// next ones hear of it.
const PORTION: usize = 32;

/// So many writes are under way at a time. More would bring nothing, and all of them try again when the store is away.
const AT_A_TIME: usize = 8;

/// How an attempt ended, and where the answer goes when that is written, or refused.
type Settling = (Settlement, oneshot::Sender<Result<Written>>);

/// Where an attempt says how it ended.
pub(crate) type Settlements = mpsc::UnboundedSender<Settling>;

/// The writer of one worker.
pub(crate) struct Recorder {
    store: Arc<RetryingStore>,
    requests: mpsc::UnboundedReceiver<FlushRequest>,
    settlements: mpsc::UnboundedReceiver<Settling>,
    /// Journals whose steps may wait.
    later: Later<Journal>,
    /// What is being written,
    writes: Writes,
    /// and which handlers run in transactions: code of the tasks, which may take its time and holds up no writes.
    handlings: JoinSet<Vec<Answer>>,
    /// What came of them, to be reported to their journals.
    answers: VecDeque<Answer>,
    /// The attempts of which something is being written, and what has to wait for that.
    writing: HashMap<Lease, Next>,
}

/// Writes under way, each with what it comes to.
type Writes = FuturesUnordered<BoxFuture<'static, Vec<Answer>>>;

/// What an attempt came to while something of it was being written.
#[derive(Default)]
struct Next {
    /// There is more on its journal. Where a store has given the same lease again, having forgotten the first one, this is the
    /// journal that is not fenced.
    more: Option<Arc<Journal>>,
    settling: Vec<Settling>,
}

/// What there is to write.
#[derive(Default)]
struct Gathered {
    journals: Vec<Arc<Journal>>,
    settlements: Vec<Settling>,
}

impl Gathered {
    fn len(&self) -> usize {
        self.journals.len() + self.settlements.len()
    }
}

impl Recorder {
    pub(crate) fn new(
        store: Arc<RetryingStore>,
        requests: mpsc::UnboundedReceiver<FlushRequest>,
        settlements: mpsc::UnboundedReceiver<Settling>,
    ) -> Self {
        Self {
            store,
            requests,
            settlements,
            later: Later::default(),
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
                    Some(request) = self.requests.recv(), if room => self.request(request, &mut gathered.journals),
                    Some(settling) = self.settlements.recv(), if room => gathered.settlements.push(settling),
                    () = until(self.later.next()), if room => {}
                    () = finished.cancelled(), if idle => last = true,
                }
            }
            self.report(&mut gathered);
            self.gather(&mut gathered).await;
            self.later.take_ripe(Instant::now(), &mut gathered.journals);
            let begun = self.begin(gathered);
            if last && !begun {
                return;
            }
        }
    }

    /// Reports to some journals what was written; what waited for that is to be written next.
    fn report(&mut self, gathered: &mut Gathered) {
        for answer in self.answers.drain(..self.answers.len().min(PORTION)) {
            let lease = answer.report();
            let Next { more, settling } = self.writing.remove(&lease).unwrap_or_default();
            gathered.journals.extend(more);
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
            while let Ok(request) = self.requests.try_recv() {
                self.request(request, &mut gathered.journals);
            }
            if before.replace(gathered.len()) == Some(gathered.len()) {
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    fn request(&mut self, FlushRequest { journal, wait }: FlushRequest, journals: &mut Vec<Arc<Journal>>) {
        if wait <= AT_ONCE {
            journals.push(journal);
        } else {
            self.later.put(journal.lease(), Instant::now() + wait, &journal);
        }
    }

    /// Begins to write; gives whether there was anything that could be.
    fn begin(&mut self, Gathered { journals, settlements }: Gathered) -> bool {
        let before = self.writes.len() + self.handlings.len();
        let records: Vec<_> = journals.into_iter().filter_map(|journal| self.take(journal)).collect();
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
    fn take(&mut self, journal: Arc<Journal>) -> Option<(Arc<Journal>, Record)> {
        let lease = journal.lease();
        if let Some(next) = self.writing.get_mut(&lease) {
            if next.more.is_none() || !journal.is_fenced() {
                next.more = Some(journal);
            }
            return None;
        }
        let batch = journal.take();
        // Behind what the store has refused, the rest would leave a gap.
        if batch.is_empty() || journal.has_failed() {
            return None;
        }
        self.writing.insert(lease, Next::default());
        let Batch { steps, pending, memos, jobs, progress } = batch;
        let record = Record { lease, steps, memos, jobs, progress, passed: false };
        if pending.is_empty() {
            return Some((journal, record));
        }
        self.handlings.spawn(handle(self.store.clone(), journal, record, pending));
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
            None => {
                self.later.forget(lease);
                Some(settling)
            }
        }
    }
}

/// What a write comes to, for its journal.
enum Answer {
    Wrote(Arc<Journal>, Count),
    /// So many are written, and the store refuses the next.
    Refused(Arc<Journal>, Count, Error),
    Fenced(Arc<Journal>),
    /// The journal knows already.
    Reported(Arc<Journal>),
}

impl Answer {
    /// Reports it to the journal; gives the lease of that.
    fn report(self) -> Lease {
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

async fn record(store: Arc<RetryingStore>, records: Vec<(Arc<Journal>, Record)>) -> Vec<Answer> {
    let (journals, records): (Vec<_>, Vec<_>) = records.into_iter().unzip();
    let records: Arc<[Record]> = records.into();
    match store.persist("record steps", || store.store.record(Arc::clone(&records))).await {
        Ok(written) => {
            let answer = |((journal, record), written): ((_, &Record), _)| match written {
                Written::Yes => Answer::Wrote(journal, count(record)),
                Written::Fenced => Answer::Fenced(journal),
            };
            journals.into_iter().zip(&*records).zip(written).map(answer).collect()
        }
        // No repetition of all of it helps: which of them is to blame shows where each is written by itself.
        Err(_) => {
            let each = journals.into_iter().zip(&*records);
            join_all(each.map(|(journal, record)| record_in_parts(&store, journal, record.clone()))).await
        }
    }
}

/// Records as much of it as the store does not refuse.
async fn record_in_parts(store: &RetryingStore, journal: Arc<Journal>, record: Record) -> Answer {
    let (mut left, mut written) = (vec![record], Count::default());
    while let Some(record) = left.pop() {
        let alone = Arc::new([record]);
        match store.persist("record steps", || store.store.record(alone.clone())).await {
            Ok(answers) if answers == [Written::Yes] => written += count(&alone[0]),
            Ok(_) => return Answer::Fenced(journal),
            Err(error) if error.is_refusal() => match halves(&alone[0]) {
                Some([first, second]) => left.extend([second, first]),
                None => return Answer::Refused(journal, written, error),
            },
            Err(error) => {
                tracing::error!(error = chain(&error), lease = ?journal.lease(), "steps cannot be recorded; their attempt is given up");
                return Answer::Fenced(journal);
            }
        }
    }
    Answer::Wrote(journal, written)
}

/// The first and the second half of some steps. Memos stand in one order with them that a record does not tell, and jobs
/// belong to their memos.
fn halves(record: &Record) -> Option<[Record; 2]> {
    if record.steps.len() < 2 || !record.memos.is_empty() {
        return None;
    }
    let mut first = record.clone();
    let steps = first.steps.split_off(first.steps.len() / 2);
    let second = Record { steps, ..first.clone() };
    Some([first, second])
}

fn count(record: &Record) -> Count {
    Count { steps: record.steps.len() as u64, memos: record.memos.len() as u64 }
}

/// What came of handlers. Their own panics are caught where they run.
fn answers_of(ended: std::result::Result<Vec<Answer>, JoinError>) -> Vec<Answer> {
    ended.unwrap_or_else(|panicked| resume_unwind(panicked.into_panic()))
}

/// Writes what else there is of a journal, and then has the handlers of these values run, which must not overtake it.
async fn handle(
    store: Arc<RetryingStore>,
    journal: Arc<Journal>,
    record: Record,
    pending: Vec<Arc<PendingStep>>,
) -> Vec<Answer> {
    if !record.steps.is_empty() || !record.memos.is_empty() || record.progress.is_some() {
        for answer in self::record(store.clone(), vec![(journal.clone(), record)]).await {
            answer.report();
        }
    }
    if journal.has_failed() {
        // What the values do when they are dropped is the task's own affair.
        drop_guarded(pending);
    // Handlers have guards of their own. Whatever else unwinds ends the attempt alone, and not the recorder.
    } else if let Err(payload) = AssertUnwindSafe(transact(&store, &journal, pending)).catch_unwind().await {
        journal.fail(Stopped::panic(payload));
    }
    vec![Answer::Reported(journal)]
}

/// Has the store run the handlers of these values, as many as it takes on at a time.
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

async fn settle(store: Arc<RetryingStore>, settlements: Vec<Settling>) -> Vec<Answer> {
    let (settlements, answers): (Vec<_>, Vec<_>) = settlements.into_iter().unzip();
    for (answer, written) in answers.into_iter().zip(settle_all(&store, settlements).await) {
        // Whoever asked may be gone; the job is settled all the same.
        let _ = answer.send(written);
    }
    Vec::new()
}

/// Settles attempts, in one call if the store refuses none of them; else one that it refuses fails by itself.
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

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::{
        clock::{AppClock, Clock},
        environment::outage::Outage,
        model::{
            job::{JobCall, JobId, NewJob, NextState, Reply, WorkerId},
            json::Json,
            lifecycle::Outcome,
        },
        store::{Ask, Memory, Store as _, Suspects},
    };

    /// A lease of a job in this store.
    async fn leased(store: &Memory) -> Lease {
        let now = Timestamp::UNIX_EPOCH;
        let (id, args) = (JobId::new(), Json::from_stored("{}"));
        let (task, queue) = ("task".to_owned(), "default".to_owned());
        let call = JobCall { id, task, queue, priority: 0, args, max_time: None, enqueued: now };
        let job = NewJob { call, due: now };
        store.enqueue(vec![job]).await.unwrap();
        let worker = WorkerId::new();
        let (queues, tasks) = (["default".to_owned()].into(), ["task"].into());
        let ask = Ask { worker, queues, tasks, limit: 1, suspects: Suspects::PassOver, now };
        store.lease(ask).await.unwrap().jobs[0].lease().unwrap()
    }

    fn settlement(lease: Lease) -> Settlement {
        let next = NextState::Waiting { due: Timestamp::UNIX_EPOCH };
        let outcome = Outcome { next, failures: 0, suspect: None };
        Settlement { hold: Hold::Lease(lease), outcome, steps: None, attempt: None, now: Timestamp::UNIX_EPOCH }
    }

    #[tokio::test]
    async fn what_a_settled_attempt_has_gathered_is_freed_at_once() {
        let store = Arc::new(Memory::new());
        let lease = leased(&store).await;
        let ((tell, requests), (settle, settlements)) = (mpsc::unbounded_channel(), mpsc::unbounded_channel());
        let outage = Outage::new(Arc::new(AppClock::new(Clock::System)));
        let recorder = Recorder::new(RetryingStore::new(store.clone(), outage), requests, settlements);
        let finished = CancellationToken::new();
        let running = tokio::spawn(recorder.run(finished.clone(), CancellationToken::new()));
        let journal = Journal::new(lease, Arc::new(|| true), Count::default(), Duration::from_secs(60), tell);
        journal.push(1, Reply::Value(Json::from_stored("1")));
        journal.flush().await.unwrap();
        let (settled, written) = oneshot::channel();
        settle.send((settlement(lease), settled)).unwrap();
        assert_eq!(written.await.unwrap().unwrap(), Written::Yes);
        assert_eq!(store.steps(lease.job, 0, 9).await.unwrap().len(), 1);
        let kept = Arc::downgrade(&journal);
        drop(journal);
        assert!(kept.upgrade().is_none(), "it waits for its minute");
        finished.cancel();
        running.await.unwrap();
    }
}
