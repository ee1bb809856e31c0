//! The calls of a store that an operation comes to, as things stand in the model.

use std::{collections::HashSet, time::Duration};

use jiff::{SignedDuration, Timestamp};
use qtasks::{
    Result, Retry,
    job::{
        After, Attempt, Ending, Job, JobCall, JobId, Lease, Memo, NewJob, Progress, Reply, StateKind, Step, Version,
        WorkerId,
    },
    json::Json,
    lifecycle::{self, Outcome},
    store::{Ask, Budget, Find, Hold, Note, NoteChange, Order, Placement, Record, Renewed, Settlement, Store},
    unique::Unique,
};

use crate::{
    at, id,
    model::{Model, holder},
    operations::{Claim, Holding, New, Noting, Operation, Settling, Writing},
    worker_id,
};

fn text(answer: Result<impl std::fmt::Debug>) -> String {
    answer.map_or_else(|_| "an error".to_owned(), |answer| format!("{answer:#?}"))
}

/// One call of a store.
#[derive(Clone, Debug)]
pub(crate) enum Call {
    Enqueue(Vec<NewJob>),
    Lease(Ask),
    Renew(WorkerId, u64),
    Leave(WorkerId),
    Forget(WorkerId, Option<u64>),
    Workers,
    Held(WorkerId),
    Record(Vec<Record>),
    Settle(Vec<Settlement>),
    Prune(Timestamp, Timestamp),
    Expired(Timestamp),
    Holder(&'static str, &'static str),
    Find(Box<Find>, Option<JobId>),
    Counts(Timestamp),
    Place(Placement),
    Note(Vec<NoteChange>, Vec<NewJob>),
    Notes,
    Steps(JobId, u64, usize),
    LastStep(JobId),
    Standing(JobId),
    Memos(JobId, Option<u64>, u64),
    Attempts(JobId),
}

impl Call {
    /// Makes the call and gives the answer as text. Where the order is the store's own, it is that of the ids; what an
    /// error says is the store's own too.
    pub(crate) async fn make(self, store: &dyn Store) -> String {
        match self {
            Self::Enqueue(jobs) => text(store.enqueue(jobs).await.map(|mut joined| {
                joined.sort_by_key(|joined| joined.job);
                joined
            })),
            Self::Lease(ask) => text(store.lease(ask).await),
            Self::Renew(worker, beat) => text(store.renew(worker, beat).await.map(|Renewed { mut leases, .. }| {
                leases.sort_by_key(|lease| lease.job);
                leases
            })),
            Self::Leave(worker) => text(store.leave(worker).await),
            Self::Forget(worker, beat) => text(store.forget(worker, beat).await),
            // Of a worker without jobs a store need not know anything.
            Self::Workers => text(store.workers().await.map(|mut workers| {
                workers.retain(|presence| presence.holds);
                workers.sort_by_key(|presence| presence.worker);
                workers
            })),
            Self::Held(worker) => text(store.held(worker, 1_000).await.map(|mut jobs| {
                jobs.sort_by_key(|job| job.call.id);
                jobs
            })),
            Self::Record(records) => text(store.record(records.into()).await),
            Self::Settle(settlements) => text(store.settle(settlements.into()).await),
            Self::Prune(finished, dead) => text(store.prune(finished, dead, 1_000).await),
            // How many jobs a store looks at is its own.
            Self::Find(find, after) => text(store.find(*find, after, Budget::jobs(3)).await.map(|page| page.jobs)),
            // A lane without jobs may be there or not.
            Self::Counts(now) => text(store.counts(now).await.map(|mut lanes| {
                lanes.retain(|lane| lane.jobs.total() > 0);
                lanes.sort_by(|one, other| one.lane.cmp(&other.lane));
                lanes.into_iter().map(|lane| (lane.lane, lane.jobs)).collect::<Vec<_>>()
            })),
            Self::Place(placement) => text(store.place(placement).await),
            Self::Note(changes, jobs) => text(store.note(changes, jobs).await),
            Self::Notes => text(store.notes("pause").await.map(|mut notes| {
                notes.sort_by(|one, other| one.name.cmp(&other.name));
                notes
            })),
            other => other.look(store).await,
        }
    }

