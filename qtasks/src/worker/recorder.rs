//! Writes what a worker's attempts have handled, and how they ended: many jobs in one commit.
//!
//! The writes of one attempt are made one at a time, in order. Those of different attempts do not wait for each other.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    delayed::Delayed,
    retrying::RetryingStore,
    writes::{Settling, WriteOutcome, handle, outcomes_of, record, settle},
};
use crate::{
    execution::journal::{Batch, FlushRequest, Journal},
    model::job::Lease,
    store::{Hold, Record},
};

/// Steps that may wait no longer than this are written at once: that makes the larger commits when the store is busy,
/// and the earlier ones when it is idle.
const AT_ONCE: Duration = Duration::from_millis(5);

/// How many times to yield to other tasks to gather more to write, as long as each time brings more: one commit for all of it
/// is cheaper.
const GATHER_ROUNDS: usize = 4;

/// How many journals learn at a time that their steps are durable: what their attempts write next is on its way to the store
/// before the others learn it.
const REPORTS_AT_A_TIME: usize = 32;

/// How many writes are under way at a time. More would bring nothing, and all of them are made again when the store is away.
const WRITES_AT_A_TIME: usize = 8;

/// Where an attempt hands in how it ended.
pub(crate) type Settlements = mpsc::UnboundedSender<Settling>;

/// The writer of one worker: decides what is written when, and in which order.
pub(crate) struct Recorder {
    store: Arc<RetryingStore>,
    requests: mpsc::UnboundedReceiver<FlushRequest>,
    settlements: mpsc::UnboundedReceiver<Settling>,
    /// Journals whose steps may wait.
    delayed: Delayed<Journal>,
    writes: Writes,
    /// Handlers that run in transactions. They are code of the tasks: they may take their time, and hold up no writes.
    handler_runs: JoinSet<Vec<WriteOutcome>>,
    /// The outcomes of writes and handler runs, yet to be reported to their journals.
    outcomes: VecDeque<WriteOutcome>,
    /// The attempts that have a write under way, and what has to wait for that.
    writing: HashMap<Lease, Deferred>,
}

/// The writes under way.
type Writes = FuturesUnordered<BoxFuture<'static, Vec<WriteOutcome>>>;

/// What an attempt hands in while a write of it is under way.
#[derive(Default)]
struct Deferred {
    /// Its journal, if that has more to write. Where a store has forgotten a lease and given the same one again, this is the
    /// journal that is not fenced.
    more: Option<Arc<Journal>>,
    settling: Vec<Settling>,
}

