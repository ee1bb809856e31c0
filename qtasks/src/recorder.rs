//! Writes what a worker's attempts have handled, and how they ended: many jobs in one commit.

use std::{
    collections::{BTreeMap, HashMap},
    panic::resume_unwind,
    sync::Arc,
    time::Duration,
};

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
    store::{Record, Settlement, Store, Transacted, Written},
    tape::{Count, Note, Taken, Tape},
    work::Work,
};

/// Steps that may wait no longer than this are written at once: that makes the larger commits when the store is busy,
/// and the earlier ones when it is idle.
const AT_ONCE: Duration = Duration::from_millis(5);

/// So often what is ready to run may do so first, as long as that brings more to write: a commit for all of it is cheaper.
const ROUNDS: usize = 4;

/// Where an attempt says how it ended.
pub(crate) type Settlements = mpsc::UnboundedSender<(Settlement, oneshot::Sender<Written>)>;

/// The writer of one worker.
pub(crate) struct Recorder {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) notes: mpsc::UnboundedReceiver<Note>,
    pub(crate) settlements: mpsc::UnboundedReceiver<(Settlement, oneshot::Sender<Written>)>,
    /// Tapes whose steps may wait, by the time until which they may.
    pub(crate) later: BTreeMap<(Instant, u64), Arc<Tape>>,
    pub(crate) noted: u64,
    pub(crate) handlers: Handlers,
}

/// Handlers that run in transactions of the store, those of one attempt at a time.
#[derive(Default)]
pub(crate) struct Handlers {
    running: JoinSet<Arc<Tape>>,
    /// The attempts whose handlers run, and whether there is more to write since.
    busy: HashMap<Lease, bool>,
}

impl Recorder {
    /// Writes until `finished`, and then what is left. When the store is away, it waits for its return, but no longer
    /// once `given_up`.
    pub(crate) async fn run(mut self, finished: CancellationToken, given_up: CancellationToken) {
        loop {
            let mut tapes = Vec::new();
            let mut settlements = Vec::new();
            let last = tokio::select! {
                biased;
                Some(note) = self.notes.recv() => { self.note(note, &mut tapes); false }
                Some(settlement) = self.settlements.recv() => { settlements.push(settlement); false }
                Some(tape) = self.handlers.next() => { tapes.extend(tape); false }
                () = until(self.later.keys().next().map(|key| key.0)) => false,
                () = finished.cancelled() => true,
            };
            let mut gathered = 0;
            for _ in 0..ROUNDS {
                // In this order: the steps of an attempt were announced before its settlement.
                while let Ok(settlement) = self.settlements.try_recv() {
                    settlements.push(settlement);
                }
                while let Ok(note) = self.notes.try_recv() {
                    self.note(note, &mut tapes);
                }
                while let Some(tape) = self.handlers.try_next() {
                    tapes.extend(tape);
                }
                let count = settlements.len() + tapes.len();
                if count == gathered {
                    break;
                }
                gathered = count;
                tokio::task::yield_now().await;
            }
            self.ripe(Instant::now(), &mut tapes);
            let Self { store, handlers, .. } = &mut self;
            let writes = async {
                tokio::join!(write(store, handlers, tapes), settle(store, settlements));
            };
            tokio::select! {
                () = writes => {}
                () = given_up.cancelled() => return,
            }
            if last {
                return;
            }
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
}

impl Handlers {
    /// Waits until the handlers of an attempt have run; gives its tape if there is more to write. Nothing where none run.
    async fn next(&mut self) -> Option<Option<Arc<Tape>>> {
        self.running.join_next().await.map(|ended| self.freed(ended))
    }

    /// The same without waiting.
    fn try_next(&mut self) -> Option<Option<Arc<Tape>>> {
        self.running.try_join_next().map(|ended| self.freed(ended))
    }

    fn freed(&mut self, ended: Result<Arc<Tape>, JoinError>) -> Option<Arc<Tape>> {
        let tape = ended.unwrap_or_else(|panicked| resume_unwind(panicked.into_panic()));
        let has_more = self.busy.remove(&tape.lease());
        has_more.unwrap_or(false).then_some(tape)
    }

    /// Whether handlers of the tape run: then it comes again afterwards.
    fn put_off(&mut self, tape: &Tape) -> bool {
        self.busy.get_mut(&tape.lease()).map(|has_more| *has_more = true).is_some()
    }

    /// Has the tape come again only when its handlers have run.
    fn begin(&mut self, tape: &Tape) {
        self.busy.entry(tape.lease()).or_insert(false);
    }

    /// Has the store run the handlers of these values, as many as it takes on at a time.
    fn run(&mut self, store: &Arc<dyn Store>, tape: Arc<Tape>, works: Vec<Arc<Work>>) {
        self.begin(&tape);
        let store = Arc::clone(store);
        self.running.spawn(async move {
            transact(&*store, &tape, works).await;
            tape
        });
    }
}

/// Writes what is on the tapes, of each in its order: its handlers do not overtake what the body did before.
async fn write(store: &Arc<dyn Store>, handlers: &mut Handlers, tapes: Vec<Arc<Tape>>) {
    let (mut records, mut behind) = (Vec::new(), Vec::new());
    for tape in tapes {
        if handlers.put_off(&tape) {
            continue;
        }
        let Taken { steps, works, memos, jobs, progress } = tape.take();
        let has_record = !steps.is_empty() || !memos.is_empty() || progress.is_some();
        match works.is_empty() {
            true => {}
            false if has_record => {
                handlers.begin(&tape);
                behind.push((tape.clone(), works));
            }
            false => handlers.run(store, tape.clone(), works),
        }
        if has_record {
            let record = Record { lease: tape.lease(), steps, memos, jobs, progress };
            records.push((tape, record));
        }
    }
    record(&**store, records).await;
    for (tape, works) in behind {
        handlers.run(store, tape, works);
    }
}

async fn record(store: &dyn Store, records: Vec<(Arc<Tape>, Record)>) {
    if records.is_empty() {
        return;
    }
    let (tapes, records): (Vec<_>, Vec<_>) = records.into_iter().unzip();
    let written = persist("record steps", || store.record(records.clone())).await;
    match written {
        Ok(written) => {
            for ((tape, record), written) in tapes.into_iter().zip(&records).zip(written) {
                let Record { steps, memos, .. } = record;
                match written {
                    Written::Yes => tape.wrote(Count { steps: steps.len() as u64, memos: memos.len() as u64 }),
                    Written::Fenced => tape.fence(),
                }
            }
        }
        Err(error) => {
            tracing::error!(%error, "steps cannot be recorded; their attempts are given up");
            tapes.into_iter().for_each(|tape| tape.fence());
        }
    }
}

async fn transact(store: &dyn Store, tape: &Tape, mut works: Vec<Arc<Work>>) {
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

async fn settle(store: &Arc<dyn Store>, settlements: Vec<(Settlement, oneshot::Sender<Written>)>) {
    if settlements.is_empty() {
        return;
    }
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
