//! Stores against a model: whatever is done to them, in whatever order, they answer as a list of jobs would that is
//! searched from end to end each time.
//!
//! The same sequences of calls are tried each time; `PROPTEST_CASES` tries so many others, which differ from run to run.

use std::{
    cmp::Reverse,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use proptest::{
    collection::vec,
    option,
    prelude::*,
    sample::{select, subsequence},
    test_runner::{Config, RngSeed, TestCaseError, TestRunner},
};
use qtasks::{
    Error, Result, Retry,
    job::{
        Attempt, Counts, Ending, Job, JobCall, JobId, Lease, Memo, NewJob, NextState, Output, Progress, Reply, Shape,
        Standing, State, StateKind, Step, Suspect, WorkerId,
    },
    json::Json,
    lifecycle,
    lifecycle::Outcome,
    store::{
        Ask, Filter, Hold, Leased, Memory, Notifier, Presence, Record, Renewed, Settlement, Store, Suspects, Written,
        postgres::Postgres, sqlite::Sqlite, trim_attempts,
    },
};
use qtasks_tests::{length::by_length, servers};
use tempfile::TempDir;

#[test]
fn memory_agrees_with_the_model() {
    agrees_with_the_model(by_length(24, 96), async || ((), Arc::new(Memory::new()) as _));
}

#[test]
fn sqlite_agrees_with_the_model() {
    agrees_with_the_model(by_length(24, 96), async || {
        let folder = TempDir::new().unwrap();
        let url = format!("sqlite:{}?synchronous=off", folder.path().join("jobs.db").display());
        let store = Sqlite::open(&url).await.unwrap();
        (folder, Arc::new(store) as _)
    });
}

#[test]
#[cfg_attr(missing = "redis", ignore = "redis-server is not installed")]
fn redis_agrees_with_the_model() {
    agrees_with_the_model(by_length(24, 96), async || ((), qtasks::store::open(&servers::redis::url()).await.unwrap()));
}

#[test]
#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
fn postgres_agrees_with_the_model() {
    // Each on tables of its own.
    agrees_with_the_model(by_length(6, 24), async || {
        ((), Arc::new(Postgres::open(&servers::postgres::url()).await.unwrap()) as _)
    });
}

/// For the sequences that are always tried.
const SEED: u64 = 4;

/// Tries sequences of calls on stores that `make` gives, each with something to keep until the store is dropped.
fn agrees_with_the_model<G>(cases: u32, make: impl AsyncFn() -> (G, Arc<dyn Store>)) {
    let mut config = Config { failure_persistence: None, ..Config::default() };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = cases;
        config.rng_seed = RngSeed::Fixed(SEED);
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let tried = TestRunner::new(config).run(&vec(operation(), 1..80), |operations| {
        runtime.block_on(async {
            let (_guard, store) = make().await;
            agree(store, operations).await
        })
    });
    tried.unwrap_or_else(|error| panic!("{error}"));
}

async fn agree(store: Arc<dyn Store>, operations: Vec<Operation>) -> Result<(), TestCaseError> {
    let model = Model::default();
    let mut now = at(0);
    for operation in operations {
        if let Operation::Wait(milliseconds) = operation {
            now += SignedDuration::from_millis(milliseconds);
        }
        for call in operation.calls(&model, now).await {
            let expected = call.clone().make(&model).await;
            prop_assert_eq!(call.clone().make(&*store).await, expected, "{:#?}", call);
            prop_assert_eq!(all_jobs(&*store).await, all_jobs(&model).await, "all jobs after {:#?}", call);
        }
    }
    for job in all_jobs(&model).await {
        let memos = [None, Some(0), Some(1), Some(2)].map(|step| Call::Memos(job.call.id, step, 0));
        let rest = [
            Call::Standing(job.call.id),
            Call::Memos(job.call.id, None, 2),
            Call::Steps(job.call.id, 0, 1_000),
            Call::LastStep(job.call.id),
        ];
        for call in memos.into_iter().chain(rest).chain([Call::Attempts(job.call.id)]) {
            prop_assert_eq!(call.clone().make(&*store).await, call.clone().make(&model).await, "{:#?}", call);
        }
    }
    Ok(())
}

async fn all_jobs(store: &dyn Store) -> Vec<Job> {
    store.jobs(Filter::default(), None, 1_000).await.unwrap()
}

// What is done

const QUEUES: [&str; 3] = ["default", "mail", "reports"];
const TASKS: [&str; 3] = ["send", "crawl", "send.all"];
const STATES: [StateKind; 5] =
    [StateKind::Waiting, StateKind::Running, StateKind::Done, StateKind::Dead, StateKind::Cancelled];

/// Clocks differ by as much, and step by it; in milliseconds.
const HOUR: i64 = 3_600_000;

/// Something to do, with numbers in place of what only the moment decides: so that it often makes sense when it comes.
#[derive(Clone, Debug)]
enum Operation {
    Wait(i64),
    Enqueue(Vec<New>),
    Lease {
        worker: u8,
        queues: Vec<&'static str>,
        tasks: Vec<&'static str>,
        limit: usize,
        suspects: Suspects,
        behind: i64,
    },
    Renew {
        worker: u8,
        beat: u64,
    },
    Leave {
        worker: u8,
    },
    Forget {
        worker: u8,
        beat: Option<u64>,
    },
    TakeOver {
        worker: u8,
        limit: usize,
    },
    Record(Vec<Writing>),
    Settle(Vec<Settling>),
    Prune {
        finished: i64,
        dead: i64,
    },
    Jobs {
        task: Option<&'static str>,
        queue: Option<&'static str>,
        state: Option<StateKind>,
        after: Option<u8>,
    },
    Steps {
        job: u8,
        from: u64,
        limit: usize,
    },
}

/// A job to be enqueued: its number, its queue, its task, its priority, and when it is due.
type New = (u8, &'static str, &'static str, i16, i64);

/// A claim on a job, near to the one that is good: the attempt may be off by some, the worker another.
#[derive(Clone, Debug)]
struct Claim {
    job: u8,
    attempt_off: i8,
    other_worker: Option<u8>,
}

#[derive(Clone, Debug)]
struct Writing {
    claim: Claim,
    /// Where the steps begin, counted from the job's next one.
    from: i8,
    /// Of each step whether it is skipped.
    skipped: Vec<bool>,
    /// Where the memos begin, counted from the job's next one.
    memos_from: i8,
    /// Of each memo whether it is for a step.
    for_step: Vec<bool>,
    /// Jobs that are enqueued by it.
    jobs: Vec<u8>,
    progress: Option<u64>,
    passed: bool,
}

#[derive(Clone, Debug)]
struct Settling {
    claim: Claim,
    hold: Holding,
    /// How many steps the job must have, counted from those that it has.
    steps_from: Option<i8>,
    next: NextState,
    failures: u32,
    suspect: Option<Suspect>,
    ending: Option<Ending>,
}

#[derive(Clone, Debug)]
enum Holding {
    Lease,
    /// The worker is silent since a beat, which is off by some.
    Silent(u64),
    Seen,
    SeenAs(StateKind),
}

fn operation() -> impl Strategy<Value = Operation> {
    let new = (job(), select(&QUEUES[..]), select(&TASKS[..]), -2..=2_i16, time(&[0, 0, 0, -5, 5, 10, 30]));
    let names = |names: &'static [&'static str]| prop_oneof![Just(names.to_vec()), subsequence(names.to_vec(), 0..=3)];
    let lease =
        (worker(), names(&QUEUES), names(&TASKS), 0..6_usize, suspects(), time(&[0, 0, 0, 1, 5, 10, HOUR, -HOUR]));
    let jobs = (option::of(select(&TASKS[..])), option::of(select(&QUEUES[..])), option::of(select(&STATES[..])));
    prop_oneof![
        2 => time(&[1, 5, 10]).prop_map(Operation::Wait),
        1 => time(&[HOUR, -HOUR]).prop_map(Operation::Wait),
        4 => vec(new, 0..5).prop_map(Operation::Enqueue),
        6 => lease.prop_map(|(worker, queues, tasks, limit, suspects, behind)| {
            Operation::Lease { worker, queues, tasks, limit, suspects, behind }
        }),
        3 => (worker(), 0..3_u64).prop_map(|(worker, beat)| Operation::Renew { worker, beat }),
        1 => worker().prop_map(|worker| Operation::Leave { worker }),
        1 => (worker(), option::of(0..3_u64)).prop_map(|(worker, beat)| Operation::Forget { worker, beat }),
        2 => (worker(), 0..5_usize).prop_map(|(worker, limit)| Operation::TakeOver { worker, limit }),
        6 => vec(writing(), 0..4).prop_map(Operation::Record),
        6 => vec(settling(), 0..4).prop_map(Operation::Settle),
        1 => (time(&[-5, 0, 5, 10]), time(&[-5, 0, 5, 10])).prop_map(|(finished, dead)| Operation::Prune { finished, dead }),
        2 => (jobs, option::of(job())).prop_map(|((task, queue, state), after)| {
            Operation::Jobs { task, queue, state, after }
        }),
        1 => (job(), 0..6_u64, 0..6_usize).prop_map(|(job, from, limit)| Operation::Steps { job, from, limit }),
    ]
}

