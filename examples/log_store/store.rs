//! The store: takes calls, writes what they change to the log, and notifies those that wait.

use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use jiff::Timestamp;
use qtasks::{
    BoxError, Error, Result,
    job::{Attempt, Counts, Job, JobId, Memo, NewJob, Reply, Standing, State, Step, WorkerId},
    store::{
        Ask, Budget, Find, Joined, LaneCounts, Leased, Note, NoteChange, Notifier, Page, Placement, Presence, Rate,
        RateSpan, Record, Renewed, Settlement, Store, Written,
    },
    unique::Holder,
};
use tokio::task::spawn_blocking;

use crate::{
    draft::Draft,
    log::Log,
    table::{Change, Entry, Table},
};

/// Jobs in a log file.
pub(crate) struct LogStore {
    path: PathBuf,
    inner: Arc<Inner>,
}

struct Inner {
    kept: Mutex<Kept>,
    notifier: Notifier,
}

struct Kept {
    table: Table,
    log: Log,
}

impl LogStore {
    pub(crate) fn open(path: PathBuf) -> Result<Self> {
        let mut table = Table::default();
        let log = Log::open(&path, |changes| table.apply(changes)).map_err(|error| trouble("open its log", error))?;
        Ok(Self { path, inner: Arc::new(Inner { kept: Mutex::new(Kept { table, log }), notifier: Notifier::new() }) })
    }

    /// Carries out a call, whether or not somebody waits for it, where it may wait for the disk.
    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Kept, &Notifier) -> T + Send + 'static,
    ) -> Result<T> {
        let inner = Arc::clone(&self.inner);
        let work = spawn_blocking(move || {
            work(&mut inner.kept.lock().unwrap_or_else(PoisonError::into_inner), &inner.notifier)
        });
        work.await.map_err(|error| trouble("carry out a call", error))
    }

    async fn change<T: Send + 'static>(
        &self,
        decide: impl FnOnce(&mut Draft<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.with(|kept, notifier| kept.change(decide, notifier)).await?
    }

    async fn look<T: Send + 'static>(&self, at: impl FnOnce(&mut Table) -> T + Send + 'static) -> Result<T> {
        self.with(|kept, _bell| at(&mut kept.table)).await
    }

    /// What `find` finds of a job; nothing where there is none.
    async fn look_at<T: Default + Send + 'static>(
        &self,
        id: JobId,
        find: impl FnOnce(&Entry) -> T + Send + 'static,
    ) -> Result<T> {
        self.look(move |table| table.entry(id).map(find).unwrap_or_default()).await
    }
}

impl Kept {
    fn change<T>(&mut self, decide: impl FnOnce(&mut Draft<'_>) -> Result<T>, notifier: &Notifier) -> Result<T> {
        let mut draft = Draft::of(&self.table);
        let answer = decide(&mut draft)?;
        let changes = draft.into_changes();
        if changes.is_empty() {
            return Ok(answer);
        }
        self.log.append(&changes).map_err(|error| trouble("write its log", error))?;
        // Whoever is woken looks when the lock is free, and then it is done.
        notify(notifier, &changes);
        self.table.apply(changes);
        Ok(answer)
    }
}

/// Rings for all who wait for one of these changes.
fn notify(notifier: &Notifier, changes: &[Change]) {
    let jobs = || changes.iter().filter_map(|change| if let Change::Job(job) = change { Some(job) } else { None });
    notifier.notify_jobs(jobs().map(|job| job.call.id));
    notifier.notify_ends(jobs().filter(|job| job.standing.state.is_ended()).map(|job| job.call.id));
    if jobs().any(|job| matches!(job.standing.state, State::Waiting { .. })) {
        notifier.notify_work();
    }
    if changes.iter().any(|change| matches!(change, Change::Note(_) | Change::NoteDeleted(..))) {
        notifier.notify_notes();
    }
}

/// An error after which the same call may be made again.
fn trouble(doing: &'static str, source: impl Into<BoxError>) -> Error {
    Error::Store { doing, source: source.into() }
}

impl fmt::Debug for LogStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogStore").field("path", &self.path).finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for LogStore {
    async fn enqueue(&self, jobs: Vec<NewJob>) -> Result<Vec<Joined>> {
        self.change(|draft| draft.enqueue(jobs)).await
    }

    async fn holder(&self, task: &str, key: &str) -> Result<Option<Holder>> {
        let key = (task.to_owned(), key.to_owned());
        self.look(move |table| Draft::of(table).holder(&key)).await
    }

