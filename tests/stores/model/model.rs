//! A store that is plain to see through.

use std::{
    cmp::Reverse,
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use jiff::Timestamp;
use qtasks::{
    Duplicate, Error, Result,
    job::{Attempt, Counts, Job, JobId, Memo, NewJob, Reply, Standing, State, Step, Suspect, WorkerId},
    lifecycle,
    store::{
        Ask, Budget, Expired, Find, Hold, JobCounts, Joined, Lane, LaneCounts, Leased, Note, NoteChange, Notifier,
        Order, Page, Placement, Presence, Rate, RateSpan, Record, Renewed, Settlement, Store, Suspects, Written,
        search, trim_attempts,
    },
    unique::Holder,
};

use crate::keys::{Key, key_of};

/// A store that is plain to see through: lists, searched from end to end.
#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) known: Mutex<Known>,
    notifier: Notifier,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    pub(crate) jobs: Vec<Entry>,
    /// Each with the number of its last renewal; none, where it has left.
    workers: Vec<(WorkerId, Option<u64>)>,
    notes: Vec<Note>,
    pub(crate) keys: Vec<(Key, JobId, Option<Timestamp>)>,
    rates: Vec<Rate>,
}

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) job: Job,
    pub(crate) steps: Vec<Step>,
    pub(crate) memos: Vec<Memo>,
    pub(crate) attempts: Vec<Attempt>,
}

impl Model {
    pub(crate) fn find(&self, id: JobId) -> Option<Job> {
        self.known.lock().unwrap().find(id).map(|entry| entry.job.clone())
    }
}

impl Known {
    pub(crate) fn find(&mut self, id: JobId) -> Option<&mut Entry> {
        self.jobs.iter_mut().find(|entry| entry.job.call.id == id)
    }

    fn sorted(&self) -> Vec<Job> {
        let mut jobs: Vec<_> = self.jobs.iter().map(|entry| entry.job.clone()).collect();
        jobs.sort_by_key(|job| job.call.id);
        jobs
    }

    pub(crate) fn beat(&self, worker: WorkerId) -> Option<u64> {
        self.workers.iter().find(|(known, _)| *known == worker)?.1
    }

    fn holding(&self, worker: WorkerId) -> bool {
        self.jobs.iter().any(|entry| holder(&entry.job) == Some(worker))
    }

    fn forget(&mut self, worker: WorkerId) {
        self.workers.retain(|(known, _)| *known != worker);
    }

    fn holds(&self, job: &Job, hold: Hold) -> bool {
        match hold {
            Hold::Lease(lease) => holder(job) == Some(lease.worker) && job.standing.attempt == lease.attempt,
            Hold::Silent { lease, beat } => job.lease() == Some(lease) && self.beat(lease.worker) == beat,
            Hold::Seen { state, attempt, .. } => job.standing.attempt == attempt && job.standing.state.kind() == state,
        }
    }

    fn write(&mut self, record: Record) -> Result<Written> {
        let hold = Hold::Lease(record.lease);
        if !self.find(record.lease.job).map(|entry| entry.job.clone()).is_some_and(|job| self.holds(&job, hold)) {
            return Ok(Written::Fenced);
        }
        let entry = self.find(record.lease.job).unwrap();
        for step in record.steps {
            if step.seq > entry.steps.len() as u64 {
                return Err(Error::BrokenContract("a gap"));
            }
            if step.seq == entry.steps.len() as u64 {
                entry.steps.push(step);
                entry.job.standing.failures = 0;
                entry.job.standing.suspect =
                    entry.job.standing.suspect.map(|known| Suspect { losses: 0, liable: false, ..known });
            }
        }
        for memo in record.memos {
            if memo.number > entry.memos.len() as u64 {
                return Err(Error::BrokenContract("a gap"));
            }
            if memo.number == entry.memos.len() as u64 {
                entry.memos.push(memo);
            }
        }
        entry.job.counts.memos = entry.memos.len() as u64;
        entry.job.counts.steps = entry.steps.len() as u64;
        entry.job.counts.skipped =
            entry.steps.iter().filter(|step| matches!(step.reply, Reply::Skipped(_))).count() as u64;
        if record.progress.is_some() {
            entry.job.counts.progress = record.progress;
        }
        if record.passed {
            entry.job.standing.suspect = entry.job.standing.suspect.map(|known| Suspect { liable: false, ..known });
        }
        record.jobs.into_iter().for_each(|job| _ = self.enqueue(job));
        Ok(Written::Yes)
    }