fn suspects() -> impl Strategy<Value = Suspects> {
    select(vec![Suspects::PassOver, Suspects::OneBesideOthers, Suspects::OneAlone])
}

fn suspect() -> impl Strategy<Value = Suspect> {
    (select(vec![0, 1, 70_000]), 0..3_u32).prop_map(|(survived, losses)| Suspect {
        survived: std::time::Duration::from_millis(survived),
        losses,
        ..Suspect::default()
    })
}

/// Few times, so that they often fall together.
fn time(milliseconds: &'static [i64]) -> impl Strategy<Value = i64> {
    select(milliseconds)
}

fn job() -> impl Strategy<Value = u8> {
    0..10_u8
}

fn worker() -> impl Strategy<Value = u8> {
    0..3_u8
}

fn claim() -> impl Strategy<Value = Claim> {
    let attempt_off = prop_oneof![8 => Just(0_i8), 1 => Just(-1), 1 => Just(1)];
    let other_worker = prop_oneof![8 => Just(None), 1 => worker().prop_map(Some)];
    (job(), attempt_off, other_worker).prop_map(|(job, attempt_off, other_worker)| Claim {
        job,
        attempt_off,
        other_worker,
    })
}

fn writing() -> impl Strategy<Value = Writing> {
    let from = || prop_oneof![8 => Just(0_i8), 2 => -3..0_i8, 1 => Just(1)];
    let steps = (from(), vec(prop::bool::weighted(0.3), 0..4));
    let memos = (from(), prop_oneof![2 => Just(vec![]), 1 => vec(any::<bool>(), 0..4)]);
    let jobs = prop_oneof![4 => Just(vec![]), 1 => vec(job(), 0..3)];
    (claim(), steps, memos, jobs, option::of(0..9_u64), any::<bool>()).prop_map(
        |(claim, (from, skipped), (memos_from, for_step), jobs, progress, passed)| Writing {
            claim,
            from,
            skipped,
            memos_from,
            for_step,
            jobs,
            progress,
            passed,
        },
    )
}