    /// Makes a call that changes nothing.
    async fn look(self, store: &dyn Store) -> String {
        match self {
            // A store may look at some at a time.
            Self::Expired(now) => {
                let (mut expired, mut looks) = (store.expired(now, 1_000).await, 0);
                while matches!(&expired, Ok(expired) if expired.more) && looks < 99 {
                    (expired, looks) = (store.expired(now, 1_000).await, looks + 1);
                }
                text(expired.map(|mut expired| {
                    expired.jobs.sort_by_key(|job| job.call.id);
                    expired.jobs
                }))
            }
            // Of one that holds nothing any more a store need not know.
            Self::Holder(task, key) => text(
                store
                    .holder(task, key)
                    .await
                    .map(|holder| holder.filter(|holder| holder.there.is_some_and(|there| !there.state.is_ended()))),
            ),
            Self::Steps(job, from, limit) => text(store.steps(job, from, limit).await),
            Self::Standing(job) => text(store.standing(job).await),
            Self::LastStep(job) => text(store.last_step(job).await),
            Self::Memos(job, step, from) => text(store.memos(job, step, from, 1_000).await),
            Self::Attempts(job) => text(store.attempts(job).await),
            other => panic!("{other:?} is a change"),
        }
    }
}

pub(crate) fn new_job((job, queue, task, priority, delay, expires, keyed, after): New, now: Timestamp) -> NewJob {
    let milliseconds = |time: i64| Duration::from_millis(time.unsigned_abs());
    let unique = keyed.map(|(_, on_duplicate, lasting, most)| {
        let until = lasting.map(|lasting| now + SignedDuration::from_millis(lasting));
        Box::new(Unique { on_duplicate, until, put_off: most.map(milliseconds) })
    });
    NewJob {
        call: JobCall {
            id: id(job),
            task: task.into(),
            queue: queue.into(),
            priority,
            args: Json::from_stored(format!("[{job}]")),
            max_time: None,
            enqueued: now,
            expires: expires.map(milliseconds),
            trace: None,
            key: keyed.map(|(key, ..)| format!("k{key}")),
            after: after
                .map(|(jobs, on_failure)| Box::new(After { jobs: jobs.into_iter().map(id).collect(), on_failure })),
        },
        due: now + SignedDuration::from_millis(delay),
        unique,
    }
}

/// Each id once, for a call names a job once.
fn jobs(mut new: Vec<New>, now: Timestamp) -> Vec<NewJob> {
    let mut seen = HashSet::new();
    new.retain(|(job, ..)| seen.insert(*job));
    new.into_iter().map(|new| new_job(new, now)).collect()
}

pub(crate) fn take_over(job: &Job, beat: Option<u64>, now: Timestamp) -> Settlement {
    let outcome = lifecycle::lost(&job.standing, Some(&Retry::DEFAULT), now);
    let lease = job.lease().unwrap();
    let (number, worker, ending) = (lease.attempt, lease.worker, Ending::Lost);
    let attempt = Attempt { number, worker, started: Some(now), ended: now, ending, steps: None };
    Settlement { hold: Hold::Silent { lease, beat }, outcome, steps: None, attempt: Some(attempt), now }
}

fn find(task: Option<&'static str>, queue: Option<&'static str>, state: Option<StateKind>, oldest_first: bool) -> Find {
    let mut find = Find::default();
    find.tasks = task.map(Into::into).into_iter().collect();
    find.queues = queue.map(Into::into).into_iter().collect();
    find.states = state.into_iter().collect();
    find.order = if oldest_first { Order::Oldest } else { Order::Newest };
    find
}

impl Operation {
    /// The calls that it comes to, as things stand in the model.
    pub(crate) async fn calls(self, model: &Model, now: Timestamp) -> Vec<Call> {
        let ago = |milliseconds: i64| Timestamp::from_millisecond(now.as_millisecond() - milliseconds).unwrap();
        vec![match self {
            Self::Wait(_) => return vec![],
            Self::Enqueue(new) => Call::Enqueue(jobs(new, now)),
            Self::Expire(behind) => Call::Expired(ago(behind)),
            Self::Lease { worker, queues, tasks, limit, suspects, behind } => Call::Lease(Ask {
                worker: worker_id(worker),
                queues: queues.into_iter().map(Into::into).collect(),
                tasks: tasks.into(),
                limit,
                suspects,
                now: ago(behind),
            }),
            Self::Renew { worker, beat } => Call::Renew(worker_id(worker), beat),
            Self::Leave { worker } => Call::Leave(worker_id(worker)),
            Self::Forget { worker, beat } => Call::Forget(worker_id(worker), beat),
            Self::TakeOver { worker, limit } => {
                let worker = worker_id(worker);
                let beat = model.known.lock().unwrap().beat(worker);
                let held = model.held(worker, limit).await.unwrap();
                let settle = Call::Settle(held.iter().map(|job| take_over(job, beat, now)).collect());
                return vec![Call::Workers, Call::Held(worker), settle];
            }
            Self::Record(writings) => {
                Call::Record(writings.into_iter().map(|writing| writing.record(model, now)).collect())
            }
            Self::Settle(settlings) => {
                Call::Settle(settlings.into_iter().map(|settling| settling.settlement(model, now)).collect())
            }
            Self::Prune { finished, dead } => Call::Prune(ago(finished), ago(dead)),
            Self::Find { task, queue, state, oldest_first, after } => {
                Call::Find(Box::new(find(task, queue, state, oldest_first)), after.map(id))
            }
            Self::Place { job, queue, priority, delay } => {
                let due = delay.map(|delay| now + SignedDuration::from_millis(delay));
                Call::Place(Placement { job: id(job), queue: queue.map(Into::into), priority, due })
            }
            Self::Note { mut changes, jobs: mut new } => {
                // Jobs of a note come after no others.
                new.iter_mut().for_each(|new| new.7 = None);
                changes.dedup_by_key(|change| change.name);
                let changes = changes.into_iter().filter_map(Noting::change).collect();
                return vec![Call::Note(changes, jobs(new, now)), Call::Notes];
            }
            Self::Steps { job, from, limit } => {
                return vec![Call::Standing(id(job)), Call::Steps(id(job), from, limit)];
            }
        }]
    }
}

