//! What a store in memory holds, and what the calls make of it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::{Bound, Range, RangeBounds as _},
    time::Duration,
};

use jiff::Timestamp;

use super::{
    entry::{Entry, Urgency, to_millisecond},
    index::Index,
    waits::Waits,
};
use crate::{
    error::{Error, Result},
    model::{
        job::{Attempt, Job, JobId, NewJob, NextState, State, StateKind, Suspect, WorkerId},
        lifecycle::{Outcome, expire},
    },
    store::{
        Ask, Budget, Changes, Expired, Find, GAP, Hold, Lane, LaneCounts, Leased, Note, NoteChange, Order, Page,
        Placement, Presence, Rate, RateNumbers, RateSpan, Record, Settlement, Written, search, trim_attempts,
    },
};

/// What numbers are of.
type RateKey = (RateSpan, Timestamp, Lane);

#[derive(Default)]
pub(super) struct Contents {
    pub(super) jobs: BTreeMap<JobId, Entry>,
    pub(super) index: Index,
    pub(super) workers: HashMap<WorkerId, Known>,
    pub(super) notes: BTreeMap<(String, String), Note>,
    pub(super) keys: HashMap<Key, Taken>,
    pub(super) waits: Waits,
    /// What listeners are to be notified of, of jobs that waited for others.
    pub(super) released: Changes,
    pub(super) rates: HashMap<RateKey, RateNumbers>,
}

/// The name of a task, and a key.
pub(super) type Key = (String, String);

/// The job that has taken a key last, and until when it holds that at least.
type Taken = (JobId, Option<Timestamp>);

/// What is known of a worker.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// The number of its last renewal.
    Beat(u64),
    /// The worker has left while it held jobs.
    Left,
}

impl Contents {
    pub(super) fn lease(&mut self, ask: &Ask) -> Leased {
        let now = to_millisecond(ask.now);
        let mut leased = Leased::default();
        let (mut heads, mut suspects) = (BTreeSet::new(), BTreeSet::new());
        let names = ask.queues.iter().flat_map(|queue| ask.tasks.iter().map(move |&task| (queue, task)));
        for name @ (queue, task) in names {
            for is_suspect in [false, true] {
                let Some(lane) = self.index.lane(queue, task, is_suspect) else { continue };
                lane.turn_to(now);
                let waiting = if is_suspect { &mut suspects } else { &mut heads };
                waiting.extend(lane.head().map(|urgency| (urgency, name)));
                leased.next_due = leased.next_due.into_iter().chain(lane.next_due()).min();
            }
        }
        // The one that has survived least, at the position of its priority among the others.
        let mut suspect = suspects.first().copied().filter(|_| ask.suspects.allow_one());
        while leased.jobs.len() < ask.limit {
            let is_first = |(_, rank, id): Urgency| heads.first().is_none_or(|((_, r, i), _)| (rank, id) < (*r, *i));
            if let Some(((_, _, id), name)) = suspect.take_if(|(urgency, _)| is_first(*urgency)) {
                leased.jobs.push(self.run(id, ask));
                let taken = |(other, _): &(Urgency, _)| other.2 != id;
                suspects.retain(taken);
                let next = self.index.lane(name.0, name.1, true).and_then(|lane| lane.head());
                suspects.extend(next.map(|urgency| (urgency, name)));
                continue;
            }
            let Some(((_, _, id), name)) = heads.pop_first() else { break };
            leased.jobs.push(self.run(id, ask));
            let next = self.index.lane(name.0, name.1, false).and_then(|lane| lane.head());
            heads.extend(next.map(|urgency| (urgency, name)));
        }
        leased.suspects = !suspects.is_empty();
        leased
    }

    pub(super) fn run(&mut self, id: JobId, ask: &Ask) -> Job {
        let entry = self.jobs.get_mut(&id).expect("what stands in an index is there");
        self.index.remove(entry);
        if let State::Waiting { due, .. } = entry.job.standing.state {
            entry.job.standing.state = State::Running { worker: ask.worker, due };
        }
        entry.job.standing.attempt += 1;
        if let Some(suspect) = &mut entry.job.standing.suspect {
            suspect.leased = Some(to_millisecond(ask.now));
            suspect.liable = ask.suspects.liable();
        }
        self.index.add(entry);
        entry.job.clone()
    }