    fn settle(&mut self, settlement: Settlement) -> Written {
        let job = self.find(settlement.job()).map(|entry| entry.job.clone());
        let is_whole = |job: &Job| settlement.steps.is_none_or(|steps| steps == job.counts.steps);
        if !job.is_some_and(|job| self.holds(&job, settlement.hold) && is_whole(&job)) {
            return Written::Fenced;
        }
        let job = self.find(settlement.job()).unwrap().job.clone();
        if job.ended.is_some() && !settlement.outcome.next.is_ended() && !self.may_live_again(&job) {
            return Written::Fenced;
        }
        let entry = self.find(settlement.job()).unwrap();
        entry.job.standing = settlement.outcome.standing(entry.job.standing.attempt);
        let steps = Some(entry.job.counts.steps);
        entry.attempts.extend(settlement.attempt.map(|attempt| Attempt { steps, ..attempt }));
        trim_attempts(&mut entry.attempts);
        entry.job.ended = entry.job.standing.state.is_ended().then_some(settlement.now);
        if entry.job.ended.is_some() {
            self.let_on(job.call.id, settlement.now);
        }
        Written::Yes
    }

    fn place(&mut self, placement: Placement) -> Written {
        let Some(entry) = self.find(placement.job) else { return Written::Fenced };
        let job = &mut entry.job;
        let State::Waiting { due, .. } = &mut job.standing.state else { return Written::Fenced };
        if job.standing.attempt > 0 {
            return Written::Fenced;
        }
        *due = placement.due.unwrap_or(*due);
        job.call.queue = placement.queue.unwrap_or(job.call.queue.clone());
        job.call.priority = placement.priority.unwrap_or(job.call.priority);
        Written::Yes
    }

    fn note(&mut self, changes: Vec<NoteChange>, jobs: Vec<NewJob>) -> Written {
        let found = |change: &NoteChange| {
            self.notes.iter().find(|note| change.place() == (&note.kind, &note.name)).map(|note| note.version)
        };
        if !changes.iter().all(|change| change.may_follow(found(change))) {
            return Written::Fenced;
        }
        for change in changes {
            self.notes.retain(|note| change.place() != (&note.kind, &note.name));
            if let NoteChange::Write { note, .. } = change {
                self.notes.push(note);
            }
        }
        for mut job in jobs {
            if let Some(unique) = job.unique.as_mut().filter(|unique| unique.on_duplicate == Duplicate::Refuse) {
                unique.on_duplicate = Duplicate::Join;
            }
            self.enqueue(job).unwrap();
        }
        Written::Yes
    }
}

/// Since when the next job in line is due, or when the next one will be.
fn oldest_due<'j>(jobs: impl Iterator<Item = &'j Job> + Clone, now: Timestamp) -> Option<Timestamp> {
    let waiting = jobs.filter(|job| job.standing.suspect.is_none()).filter_map(|job| match job.standing.state {
        State::Waiting { due, parents: 0 } => Some((due, Reverse(job.call.priority), job.call.id)),
        _ => None,
    });
    let next_in_line = waiting.clone().filter(|(due, ..)| *due <= now).min_by_key(|(_, priority, id)| (*priority, *id));
    next_in_line.or_else(|| waiting.min()).map(|(due, ..)| due)
}

pub(crate) fn holder(job: &Job) -> Option<WorkerId> {
    job.standing.state.worker()
}

#[async_trait]
impl Store for Model {
    async fn enqueue(&self, jobs: Vec<NewJob>) -> Result<Vec<Joined>> {
        let mut known = self.known.lock().unwrap();
        let (mut after, mut joined) = (known.clone(), Vec::new());
        if let Some((task, job)) = after.missing_parent(&jobs) {
            return Err(Error::NoParent { task, job });
        }
        for job in jobs {
            let (task, key) = key_of(&job.call).unwrap_or_default();
            joined.extend(after.enqueue(job).map_err(|job| Error::Duplicate { job, task, key })?);
        }
        *known = after;
        Ok(joined)
    }

    async fn holder(&self, task: &str, key: &str) -> Result<Option<Holder>> {
        Ok(self.known.lock().unwrap().holder(&(task.to_owned(), key.to_owned())))
    }

    async fn expired(&self, now: Timestamp, _limit: usize) -> Result<Expired> {
        let mut expired = Expired::default();
        for Entry { job, attempts, .. } in &self.known.lock().unwrap().jobs {
            let Some(due) = job.standing.state.due() else { continue };
            if attempts.is_empty() && lifecycle::expire(job.call.expires, due, now).is_some() {
                expired.jobs.push(job.clone());
            }
        }
        Ok(expired)
    }

