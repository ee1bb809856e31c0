//! The store in memory.

use std::{
    fmt, mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use jiff::Timestamp;

use super::{
    contents::{Contents, Known},
    entry::to_millisecond,
};
use crate::{
    error::Result,
    model::{
        job::{Attempt, Counts, Job, JobId, Memo, NewJob, Standing, Step, WorkerId},
        unique::Holder,
    },
    store::{
        Ask, Budget, Changes, Expired, Find, Joined, Lane, LaneCounts, Leased, Note, NoteChange, Notifier, Page,
        Placement, Presence, Rate, RateSpan, Record, Renewed, Scheme, Settlement, Store, Written,
    },
};

inventory::submit! {
    Scheme { name: "memory", form: "memory:", open: |_url| Box::pin(async { Ok(Arc::new(Memory::new()) as Arc<dyn Store>) }) }
}

/// A store that lives and dies with the process.
#[derive(Default)]
pub struct Memory {
    contents: Mutex<Contents>,
    notifier: Notifier,
}

impl Memory {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn contents(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").field("jobs", &self.contents().jobs.len()).finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for Memory {
    async fn enqueue(&self, jobs: Vec<NewJob>) -> Result<Vec<Joined>> {
        let joined = self.contents().enqueue(jobs)?;
        self.notifier.notify(&Changes::enqueued());
        joined.iter().for_each(|joined| self.notifier.notify(&Changes::placed(joined.holder)));
        Ok(joined)
    }

    async fn holder(&self, task: &str, key: &str) -> Result<Option<Holder>> {
        Ok(self.contents().holder(&(task.to_owned(), key.to_owned())))
    }

    async fn lease(&self, ask: Ask) -> Result<Leased> {
        Ok(self.contents().lease(&ask))
    }

    async fn renew(&self, worker: WorkerId, beat: u64) -> Result<Renewed> {
        let mut contents = self.contents();
        contents.workers.insert(worker, Known::Beat(beat));
        let leases = contents.held(worker).filter_map(Job::lease).collect();
        Ok(Renewed { leases, now: None })
    }

    async fn leave(&self, worker: WorkerId) -> Result<()> {
        if self.contents().leave(worker) {
            self.notifier.notify_lost();
        }
        Ok(())
    }

    async fn workers(&self) -> Result<Vec<Presence>> {
        Ok(self.contents().workers())
    }

    async fn held(&self, worker: WorkerId, limit: usize) -> Result<Vec<Job>> {
        Ok(self.contents().held(worker).take(limit).cloned().collect())
    }

    async fn forget(&self, worker: WorkerId, beat: Option<u64>) -> Result<()> {
        let mut contents = self.contents();
        if contents.beat(worker) == beat && !contents.index.held.contains_key(&worker) {
            contents.workers.remove(&worker);
        }
        Ok(())
    }

    async fn record(&self, records: Arc<[Record]>) -> Result<Vec<Written>> {
        let written = self.contents().record(&records)?;
        self.notifier.notify(&Changes::recorded(&*records));
        Ok(written)
    }

    async fn settle(&self, settlements: Arc<[Settlement]>) -> Result<Vec<Written>> {
        let mut contents = self.contents();
        let written = settlements.iter().map(|settlement| contents.settle(settlement.clone())).collect();
        let released = mem::take(&mut contents.released);
        drop(contents);
        self.notifier.notify(&Changes::settled(&*settlements));
        self.notifier.notify(&released);
        Ok(written)
    }

    async fn job(&self, id: JobId) -> Result<Option<Job>> {
        Ok(self.contents().jobs.get(&id).map(|entry| entry.job.clone()))
    }

    async fn standing(&self, id: JobId) -> Result<Option<(Standing, Counts)>> {
        let contents = self.contents();
        Ok(contents.jobs.get(&id).map(|entry| (entry.job.standing.clone(), entry.job.counts)))
    }

    async fn find(&self, find: Find, after: Option<JobId>, budget: Budget) -> Result<Page> {
        Ok(self.contents().find(&find, after, budget))
    }

    async fn counts(&self, now: Timestamp) -> Result<Vec<LaneCounts>> {
        Ok(self.contents().counts(now))
    }

    async fn add_rates(&self, rates: Vec<Rate>) -> Result<()> {
        self.contents().add_rates(rates);
        Ok(())
    }

    async fn rates(&self, span: RateSpan, from: Timestamp, to: Timestamp) -> Result<Vec<Rate>> {
        Ok(self.contents().rates(span, from..to))
    }

    async fn prune_rates(&self, minutes: Timestamp, hours: Timestamp) -> Result<()> {
        self.contents().rates.retain(|(span, from, _), _| match span {
            RateSpan::Minute => *from >= minutes,
            RateSpan::Hour => *from >= hours,
        });
        Ok(())
    }

    async fn notes(&self, kind: &str) -> Result<Vec<Note>> {
        Ok(self.contents().notes.values().filter(|note| note.kind == kind).cloned().collect())
    }

    async fn note(&self, changes: Vec<NoteChange>, jobs: Vec<NewJob>) -> Result<Written> {
        let noted = Changes::noted(&changes, &jobs);
        let written = self.contents().note(changes, jobs);
        self.notifier.notify(&noted);
        Ok(written)
    }

    async fn place(&self, placement: Placement) -> Result<Written> {
        let placed = Changes::placed(placement.job);
        let written = self.contents().place(placement);
        self.notifier.notify(&placed);
        Ok(written)
    }

    async fn expired(&self, now: Timestamp, limit: usize) -> Result<Expired> {
        Ok(self.contents().expired(to_millisecond(now), limit))
    }

    async fn due_lanes(&self, now: Timestamp) -> Result<Vec<Lane>> {
        let contents = self.contents();
        let lanes = contents.index.lanes.iter().flat_map(|(queue, tasks)| tasks.iter().map(move |task| (queue, task)));
        let due =
            lanes.filter(|(_, (_, lanes))| lanes.iter().any(|lane| lane.first_due().is_some_and(|due| due <= now)));
        Ok(due.map(|(queue, (task, _))| Lane { queue: queue.clone(), task: task.clone() }).collect())
    }

    async fn steps(&self, id: JobId, from: u64, limit: usize) -> Result<Vec<Step>> {
        let contents = self.contents();
        let Some(entry) = contents.jobs.get(&id) else { return Ok(Vec::new()) };
        let from = usize::try_from(from).unwrap_or(usize::MAX);
        Ok(entry.steps.iter().skip(from).take(limit).cloned().collect())
    }

    async fn last_step(&self, id: JobId) -> Result<Option<Step>> {
        let contents = self.contents();
        let Some(entry) = contents.jobs.get(&id) else { return Ok(None) };
        Ok(entry.steps.iter().rfind(|step| !step.reply.is_skipped()).cloned())
    }

    async fn memos(&self, id: JobId, step: Option<u64>, from: u64, limit: usize) -> Result<Vec<Memo>> {
        let contents = self.contents();
        let Some(entry) = contents.jobs.get(&id) else { return Ok(Vec::new()) };
        let asked = entry.memos.iter().filter(|memo| memo.step == step && memo.number >= from);
        Ok(asked.take(limit).cloned().collect())
    }

    async fn attempts(&self, id: JobId) -> Result<Vec<Attempt>> {
        Ok(self.contents().jobs.get(&id).map(|entry| entry.attempts.clone()).unwrap_or_default())
    }

    async fn prune(&self, finished: Timestamp, dead: Timestamp, limit: usize) -> Result<usize> {
        Ok(self.contents().prune(to_millisecond(finished), to_millisecond(dead), limit))
    }

    fn notifier(&self) -> &Notifier {
        &self.notifier
    }
}