fn settling() -> impl Strategy<Value = Settling> {
    let hold = prop_oneof![
        4 => Just(Holding::Lease),
        2 => select(vec![0, 0, 1]).prop_map(Holding::Silent),
        2 => Just(Holding::Seen),
        1 => select(&STATES[..]).prop_map(Holding::SeenAs),
    ];
    let next = prop_oneof![
        3 => time(&[0, 5, 10, 20, 50]).prop_map(|due| NextState::Waiting { due: at(due) }),
        1 => Just(NextState::Done { output: Output::Steps(Shape::List) }),
        1 => Just(NextState::Done { output: Output::Value(Json::from_stored("[1, 2]")) }),
        1 => Just(NextState::Dead { error: "no".into() }),
        1 => Just(NextState::Cancelled { reason: "enough".into() }),
    ];
    let ending = option::of(select(vec![Ending::Done, Ending::Lost, Ending::Failed { error: "no".into() }]));
    let steps_from = option::of(select(vec![0, 0, 0, 1, -1]));
    (claim(), hold, steps_from, next, 0..4_u32, option::of(suspect()), ending).prop_map(
        |(claim, hold, steps_from, next, failures, suspect, ending)| Settling {
            claim,
            hold,
            steps_from,
            next,
            failures,
            suspect,
            ending,
        },
    )
}