/// What the next writes are made of.
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
            delayed: Delayed::default(),
            writes: Writes::new(),
            handler_runs: JoinSet::new(),
            outcomes: VecDeque::new(),
            writing: HashMap::new(),
        }
    }

    /// Writes until `finished`, and then what is left. Waits for a store that is away, but not once the worker is `given_up`.
    pub(crate) async fn run(self, finished: CancellationToken, given_up: CancellationToken) {
        tokio::select! {
            () = self.write_on(finished) => {}
            () = given_up.cancelled() => {}
        }
    }

    async fn write_on(mut self, finished: CancellationToken) {
        loop {
            let (mut gathered, mut last) = (Gathered::default(), false);
            if self.outcomes.is_empty() {
                let room = self.writes.len() < WRITES_AT_A_TIME;
                let idle = self.writes.is_empty() && self.handler_runs.is_empty();
                tokio::select! {
                    biased;
                    Some(outcomes) = self.writes.next() => self.outcomes.extend(outcomes),
                    Some(ended) = self.handler_runs.join_next() => self.outcomes.extend(outcomes_of(ended)),
                    Some(request) = self.requests.recv(), if room => self.accept(request, &mut gathered.journals),
                    Some(settling) = self.settlements.recv(), if room => gathered.settlements.push(settling),
                    () = until(self.delayed.next()), if room => {}
                    () = finished.cancelled(), if idle => last = true,
                }
            }
            self.report(&mut gathered);
            self.gather(&mut gathered).await;
            self.delayed.take_due(Instant::now(), &mut gathered.journals);
            let begun = self.begin(gathered);
            if last && !begun {
                return;
            }
        }
    }

    /// Reports to some journals what was written, and gathers what waited for that.
    fn report(&mut self, gathered: &mut Gathered) {
        for answer in self.outcomes.drain(..self.outcomes.len().min(REPORTS_AT_A_TIME)) {
            let lease = answer.report();
            let Deferred { more, settling } = self.writing.remove(&lease).unwrap_or_default();
            gathered.journals.extend(more);
            gathered.settlements.extend(settling);
        }
    }

    /// Yields to other tasks as long as that brings more to write.
    async fn gather(&mut self, gathered: &mut Gathered) {
        let mut before = None;
        for _ in 0..GATHER_ROUNDS {
            // In this order: an attempt requests the flush of its steps before it hands in its settlement.
            while let Ok(settling) = self.settlements.try_recv() {
                gathered.settlements.push(settling);
            }
            while let Ok(request) = self.requests.try_recv() {
                self.accept(request, &mut gathered.journals);
            }
            if before.replace(gathered.len()) == Some(gathered.len()) {
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    fn accept(&mut self, FlushRequest { journal, wait }: FlushRequest, journals: &mut Vec<Arc<Journal>>) {
        if wait <= AT_ONCE {
            journals.push(journal);
        } else {
            self.delayed.insert(journal.lease(), Instant::now() + wait, &journal);
        }
    }

    /// Begins the writes of what was gathered; gives whether there were any.
    fn begin(&mut self, Gathered { journals, settlements }: Gathered) -> bool {
        let before = self.writes.len() + self.handler_runs.len();
        let records: Vec<_> = journals.into_iter().filter_map(|journal| self.take_record(journal)).collect();
        if !records.is_empty() {
            self.writes.push(record(self.store.clone(), records).boxed());
        }
        let settlements: Vec<_> =
            settlements.into_iter().filter_map(|settling| self.unless_writing(settling)).collect();
        if !settlements.is_empty() {
            self.writes.push(settle(self.store.clone(), settlements).boxed());
        }
        self.writes.len() + self.handler_runs.len() > before
    }

    /// Takes what there is to record of an attempt, unless that has to wait. Where values wait for their handlers to run in a
    /// transaction, that run begins here and records the rest first.
    fn take_record(&mut self, journal: Arc<Journal>) -> Option<(Arc<Journal>, Record)> {
        let lease = journal.lease();
        if let Some(next) = self.writing.get_mut(&lease) {
            if next.more.is_none() || !journal.is_fenced() {
                next.more = Some(journal);
            }
            return None;
        }
        let batch = journal.take();
        // After what the store has refused, the rest would leave a gap.
        if batch.is_empty() || journal.has_failed() {
            return None;
        }
        self.writing.insert(lease, Deferred::default());
        let Batch { steps, pending, memos, jobs, progress } = batch;
        let record = Record { lease, steps, memos, jobs, progress, passed: false };
        if pending.is_empty() {
            return Some((journal, record));
        }
        self.handler_runs.spawn(handle(self.store.clone(), journal, record, pending));
        None
    }

    /// Gives the settlement, unless a write of its attempt is under way: the settlement would fence off that.
    fn unless_writing(&mut self, settling: Settling) -> Option<Settling> {
        let Hold::Lease(lease) = settling.0.hold else { return Some(settling) };
        match self.writing.get_mut(&lease) {
            Some(next) => {
                next.settling.push(settling);
                None
            }
            None => {
                self.delayed.forget(lease);
                Some(settling)
            }
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
    use tokio::sync::oneshot;

    use super::*;
    use crate::{
        clock::{AppClock, Clock},
        environment::outage::Outage,
        execution::journal::EntryCount,
        model::{
            job::{JobCall, JobId, NewJob, NextState, Reply, WorkerId},
            json::Json,
            lifecycle::Outcome,
        },
        store::{Ask, Memory, Settlement, Store as _, Suspects, Written},
    };

    /// A lease of a job in this store.
    async fn leased(store: &Memory) -> Lease {
        let now = Timestamp::UNIX_EPOCH;
        let (id, args) = (JobId::new(), Json::from_stored("{}"));
        let (task, queue) = ("task".to_owned(), "default".to_owned());
        let call = JobCall {
            id,
            task,
            queue,
            priority: 0,
            args,
            max_time: None,
            expires: None,
            enqueued: now,
            trace: None,
            key: None,
            after: None,
        };
        let job = NewJob { call, due: now, unique: None };
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
        let ((flush_requests, requests), (settle, settlements)) =
            (mpsc::unbounded_channel(), mpsc::unbounded_channel());
        let outage = Outage::new(Arc::new(AppClock::new(Clock::System)));
        let recorder = Recorder::new(RetryingStore::new(store.clone(), outage), requests, settlements);
        let finished = CancellationToken::new();
        let running = tokio::spawn(recorder.run(finished.clone(), CancellationToken::new()));
        let journal =
            Journal::new(lease, Arc::new(|| true), EntryCount::default(), Duration::from_secs(60), flush_requests);
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
