//! What a call is to change. Nothing of it is done until all of it is decided: a call that fails leaves no half behind.

use std::{
    cmp::{Ordering, Reverse},
    collections::BTreeMap,
};

use jiff::Timestamp;
use qtasks::{
    Error, Result,
    job::{Attempt, Job, JobId, NewJob, Reply, State, Suspect},
    store::{Ask, Hold, Leased, NoteChange, Placement, Rate, Record, Settlement, Written},
};

use crate::table::{Change, Table};

pub(crate) struct Draft<'t> {
    table: &'t Table,
    /// The jobs that are others then.
    jobs: BTreeMap<JobId, Job>,
    rest: Vec<Change>,
}

impl<'t> Draft<'t> {
    pub(crate) fn of(table: &'t Table) -> Self {
        Self { table, jobs: BTreeMap::new(), rest: Vec::new() }
    }

    pub(crate) fn into_changes(self) -> Vec<Change> {
        self.jobs.into_values().map(Change::Job).chain(self.rest).collect()
    }

    /// A job as the call has it so far.
    fn job(&self, id: JobId) -> Option<&Job> {
        self.jobs.get(&id).or_else(|| self.table.entry(id).map(|entry| &entry.job))
    }

    fn set(&mut self, job: Job) {
        self.jobs.insert(job.call.id, job);
    }

    pub(crate) fn enqueue(&mut self, jobs: Vec<NewJob>) {
        for new in jobs {
            if self.job(new.call.id).is_none() {
                self.set(new.into());
            }
        }
    }

    pub(crate) fn lease(&mut self, ask: &Ask) -> Leased {
        let (mut leased, mut due_now) = (Leased::default(), Vec::new());
        for job in self.table.all() {
            let State::Waiting { due } = job.standing.state else { continue };
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
        self.enqueue(record.jobs);
        Ok(Written::Yes)
    }

    pub(crate) fn settle(&mut self, settlement: Settlement) -> Written {
        let Settlement { hold, outcome, steps, attempt, now } = settlement;
        let Some(job) = self.held(hold) else { return Written::Fenced };
        if steps.is_some_and(|steps| steps != job.counts.steps) {
            return Written::Fenced;
        }
        let ended = outcome.next.is_ended().then_some(now);
        let job = Job { standing: outcome.standing(job.standing.attempt), ended, ..job.clone() };
        let steps = Some(job.counts.steps);
        self.rest.extend(attempt.map(|attempt| Change::Attempt(job.call.id, Attempt { steps, ..attempt })));
        self.set(job);
        Written::Yes
    }

    pub(crate) fn place(&mut self, Placement { job, queue, priority, due }: Placement) -> Written {
        let Some(job) = self.job(job).filter(|job| job.standing.attempt == 0) else { return Written::Fenced };
        let State::Waiting { due: was } = job.standing.state else { return Written::Fenced };
        let mut job = job.clone();
        job.call.queue = queue.unwrap_or(job.call.queue);
        job.call.priority = priority.unwrap_or(job.call.priority);
        job.standing.state = State::Waiting { due: due.unwrap_or(was) };
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
        self.enqueue(jobs);
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