/// One call of a store.
#[derive(Clone, Debug)]
enum Call {
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
    Jobs(Filter, Option<JobId>),
    Steps(JobId, u64, usize),
    LastStep(JobId),
    Standing(JobId),
    Memos(JobId, Option<u64>, u64),
    Attempts(JobId),
}

impl Call {
    /// Makes the call and gives the answer as text. Where the order is the store's own, it is that of the ids; what an
    /// error says is the store's own too.
    async fn make(self, store: &dyn Store) -> String {
        fn text(answer: Result<impl std::fmt::Debug>) -> String {
            answer.map_or_else(|_| "an error".to_owned(), |answer| format!("{answer:#?}"))
        }
        match self {
            Self::Enqueue(jobs) => text(store.enqueue(jobs).await),
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
            Self::Jobs(filter, after) => text(store.jobs(filter, after, 3).await),
            Self::Steps(job, from, limit) => text(store.steps(job, from, limit).await),
            Self::Standing(job) => text(store.standing(job).await),
            Self::LastStep(job) => text(store.last_step(job).await),
            Self::Memos(job, step, from) => text(store.memos(job, step, from, 1_000).await),
            Self::Attempts(job) => text(store.attempts(job).await),
        }
    }
}

fn new_job((job, queue, task, priority, delay): New, now: Timestamp) -> NewJob {
    NewJob {
        call: JobCall {
            id: id(job),
            task: task.into(),
            queue: queue.into(),
            priority,
            args: Json::from_stored(format!("[{job}]")),
            max_time: None,
            enqueued: now,
        },
        due: now + SignedDuration::from_millis(delay),
    }
}

impl Operation {
    /// The calls that it comes to, as things stand in the model.
    async fn calls(self, model: &Model, now: Timestamp) -> Vec<Call> {
        let ago = |milliseconds: i64| Timestamp::from_millisecond(now.as_millisecond() - milliseconds).unwrap();
        vec![match self {
            Self::Wait(_) => return vec![],
            Self::Enqueue(new) => Call::Enqueue(new.into_iter().map(|new| new_job(new, now)).collect()),
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
            Self::Jobs { task, queue, state, after } => {
                let mut filter = Filter::default();
                filter.task = task.map(Into::into);
                filter.queue = queue.map(Into::into);
                filter.state = state;
                Call::Jobs(filter, after.map(id))
            }
            Self::Steps { job, from, limit } => {
                return vec![Call::Standing(id(job)), Call::Steps(id(job), from, limit)];
            }
        }]
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
        let jobs = self.jobs.into_iter().map(|job| new_job((job, "mail", "send", 0, 0), now));
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
        });
        let has = job.as_ref().map_or(0, |job| job.counts.steps);
        let steps = self.steps_from.map(|from| has.saturating_add_signed(from.into()));
        let Self { next, failures, .. } = self;
        let suspect = self.suspect.filter(|_| !next.is_ended());
        Settlement { hold, outcome: Outcome { next, failures, suspect }, steps, attempt, now }
    }
}

fn take_over(job: &Job, beat: Option<u64>, now: Timestamp) -> Settlement {
    let outcome = lifecycle::lost(&job.standing, Some(&Retry::DEFAULT), now);
    let lease = job.lease().unwrap();
    let (number, worker, ending) = (lease.attempt, lease.worker, Ending::Lost);
    let attempt = Attempt { number, worker, started: Some(now), ended: now, ending };
    Settlement { hold: Hold::Silent { lease, beat }, outcome, steps: None, attempt: Some(attempt), now }
}

fn holder(job: &Job) -> Option<WorkerId> {
    match job.standing.state {
        State::Running { worker } => Some(worker),
        _ => None,
    }
}

