//! What a call is to change. Nothing of it is done until all of it is decided: a call that fails leaves no half behind.

use std::{
    cmp::{Ordering, Reverse},
    collections::{BTreeMap, BTreeSet},
};

use jiff::Timestamp;
use qtasks::{
    Duplicate, Error, Result,
    job::{Attempt, Beginning, Job, JobCall, JobId, NewJob, Reply, State, Suspect},
    store::{Ask, Hold, Joined, Leased, NoteChange, Placement, Rate, Record, Settlement, Written},
    unique::{Claim, Holder, HolderState},
};

use crate::table::{Change, Table};

pub(crate) struct Draft<'t> {
    table: &'t Table,
    /// The jobs that are others then.
    jobs: BTreeMap<JobId, Job>,
    keys: BTreeMap<(String, String), (JobId, Option<Timestamp>)>,
    rest: Vec<Change>,
}

impl<'t> Draft<'t> {
    pub(crate) fn of(table: &'t Table) -> Self {
        Self { table, jobs: BTreeMap::new(), keys: BTreeMap::new(), rest: Vec::new() }
    }

    pub(crate) fn into_changes(self) -> Vec<Change> {
        let keys = self.keys.into_iter().map(|(key, (job, until))| Change::Key(key, job, until));
        self.jobs.into_values().map(Change::Job).chain(keys).chain(self.rest).collect()
    }

    /// A job as the call has it so far.
    fn job(&self, id: JobId) -> Option<&Job> {
        self.jobs.get(&id).or_else(|| self.table.entry(id).map(|entry| &entry.job))
    }

    fn set(&mut self, job: Job) {
        self.jobs.insert(job.call.id, job);
    }

    /// Enqueues jobs, and gives those that are not added, for another holds their key. Nothing of a draft that fails is done.
    pub(crate) fn enqueue(&mut self, jobs: Vec<NewJob>) -> Result<Vec<Joined>> {
        let mut joined = Vec::new();
        for new in jobs {
            joined.extend(self.enqueue_one(new)?);
        }
        Ok(joined)
    }

    fn enqueue_one(&mut self, new: NewJob) -> Result<Option<Joined>> {
        let id = new.call.id;
        if self.job(id).is_some() {
            return Ok(None);
        }
        if let (Some(unique), Some(key)) = (&new.unique, key_of(&new.call)) {
            let holder = self.holder(&key);
            let claim = holder.as_ref().map_or(Claim::Takes, |holder| unique.claim(&new, holder));
            if claim == Claim::Takes {
                self.keys.insert(key, (id, unique.until));
            } else {
                let job = holder.expect("there is one that has the key").job;
                match claim {
                    Claim::Replaces(due) => self.replace(job, new, due),
                    Claim::Refused => return Err(Error::Duplicate { job, task: key.0, key: key.1 }),
                    Claim::Joins | Claim::Takes => {}
                }
                return Ok(Some(Joined { job: id, holder: job }));
            }
        }
        let job = self.begin(new)?;
        self.set(job);
        Ok(None)
    }

    fn replace(&mut self, id: JobId, new: NewJob, due: Timestamp) {
        let mut job = self.job(id).expect("a job that is replaced is there").clone();
        let JobCall { queue, enqueued, after, .. } = job.call;
        job.call = JobCall { id, queue, enqueued, after, ..new.call };
        set_due(&mut job, due);
        self.set(job);
    }

    /// The job that a call makes: it waits for those that it comes after.
    fn begin(&self, new: NewJob) -> Result<Job> {
        let mut job = Job::from(new);
        let Some(after) = &job.call.after else { return Ok(job) };
        if let Some(&none) = after.jobs.iter().find(|parent| self.job(**parent).is_none()) {
            return Err(Error::NoParent { task: job.call.task, job: none });
        }
        match after.begin(|parent| self.job(parent).expect("it is there").standing.state.kind()) {
            Beginning::Waits(live) => set_parents(&mut job, live.len()),
            Beginning::Cancelled(reason) => {
                job.standing.state = State::Cancelled { reason };
                job.ended = Some(job.call.enqueued);
            }
            Beginning::Free => {}
        }
        Ok(job)
    }