    async fn lease(&self, ask: Ask) -> Result<Leased> {
        self.change(move |draft| Ok(draft.lease(&ask))).await
    }

    async fn renew(&self, worker: WorkerId, beat: u64) -> Result<Renewed> {
        let leases = self.look(move |table| table.renew(worker, beat)).await?;
        Ok(Renewed { leases, now: None })
    }

    async fn leave(&self, worker: WorkerId) -> Result<()> {
        self.with(move |kept, notifier| {
            kept.table.leave(worker);
            notifier.notify_lost();
        })
        .await
    }

    async fn workers(&self) -> Result<Vec<Presence>> {
        self.look(|table| table.workers()).await
    }

    async fn held(&self, worker: WorkerId, limit: usize) -> Result<Vec<Job>> {
        self.look(move |table| table.held(worker).take(limit).cloned().collect()).await
    }

    async fn forget(&self, worker: WorkerId, beat: Option<u64>) -> Result<()> {
        self.look(move |table| table.forget(worker, beat)).await
    }

    async fn record(&self, records: Arc<[Record]>) -> Result<Vec<Written>> {
        self.change(move |draft| records.iter().cloned().map(|record| draft.record(record)).collect()).await
    }

    async fn settle(&self, settlements: Arc<[Settlement]>) -> Result<Vec<Written>> {
        self.change(move |draft| Ok(settlements.iter().cloned().map(|settlement| draft.settle(settlement)).collect()))
            .await
    }

    async fn job(&self, id: JobId) -> Result<Option<Job>> {
        self.look_at(id, |entry| Some(entry.job.clone())).await
    }

    async fn standing(&self, id: JobId) -> Result<Option<(Standing, Counts)>> {
        self.look_at(id, |entry| Some((entry.job.standing.clone(), entry.job.counts))).await
    }

    async fn find(&self, find: Find, after: Option<JobId>, budget: Budget) -> Result<Page> {
        self.look(move |table| table.find(&find, after, budget)).await
    }

    async fn counts(&self, now: Timestamp) -> Result<Vec<LaneCounts>> {
        self.look(move |table| table.counts(now)).await
    }

    async fn add_rates(&self, rates: Vec<Rate>) -> Result<()> {
        self.change(move |draft| {
            draft.add_rates(rates);
            Ok(())
        })
        .await
    }

    async fn rates(&self, span: RateSpan, from: Timestamp, to: Timestamp) -> Result<Vec<Rate>> {
        self.look(move |table| table.rates(span, from, to)).await
    }

    async fn prune_rates(&self, minutes: Timestamp, hours: Timestamp) -> Result<()> {
        self.change(move |draft| {
            draft.prune_rates(minutes, hours);
            Ok(())
        })
        .await
    }

    async fn notes(&self, kind: &str) -> Result<Vec<Note>> {
        let kind = kind.to_owned();
        self.look(move |table| table.notes(&kind)).await
    }

    async fn note(&self, changes: Vec<NoteChange>, jobs: Vec<NewJob>) -> Result<Written> {
        self.change(move |draft| Ok(draft.note(changes, jobs))).await
    }

    async fn place(&self, placement: Placement) -> Result<Written> {
        self.change(move |draft| Ok(draft.place(placement))).await
    }

    async fn steps(&self, id: JobId, from: u64, limit: usize) -> Result<Vec<Step>> {
        let from = usize::try_from(from).unwrap_or(usize::MAX);
        self.look_at(id, move |entry| entry.steps.iter().skip(from).take(limit).cloned().collect()).await
    }

    async fn last_step(&self, id: JobId) -> Result<Option<Step>> {
        self.look_at(id, |entry| entry.steps.iter().rfind(|step| matches!(step.reply, Reply::Value(_))).cloned()).await
    }

    async fn memos(&self, id: JobId, step: Option<u64>, from: u64, limit: usize) -> Result<Vec<Memo>> {
        let asked = move |memo: &&Memo| memo.step == step && memo.number >= from;
        self.look_at(id, move |entry| entry.memos.iter().filter(asked).take(limit).cloned().collect()).await
    }

    async fn attempts(&self, id: JobId) -> Result<Vec<Attempt>> {
        self.look_at(id, |entry| entry.attempts.clone()).await
    }

    async fn prune(&self, finished: Timestamp, dead: Timestamp, limit: usize) -> Result<usize> {
        self.change(move |draft| Ok(draft.prune(finished, dead, limit))).await
    }

    fn notifier(&self) -> &Notifier {
        &self.inner.notifier
    }
}