    /// Looks at all jobs: few are in memory.
    pub(super) fn expired(&self, now: Timestamp, limit: usize) -> Expired {
        let have_expired = self.jobs.values().filter(|Entry { job, attempts, .. }| match job.standing.state {
            State::Waiting { due, parents: 0 } => attempts.is_empty() && expire(job.call.expires, due, now).is_some(),
            _ => false,
        });
        let mut jobs: Vec<_> = have_expired.take(limit.saturating_add(1)).map(|entry| entry.job.clone()).collect();
        let more = jobs.len() > limit;
        jobs.truncate(limit);
        Expired { jobs, more }
    }

    /// Gives whether the worker held jobs.
    pub(super) fn leave(&mut self, worker: WorkerId) -> bool {
        let holds = self.index.held.contains_key(&worker);
        if holds {
            self.workers.insert(worker, Known::Left);
        } else {
            self.workers.remove(&worker);
        }
        holds
    }

    pub(super) fn workers(&self) -> Vec<Presence> {
        let known: BTreeSet<_> = self.workers.keys().chain(self.index.held.keys()).copied().collect();
        let presence = |worker| Presence {
            worker,
            beat: self.beat(worker),
            holds: self.index.held.contains_key(&worker),
            gone: self.workers.get(&worker) == Some(&Known::Left),
        };
        known.into_iter().map(presence).collect()
    }

    pub(super) fn beat(&self, worker: WorkerId) -> Option<u64> {
        match self.workers.get(&worker) {
            Some(Known::Beat(beat)) => Some(*beat),
            Some(Known::Left) | None => None,
        }
    }

    pub(super) fn record(&mut self, records: &[Record]) -> Result<Vec<Written>> {
        let written = self.check(records)?;
        for (record, _) in records.iter().zip(&written).filter(|(_, written)| **written == Written::Yes) {
            self.append(record);
            _ = self.enqueue_or_join(record.jobs.iter().cloned());
        }
        Ok(written)
    }

    fn append(&mut self, record: &Record) {
        let entry = self.jobs.get_mut(&record.lease.job).expect("a job that is leased is there");
        let Job { standing, counts, .. } = &mut entry.job;
        for step in &record.steps {
            if step.seq == counts.steps {
                counts.steps += 1;
                counts.skipped += u64::from(step.reply.is_skipped());
                standing.failures = 0;
                if let Some(suspect) = &mut standing.suspect {
                    (suspect.losses, suspect.liable) = (0, false);
                }
                entry.steps.push(step.clone());
            }
        }
        for memo in &record.memos {
            if memo.number == counts.memos {
                counts.memos += 1;
                entry.memos.push(memo.clone());
            }
        }
        counts.progress = record.progress.or(counts.progress);
        if let Some(suspect) = standing.suspect.as_mut().filter(|_| record.passed) {
            suspect.liable = false;
        }
    }

    /// Says what becomes of each record, before anything is written: then one with a gap leaves no half behind.
    pub(super) fn check(&self, records: &[Record]) -> Result<Vec<Written>> {
        let mut next_numbers = HashMap::new();
        let check = |record: &Record| {
            let entry = self.jobs.get(&record.lease.job);
            let Some(entry) = entry.filter(|entry| self.holds(entry, Hold::Lease(record.lease))) else {
                return Ok(Written::Fenced);
            };
            let (step, memo) =
                next_numbers.entry(entry.job.call.id).or_insert((entry.job.counts.steps, entry.job.counts.memos));
            let follow = follow(step, record.steps.iter().map(|step| step.seq))
                && follow(memo, record.memos.iter().map(|memo| memo.number));
            if follow { Ok(Written::Yes) } else { Err(Error::BrokenContract(GAP)) }
        };
        records.iter().map(check).collect()
    }