    /// What the end of a job means for those that wait for it, and for those that wait for these.
    fn let_on(&mut self, ended: JobId, now: Timestamp) {
        let mut over = vec![ended];
        while let Some(parent) = over.pop() {
            let state = self.job(parent).expect("it has just ended").standing.state.kind();
            for child in self.table.waiting_for_others().chain(self.jobs.keys().copied()).collect::<BTreeSet<_>>() {
                let mut child = self.job(child).expect("it waits").clone();
                let State::Waiting { due, parents: 1.. } = child.standing.state else { continue };
                let Some(after) = child.call.after.as_ref().filter(|after| after.jobs.contains(&parent)) else {
                    continue;
                };
                let lives = |id| self.job(id).is_some_and(|job| job.ended.is_none());
                let live = after.jobs.iter().copied().filter(|id| lives(*id)).collect::<BTreeSet<_>>().len();
                if let Some(reason) = after.on_failure.cancels(parent, state) {
                    child.standing.state = State::Cancelled { reason };
                    child.ended = Some(now);
                    over.push(child.call.id);
                } else {
                    set_parents(&mut child, live);
                    if live == 0 {
                        set_due(&mut child, due.max(now));
                    }
                }
                self.set(child);
            }
        }
    }

    /// The job that has taken a key last.
    pub(crate) fn holder(&self, key: &(String, String)) -> Option<Holder> {
        let (job, until) = self.keys.get(key).copied().or_else(|| self.table.taken(key))?;
        let there = self.job(job).map(|job| HolderState {
            state: job.standing.state.kind(),
            attempt: job.standing.attempt,
            enqueued: job.call.enqueued,
        });
        Some(Holder { job, until, there })
    }

    /// Whether a job that had ended may live again: no other one lives that has its key. It takes the key then.
    fn may_live_again(&mut self, job: &Job) -> bool {
        let Some(key) = key_of(&job.call) else { return true };
        let holder = self.holder(&key);
        let lives = |holder: &Holder| holder.there.is_some_and(|there| !there.state.is_ended());
        if holder.as_ref().is_some_and(|holder| holder.job != job.call.id && lives(holder)) {
            return false;
        }
        self.keys.insert(key, (job.call.id, holder.and_then(|holder| holder.until)));
        true
    }

    pub(crate) fn lease(&mut self, ask: &Ask) -> Leased {
        let (mut leased, mut due_now) = (Leased::default(), Vec::new());
        for job in self.table.all() {
            let Some(due) = job.standing.state.due() else { continue };
            if !ask.queues.contains(&job.call.queue) || !ask.tasks.contains(&&*job.call.task) {
                continue;
            }
            if due <= ask.now {
                due_now.push((due, job));
            } else {
                leased.next_due = leased.next_due.into_iter().chain([due]).min();
            }
        }
        due_now.sort_by_key(|(_, job)| (Reverse(job.call.priority), job.call.id));
        // Of the suspects, the one that has survived least.
        let suspects = due_now
            .iter()
            .filter_map(|(_, job)| Some((job.standing.suspect?.survived, Reverse(job.call.priority), job.call.id)));
        let suspect = suspects.min().map(|(_, _, id)| id).filter(|_| ask.suspects.allow_one());
        for (due, job) in due_now {
            if leased.jobs.len() < ask.limit && (job.standing.suspect.is_none() || suspect == Some(job.call.id)) {
                let running = |known| Suspect { leased: Some(ask.now), liable: ask.suspects.liable(), ..known };
                let mut job = job.clone();
                job.standing.state = State::Running { worker: ask.worker, due };
                job.standing.attempt += 1;
                job.standing.suspect = job.standing.suspect.map(running);
                self.set(job.clone());
                leased.jobs.push(job);
            } else {
                leased.suspects |= job.standing.suspect.is_some();
            }
        }
        leased
    }

    pub(crate) fn record(&mut self, record: Record) -> Result<Written> {
        let Some(job) = self.held(Hold::Lease(record.lease)) else { return Ok(Written::Fenced) };
        let mut job = job.clone();
        for step in record.steps {
            if is_next(&mut job.counts.steps, step.seq)? {
                job.counts.skipped += u64::from(matches!(step.reply, Reply::Skipped(_)));
                job.standing.failures = 0;
                job.standing.suspect = job.standing.suspect.map(|known| Suspect { losses: 0, liable: false, ..known });
                self.rest.push(Change::Step(job.call.id, step));
            }
        }
        for memo in record.memos {
            if is_next(&mut job.counts.memos, memo.number)? {
                self.rest.push(Change::Memo(job.call.id, memo));
            }
        }
        job.counts.progress = record.progress.or(job.counts.progress);
        if record.passed {
            job.standing.suspect = job.standing.suspect.map(|known| Suspect { liable: false, ..known });
        }
        self.set(job);
        _ = self.enqueue(record.jobs)?;
        Ok(Written::Yes)
    }