impl Noting {
    fn change(self) -> Option<NoteChange> {
        let version = |number: u8| Version::from_bytes([number; 16]);
        let (kind, name) = ("pause".to_owned(), self.name.to_string());
        let seen = self.seen.map(version);
        Some(match self.version {
            Some(number) => {
                let value = Json::from_stored(format!("[{number}]"));
                NoteChange::Write { note: Note { kind, name, version: version(number), value, until: None }, seen }
            }
            None => NoteChange::Delete { kind, name, seen: seen? },
        })
    }
}

impl Claim {
    fn lease(&self, model: &Model) -> Lease {
        let job = model.find(id(self.job));
        let holder = job.as_ref().and_then(holder);
        Lease {
            job: id(self.job),
            attempt: job.map_or(0, |job| job.standing.attempt).saturating_add_signed(self.attempt_off.into()),
            worker: self.other_worker.map(worker_id).or(holder).unwrap_or(worker_id(0)),
        }
    }
}

impl Writing {
    fn record(self, model: &Model, now: Timestamp) -> Record {
        let lease = self.claim.lease(model);
        let job = model.find(lease.job);
        let (next, next_memo) = job.map_or((0, 0), |job| (job.counts.steps, job.counts.memos));
        let seqs = next.saturating_add_signed(self.from.into())..;
        let numbers = next_memo.saturating_add_signed(self.memos_from.into())..;
        let steps = seqs.zip(self.skipped).map(|(seq, skipped)| Step {
            seq,
            hash: u64::MAX - seq,
            reply: if skipped { Reply::Skipped("no".into()) } else { Reply::Value(Json::from_stored("7")) },
        });
        let memos = numbers.zip(self.for_step).map(|(number, for_step)| Memo {
            number,
            step: for_step.then_some(next),
            name: "name".into(),
            nth: u64::MAX / 2 - number,
            value: Json::from_stored("\"once\""),
        });
        let jobs = self.jobs.into_iter().map(|job| new_job((job, "mail", "send", 0, 0, None, None, None), now));
        let progress = self.progress.map(|done| Progress { done, total: 9 });
        Record {
            lease,
            steps: steps.collect(),
            memos: memos.collect(),
            jobs: jobs.collect(),
            progress,
            passed: self.passed,
        }
    }
}

impl Settling {
    fn settlement(self, model: &Model, now: Timestamp) -> Settlement {
        let lease = self.claim.lease(model);
        let job = model.find(lease.job);
        let seen = job.as_ref().map_or(StateKind::Waiting, |job| job.standing.state.kind());
        let hold = match self.hold {
            Holding::Lease => Hold::Lease(lease),
            Holding::Silent(off) => {
                let beat = model.known.lock().unwrap().beat(lease.worker);
                Hold::Silent { lease, beat: beat.map(|beat| beat + off) }
            }
            Holding::Seen => Hold::Seen { job: lease.job, state: seen, attempt: lease.attempt },
            Holding::SeenAs(state) => Hold::Seen { job: lease.job, state, attempt: lease.attempt },
        };
        // Only an attempt under way can end.
        let ending = self.ending.filter(|_| seen == StateKind::Running);
        let attempt = ending.map(|ending| Attempt {
            number: lease.attempt,
            worker: lease.worker,
            started: Some(at(0)),
            ended: now,
            ending,
            steps: None,
        });
        let has = job.as_ref().map_or(0, |job| job.counts.steps);
        let steps = self.steps_from.map(|from| has.saturating_add_signed(from.into()));
        let Self { next, failures, .. } = self;
        let suspect = self.suspect.filter(|_| !next.is_ended());
        Settlement { hold, outcome: Outcome { next, failures, suspect }, steps, attempt, now }
    }
}