    pub(super) fn settle(&mut self, settlement: Settlement) -> Written {
        let entry = self.jobs.get(&settlement.job());
        let is_whole = |entry: &Entry| settlement.steps.is_none_or(|steps| steps == entry.job.counts.steps);
        if !entry.is_some_and(|entry| self.holds(entry, settlement.hold) && is_whole(entry)) {
            return Written::Fenced;
        }
        let lives_again = |entry: &Entry| entry.job.ended.is_some() && !settlement.outcome.next.is_ended();
        if entry.is_some_and(lives_again) && !self.may_live_again(settlement.job()) {
            return Written::Fenced;
        }
        let id = settlement.job();
        let entry = self.jobs.get_mut(&id).expect("a job that is held is there");
        self.index.remove(entry);
        entry.job.standing = to_milliseconds(settlement.outcome).standing(entry.job.standing.attempt);
        entry.job.ended = entry.job.standing.state.is_ended().then(|| to_millisecond(settlement.now));
        entry.attempts.extend(settlement.attempt.map(|attempt| Attempt {
            started: attempt.started.map(to_millisecond),
            ended: to_millisecond(attempt.ended),
            steps: Some(entry.job.counts.steps),
            ..attempt
        }));
        trim_attempts(&mut entry.attempts);
        self.index.add(entry);
        if let Some(ended) = entry.job.ended {
            self.waits.forget(id);
            self.release(id, ended);
        }
        Written::Yes
    }

    /// Moves a job that waits and never started.
    pub(super) fn place(&mut self, Placement { job, queue, priority, due }: Placement) -> Written {
        let Some(entry) = self.jobs.get_mut(&job) else { return Written::Fenced };
        let State::Waiting { due: was, parents } = entry.job.standing.state else { return Written::Fenced };
        if entry.job.standing.attempt > 0 {
            return Written::Fenced;
        }
        self.index.remove(entry);
        let call = &mut entry.job.call;
        call.queue = queue.unwrap_or_else(|| std::mem::take(&mut call.queue));
        call.priority = priority.unwrap_or(call.priority);
        entry.job.standing.state = State::Waiting { due: due.map_or(was, to_millisecond), parents };
        self.index.add(entry);
        Written::Yes
    }

    pub(super) fn note(&mut self, changes: Vec<NoteChange>, jobs: Vec<NewJob>) -> Written {
        let version = |change: &NoteChange| {
            let (kind, name) = change.place();
            self.notes.get(&(kind.to_owned(), name.to_owned())).map(|note| note.version)
        };
        if !changes.iter().all(|change| change.may_follow(version(change))) {
            return Written::Fenced;
        }
        for change in changes {
            match change {
                NoteChange::Write { note, .. } => {
                    let until = note.until.map(to_millisecond);
                    self.notes.insert((note.kind.clone(), note.name.clone()), Note { until, ..note });
                }
                NoteChange::Delete { kind, name, .. } => {
                    self.notes.remove(&(kind, name));
                }
            }
        }
        _ = self.enqueue_or_join(jobs);
        Written::Yes
    }

    pub(super) fn add_rates(&mut self, rates: Vec<Rate>) {
        for Rate { span, from, lane, numbers } in rates {
            *self.rates.entry((span, from, lane)).or_default() += numbers;
        }
    }

    pub(super) fn rates(&self, span: RateSpan, time: Range<Timestamp>) -> Vec<Rate> {
        let asked = self.rates.iter().filter(|((of, from, _), _)| *of == span && time.contains(from));
        let rate = |((span, from, lane), numbers): (&RateKey, &RateNumbers)| Rate {
            span: *span,
            from: *from,
            lane: lane.clone(),
            numbers: *numbers,
        };
        asked.map(rate).collect()
    }