    async fn lease(&self, ask: Ask) -> Result<Leased> {
        let mut known = self.known.lock().unwrap();
        let mut waiting: Vec<_> = known.jobs.iter_mut().map(|entry| &mut entry.job).collect();
        waiting.retain(|job| ask.queues.contains(&job.call.queue) && ask.tasks.contains(&job.call.task.as_str()));
        let due = |job: &Job| match job.standing.state {
            State::Waiting { due, parents: 0 } => Some(due),
            _ => None,
        };
        let next_due = waiting.iter().filter_map(|job| due(job)).filter(|due| *due > ask.now).min();
        waiting.retain(|job| due(job).is_some_and(|due| due <= ask.now));
        waiting.sort_by_key(|job| (Reverse(job.call.priority), job.call.id));
        let (mut jobs, mut suspects) = (Vec::new(), false);
        let by_survival = |job: &Job| Some((job.standing.suspect?.survived, Reverse(job.call.priority), job.call.id));
        let suspect = waiting.iter().filter_map(|job| by_survival(job)).min().map(|(_, _, id)| id);
        let suspect = suspect.filter(|_| ask.suspects != Suspects::PassOver);
        for job in waiting {
            if jobs.len() == ask.limit || job.standing.suspect.is_some() && suspect != Some(job.call.id) {
                suspects |= job.standing.suspect.is_some();
                continue;
            }
            job.standing.state = State::Running { worker: ask.worker, due: due(job).unwrap() };
            job.standing.attempt += 1;
            let liable = ask.suspects == Suspects::OneAlone;
            job.standing.suspect = job.standing.suspect.map(|known| Suspect { leased: Some(ask.now), liable, ..known });
            jobs.push(job.clone());
        }
        Ok(Leased { jobs, next_due, suspects })
    }

    async fn renew(&self, worker: WorkerId, beat: u64) -> Result<Renewed> {
        let mut known = self.known.lock().unwrap();
        known.forget(worker);
        known.workers.push((worker, Some(beat)));
        let leases = known.sorted().iter().filter_map(Job::lease).filter(|lease| lease.worker == worker).collect();
        Ok(Renewed { leases, now: None })
    }

    async fn leave(&self, worker: WorkerId) -> Result<()> {
        let mut known = self.known.lock().unwrap();
        known.forget(worker);
        if known.holding(worker) {
            known.workers.push((worker, None));
        }
        Ok(())
    }

    async fn workers(&self) -> Result<Vec<Presence>> {
        let known = self.known.lock().unwrap();
        let mut workers: Vec<_> = known.jobs.iter().filter_map(|entry| holder(&entry.job)).collect();
        workers.sort();
        workers.dedup();
        let presence = |worker| Presence {
            worker,
            beat: known.beat(worker),
            holds: true,
            gone: known.workers.contains(&(worker, None)),
        };
        Ok(workers.into_iter().map(presence).collect())
    }

    async fn held(&self, worker: WorkerId, limit: usize) -> Result<Vec<Job>> {
        let mut held = self.known.lock().unwrap().sorted();
        held.retain(|job| holder(job) == Some(worker));
        held.truncate(limit);
        Ok(held)
    }

    async fn forget(&self, worker: WorkerId, beat: Option<u64>) -> Result<()> {
        let mut known = self.known.lock().unwrap();
        if known.beat(worker) == beat && !known.holding(worker) {
            known.forget(worker);
        }
        Ok(())
    }

    async fn record(&self, records: Arc<[Record]>) -> Result<Vec<Written>> {
        let mut known = self.known.lock().unwrap();
        let mut after = known.clone();
        let written = records.iter().cloned().map(|record| after.write(record)).collect::<Result<_>>()?;
        *known = after;
        Ok(written)
    }

    async fn settle(&self, settlements: Arc<[Settlement]>) -> Result<Vec<Written>> {
        let mut known = self.known.lock().unwrap();
        Ok(settlements.iter().cloned().map(|settlement| known.settle(settlement)).collect())
    }

    async fn job(&self, id: JobId) -> Result<Option<Job>> {
        Ok(self.find(id))
    }

    async fn standing(&self, id: JobId) -> Result<Option<(Standing, Counts)>> {
        Ok(self.find(id).map(|job| (job.standing, job.counts)))
    }

    async fn find(&self, find: Find, after: Option<JobId>, budget: Budget) -> Result<Page> {
        let mut jobs = self.known.lock().unwrap().sorted();
        if find.order == Order::Newest {
            jobs.reverse();
        }
        let is_behind = |id: JobId, after| if find.order == Order::Newest { id < after } else { id > after };
        jobs.retain(|job| after.is_none_or(|after| is_behind(job.call.id, after)));
        Ok(search(&jobs, &find, budget))
    }