fn at(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(1_700_000_000_000 + milliseconds).unwrap()
}

fn id(number: u8) -> JobId {
    JobId::from_bytes([number; 16])
}

fn worker_id(number: u8) -> WorkerId {
    WorkerId::from_bytes([number; 16])
}

// The model

/// A store that is plain to see through: lists, searched from end to end.
#[derive(Debug, Default)]
struct Model {
    known: Mutex<Known>,
    notifier: Notifier,
}

#[derive(Clone, Debug, Default)]
struct Known {
    jobs: Vec<Entry>,
    /// Each with the number of its last renewal; none, where it has left.
    workers: Vec<(WorkerId, Option<u64>)>,
}

#[derive(Clone, Debug)]
struct Entry {
    job: Job,
    steps: Vec<Step>,
    memos: Vec<Memo>,
    attempts: Vec<Attempt>,
    ended: Timestamp,
}

impl Model {
    fn find(&self, id: JobId) -> Option<Job> {
        self.known.lock().unwrap().find(id).map(|entry| entry.job.clone())
    }
}

impl Known {
    fn find(&mut self, id: JobId) -> Option<&mut Entry> {
        self.jobs.iter_mut().find(|entry| entry.job.call.id == id)
    }

    fn enqueue(&mut self, new: NewJob) {
        if self.find(new.call.id).is_some() {
            return;
        }
        let job = new.into();
        self.jobs.push(Entry { job, steps: vec![], memos: vec![], attempts: vec![], ended: Timestamp::MAX });
    }

    fn sorted(&self) -> Vec<Job> {
        let mut jobs: Vec<_> = self.jobs.iter().map(|entry| entry.job.clone()).collect();
        jobs.sort_by_key(|job| job.call.id);
        jobs
    }

    fn beat(&self, worker: WorkerId) -> Option<u64> {
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
        record.jobs.into_iter().for_each(|job| self.enqueue(job));
        Ok(Written::Yes)
    }

    fn settle(&mut self, settlement: Settlement) -> Written {
        let job = self.find(settlement.job()).map(|entry| entry.job.clone());
        let is_whole = |job: &Job| settlement.steps.is_none_or(|steps| steps == job.counts.steps);
        if !job.is_some_and(|job| self.holds(&job, settlement.hold) && is_whole(&job)) {
            return Written::Fenced;
        }
        let entry = self.find(settlement.job()).unwrap();
        entry.job.standing = settlement.outcome.standing(entry.job.standing.attempt);
        entry.attempts.extend(settlement.attempt);
        trim_attempts(&mut entry.attempts);
        entry.ended = settlement.now;
        Written::Yes
    }
}

#[async_trait]
impl Store for Model {
    async fn enqueue(&self, jobs: Vec<NewJob>) -> Result<()> {
        let mut known = self.known.lock().unwrap();
        jobs.into_iter().for_each(|job| known.enqueue(job));
        Ok(())
    }

    async fn lease(&self, ask: Ask) -> Result<Leased> {
        let mut known = self.known.lock().unwrap();
        let mut waiting: Vec<_> = known.jobs.iter_mut().map(|entry| &mut entry.job).collect();
        waiting.retain(|job| ask.queues.contains(&job.call.queue) && ask.tasks.contains(&job.call.task.as_str()));
        let due = |job: &Job| match job.standing.state {
            State::Waiting { due } => Some(due),
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
            job.standing.state = State::Running { worker: ask.worker };
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

    async fn jobs(&self, filter: Filter, after: Option<JobId>, limit: usize) -> Result<Vec<Job>> {
        let mut jobs = self.known.lock().unwrap().sorted();
        jobs.retain(|job| filter.passes(job) && after.is_none_or(|after| job.call.id > after));
        jobs.truncate(limit);
        Ok(jobs)
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
            !(entry.job.standing.state.is_ended() && entry.ended < limit)
        });
        assert!(before - known.jobs.len() <= limit, "which jobs go first is for each store to say");
        Ok(before - known.jobs.len())
    }

    fn notifier(&self) -> &Notifier {
        &self.notifier
    }
}