    pub(super) fn find(&self, find: &Find, after: Option<JobId>, budget: Budget) -> Page {
        let mut ids: (Bound<JobId>, Bound<JobId>) = (Bound::Unbounded, Bound::Unbounded);
        if let Some(prefix) = &find.id {
            let (first, last) = prefix.ids().into_inner();
            ids = (Bound::Included(first), Bound::Included(last));
        }
        let is_behind = |id: &JobId| match (find.order, after) {
            (_, None) => true,
            (Order::Newest, Some(after)) => *id < after,
            (Order::Oldest, Some(after)) => *id > after,
        };
        let is_of_dead = find.states == [StateKind::Dead];
        let mut found: Vec<_> = if is_of_dead {
            let mut dead: Vec<_> = self.index.dead.iter().map(|(_, id)| *id).filter(|id| ids.contains(id)).collect();
            dead.sort_unstable();
            dead
        } else {
            self.jobs.range(ids).map(|(id, _)| *id).collect()
        };
        found.retain(is_behind);
        if find.order == Order::Newest {
            found.reverse();
        }
        search(found.iter().map(|id| &self.jobs[id].job), find, budget)
    }

    /// How many jobs each lane has, and since when the next of them is due.
    pub(super) fn counts(&mut self, now: Timestamp) -> Vec<LaneCounts> {
        let now = to_millisecond(now);
        let lanes: Vec<_> = self.index.counts.iter().map(|(lane, jobs)| (lane.clone(), *jobs)).collect();
        let oldest_due = |lane: &Lane| {
            let line = self.index.lane(&lane.queue, &lane.task, false)?;
            line.turn_to(now);
            let due = |(_, _, id)| match self.jobs.get(&id)?.job.standing.state {
                State::Waiting { due, .. } => Some(due),
                _ => None,
            };
            line.head().map_or_else(|| line.next_due(), due)
        };
        let mut counts = Vec::new();
        let mut oldest_due = oldest_due;
        for (lane, jobs) in lanes {
            let oldest_due = oldest_due(&lane);
            counts.push(LaneCounts { lane, jobs, oldest_due });
        }
        counts
    }

    pub(super) fn holds(&self, entry: &Entry, hold: Hold) -> bool {
        let Job { call, standing, .. } = &entry.job;
        match hold {
            Hold::Lease(lease) => standing.lease(call.id) == Some(lease),
            Hold::Silent { lease, beat } => standing.lease(call.id) == Some(lease) && self.beat(lease.worker) == beat,
            Hold::Seen { state, attempt, .. } => state == standing.state.kind() && attempt == standing.attempt,
        }
    }

    pub(super) fn held(&self, worker: WorkerId) -> impl Iterator<Item = &Job> {
        let ids = self.index.held.get(&worker).into_iter().flatten();
        ids.filter_map(|id| self.jobs.get(id)).map(|entry| &entry.job)
    }

    pub(super) fn prune(&mut self, finished: Timestamp, dead: Timestamp, limit: usize) -> usize {
        let ended = [(&self.index.finished, finished), (&self.index.dead, dead)];
        let old = ended.into_iter().flat_map(|(ended, before)| ended.iter().take_while(move |(at, _)| *at < before));
        let old: Vec<_> = old.map(|(_, id)| *id).take(limit).collect();
        for id in &old {
            let entry = self.jobs.remove(id).expect("what stands in an index is there");
            self.index.remove(&entry);
        }
        // While a key is held for a time, or a job is there that has it, its entry is needed.
        self.keys.retain(|_, (job, until)| self.jobs.contains_key(job) || until.is_some_and(|until| until >= finished));
        old.len()
    }
}

/// An outcome as every store keeps it.
fn to_milliseconds(Outcome { next, failures, suspect }: Outcome) -> Outcome {
    let next = match next {
        NextState::Waiting { due } => NextState::Waiting { due: to_millisecond(due) },
        next => next,
    };
    let suspect = suspect.map(|suspect| Suspect {
        survived: Duration::from_millis(suspect.survived.as_millis().try_into().unwrap_or(u64::MAX)),
        losses: suspect.losses,
        ..Suspect::default()
    });
    Outcome { next, failures, suspect }
}

/// Whether `numbers` go on from `next` without a gap; those before it do not count.
fn follow(next: &mut u64, numbers: impl IntoIterator<Item = u64>) -> bool {
    numbers.into_iter().all(|number| {
        *next += u64::from(number == *next);
        number < *next
    })
}