    async fn counts(&self, now: Timestamp) -> Result<Vec<LaneCounts>> {
        let jobs = self.known.lock().unwrap().sorted();
        let of = |job: &Job| Lane { queue: job.call.queue.clone(), task: job.call.task.clone() };
        let lanes: BTreeSet<_> = jobs.iter().map(of).collect();
        let counts = lanes.into_iter().map(|lane| {
            let of_lane = jobs.iter().filter(|job| of(job) == lane);
            let mut counts = JobCounts::default();
            of_lane.clone().for_each(|job| *counts.of_mut(job.standing.state.kind()) += 1);
            LaneCounts { oldest_due: oldest_due(of_lane, now), jobs: counts, lane: lane.clone() }
        });
        Ok(counts.collect())
    }

    async fn add_rates(&self, rates: Vec<Rate>) -> Result<()> {
        self.known.lock().unwrap().rates.extend(rates);
        Ok(())
    }

    async fn rates(&self, span: RateSpan, from: Timestamp, to: Timestamp) -> Result<Vec<Rate>> {
        let mut sums = Vec::<Rate>::new();
        for rate in &self.known.lock().unwrap().rates {
            let is_of = |sum: &&mut Rate| (sum.span, sum.from, &sum.lane) == (rate.span, rate.from, &rate.lane);
            match sums.iter_mut().find(is_of) {
                Some(sum) => sum.numbers += rate.numbers,
                None => sums.push(rate.clone()),
            }
        }
        sums.retain(|rate| rate.span == span && (from..to).contains(&rate.from));
        Ok(sums)
    }

    async fn prune_rates(&self, minutes: Timestamp, hours: Timestamp) -> Result<()> {
        let before = |span| if span == RateSpan::Minute { minutes } else { hours };
        self.known.lock().unwrap().rates.retain(|rate| rate.from >= before(rate.span));
        Ok(())
    }

    async fn notes(&self, kind: &str) -> Result<Vec<Note>> {
        let mut notes = self.known.lock().unwrap().notes.clone();
        notes.retain(|note| note.kind == kind);
        Ok(notes)
    }

    async fn note(&self, changes: Vec<NoteChange>, jobs: Vec<NewJob>) -> Result<Written> {
        Ok(self.known.lock().unwrap().note(changes, jobs))
    }

    async fn place(&self, placement: Placement) -> Result<Written> {
        Ok(self.known.lock().unwrap().place(placement))
    }

    async fn steps(&self, id: JobId, from: u64, limit: usize) -> Result<Vec<Step>> {
        let mut steps = self.known.lock().unwrap().find(id).map_or(vec![], |entry| entry.steps.clone());
        steps.retain(|step| step.seq >= from);
        steps.truncate(limit);
        Ok(steps)
    }

    async fn last_step(&self, id: JobId) -> Result<Option<Step>> {
        let mut steps = self.steps(id, 0, usize::MAX).await?;
        steps.retain(|step| !matches!(step.reply, Reply::Skipped(_)));
        Ok(steps.pop())
    }

    async fn memos(&self, id: JobId, step: Option<u64>, from: u64, limit: usize) -> Result<Vec<Memo>> {
        let mut memos = self.known.lock().unwrap().find(id).map_or(vec![], |entry| entry.memos.clone());
        memos.retain(|memo| memo.step == step && memo.number >= from);
        memos.truncate(limit);
        Ok(memos)
    }

    async fn attempts(&self, id: JobId) -> Result<Vec<Attempt>> {
        Ok(self.known.lock().unwrap().find(id).map_or(vec![], |entry| entry.attempts.clone()))
    }

    async fn prune(&self, finished: Timestamp, dead: Timestamp, limit: usize) -> Result<usize> {
        let mut known = self.known.lock().unwrap();
        let before = known.jobs.len();
        known.jobs.retain(|entry| {
            let limit = if entry.job.standing.state.name() == "dead" { dead } else { finished };
            entry.job.ended.is_none_or(|ended| ended >= limit)
        });
        assert!(before - known.jobs.len() <= limit, "which jobs go first is for each store to say");
        let Known { jobs, keys, .. } = &mut *known;
        let is_there = |id: JobId| jobs.iter().any(|entry| entry.job.call.id == id);
        keys.retain(|(_, job, until)| is_there(*job) || until.is_some_and(|until| until >= finished));
        Ok(before - known.jobs.len())
    }

    fn notifier(&self) -> &Notifier {
        &self.notifier
    }
}