    pub(crate) fn settle(&mut self, settlement: Settlement) -> Written {
        let Settlement { hold, outcome, steps, attempt, now } = settlement;
        let Some(job) = self.held(hold) else { return Written::Fenced };
        if steps.is_some_and(|steps| steps != job.counts.steps) {
            return Written::Fenced;
        }
        let job = job.clone();
        if job.ended.is_some() && !outcome.next.is_ended() && !self.may_live_again(&job) {
            return Written::Fenced;
        }
        let ended = outcome.next.is_ended().then_some(now);
        let job = Job { standing: outcome.standing(job.standing.attempt), ended, ..job };
        let steps = Some(job.counts.steps);
        self.rest.extend(attempt.map(|attempt| Change::Attempt(job.call.id, Attempt { steps, ..attempt })));
        let id = job.call.id;
        self.set(job);
        if ended.is_some() {
            self.let_on(id, now);
        }
        Written::Yes
    }

    pub(crate) fn place(&mut self, Placement { job, queue, priority, due }: Placement) -> Written {
        let Some(job) = self.job(job).filter(|job| job.standing.attempt == 0) else { return Written::Fenced };
        let State::Waiting { due: was, .. } = job.standing.state else { return Written::Fenced };
        let mut job = job.clone();
        job.call.queue = queue.unwrap_or(job.call.queue);
        job.call.priority = priority.unwrap_or(job.call.priority);
        set_due(&mut job, due.unwrap_or(was));
        self.set(job);
        Written::Yes
    }

    pub(crate) fn add_rates(&mut self, rates: Vec<Rate>) {
        self.rest.extend(rates.into_iter().map(Change::Rate));
    }

    pub(crate) fn prune_rates(&mut self, minutes: Timestamp, hours: Timestamp) {
        self.rest.push(Change::RatesPruned(minutes, hours));
    }

    pub(crate) fn note(&mut self, changes: Vec<NoteChange>, jobs: Vec<NewJob>) -> Written {
        let may_follow = |change: &NoteChange| {
            let (kind, name) = change.place();
            change.may_follow(self.table.note(kind, name).map(|note| note.version))
        };
        if !changes.iter().all(may_follow) {
            return Written::Fenced;
        }
        self.rest.extend(changes.into_iter().map(|change| match change {
            NoteChange::Write { note, .. } => Change::Note(note),
            NoteChange::Delete { kind, name, .. } => Change::NoteDeleted(kind, name),
        }));
        let refuses = |new: &mut NewJob| match &mut new.unique {
            Some(unique) if unique.on_duplicate == Duplicate::Refuse => unique.on_duplicate = Duplicate::Join,
            _ => {}
        };
        let mut jobs = jobs;
        jobs.iter_mut().for_each(refuses);
        self.enqueue(jobs).expect("none is refused");
        Written::Yes
    }

    /// The job, if what a write relies on is so.
    fn held(&self, hold: Hold) -> Option<&Job> {
        self.job(hold.job()).filter(|job| match hold {
            Hold::Lease(lease) => job.lease() == Some(lease),
            Hold::Silent { lease, beat } => job.lease() == Some(lease) && self.table.beat(lease.worker) == beat,
            Hold::Seen { state, attempt, .. } => job.standing.attempt == attempt && job.standing.state.kind() == state,
        })
    }

    pub(crate) fn prune(&mut self, finished: Timestamp, dead: Timestamp, limit: usize) -> usize {
        self.rest.extend(self.table.old(finished, dead).take(limit).map(Change::Pruned));
        self.rest.len()
    }
}

fn set_due(job: &mut Job, due: Timestamp) {
    if let State::Waiting { due: was, .. } = &mut job.standing.state {
        *was = due;
    }
}

/// Says for how many others a job waits.
fn set_parents(job: &mut Job, number: usize) {
    if let State::Waiting { parents, .. } = &mut job.standing.state {
        *parents = number.try_into().expect("there are not so many");
    }
}

/// The name of the task of a call, and its key.
fn key_of(call: &JobCall) -> Option<(String, String)> {
    Some((call.task.clone(), call.key.clone()?))
}

/// Whether a step or memo of this `number` is to be appended, rather than there already.
fn is_next(next: &mut u64, number: u64) -> Result<bool> {
    match number.cmp(next) {
        Ordering::Less => Ok(false),
        Ordering::Equal => {
            *next += 1;
            Ok(true)
        }
        // Not an `Error::Store`, after which the same call would be made again.
        Ordering::Greater => Err(Error::BrokenContract("the steps or memos to record leave a gap in their numbers")),
    }
}
