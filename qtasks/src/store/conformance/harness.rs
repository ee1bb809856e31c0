//! The store under test, and what is handed to it.

use std::{future::Future, sync::Arc, time::Duration};

use futures::future::join_all;
use jiff::Timestamp;

use crate::{
    error::Result,
    model::{
        job::{
            Attempt, Ending, Job, JobCall, JobId, Lease, Memo, NewJob, NextState, Output, Progress, Reply, StateKind,
            Step, Suspect, WorkerId,
        },
        json::Json,
        lifecycle::Outcome,
    },
    store::{Ask, Hold, Leased, Listener, Presence, Record, Settlement, Store, Suspects, Written},
};

/// The store under test; a call of it that fails breaks the rule.
#[derive(Clone)]
pub(super) struct Subject(pub(super) Arc<dyn Store>);

pub(super) fn answer<T>(result: Result<T>) -> T {
    result.unwrap_or_else(|error| panic!("the store answers with an error: {error:?}"))
}

impl Subject {
    pub(super) async fn enqueue(&self, jobs: impl IntoIterator<Item = NewJob>) -> Vec<JobId> {
        let jobs: Vec<_> = jobs.into_iter().collect();
        let ids = jobs.iter().map(|job| job.call.id).collect();
        answer(self.0.enqueue(jobs).await);
        ids
    }

    pub(super) async fn lease_all(&self, ask: Ask) -> Leased {
        answer(self.0.lease(ask).await)
    }

    pub(super) async fn lease(&self, ask: Ask) -> Vec<Job> {
        self.lease_all(ask).await.jobs
    }

    /// A lease of a job in a queue of its own, by a worker of its own, which has renewed once, by [`BEAT`].
    pub(super) async fn running(&self) -> Lease {
        let id = JobId::new();
        let ask = ask_for(id, at(0));
        self.enqueue([NewJob::from(JobCall { id, queue: id.to_string(), ..call().call })]).await;
        self.renew(ask.worker, BEAT).await;
        let leased = self.lease(ask).await;
        assert_eq!(ids(&leased), [id], "a job that is due is leased to who asks for it");
        lease_of(&leased[0])
    }

    /// A suspect that is due.
    pub(super) async fn suspect(&self, priority: i16, suspect: Suspect) -> JobId {
        let ids = self.enqueue([NewJob::from(JobCall { task: "suspect".into(), priority, ..call().call })]).await;
        let leased = self.lease(Ask { tasks: ["suspect"].into(), ..ask(WorkerId::new()) }).await;
        let lost = settlement_to(lease_of(&leased[0]), Outcome { suspect: Some(suspect), ..outcome(waiting(0)) });
        self.settle(lost).await;
        ids[0]
    }

    pub(super) async fn renew(&self, worker: WorkerId, beat: u64) -> Vec<Lease> {
        sorted(answer(self.0.renew(worker, beat).await).leases)
    }

    /// The presence of a worker, if the store knows the worker.
    pub(super) async fn presence(&self, worker: WorkerId) -> Option<Presence> {
        let mut workers = answer(self.0.workers().await);
        workers.retain(|other| other.worker == worker);
        assert!(workers.len() < 2, "a worker is told of once");
        workers.pop()
    }

    /// The jobs that a worker holds.
    pub(super) async fn held(&self, worker: WorkerId) -> Vec<JobId> {
        let mut held = ids(&answer(self.0.held(worker, 10_000).await));
        held.sort();
        held
    }

    pub(super) async fn try_write(&self, record: Record) -> Written {
        let [written] = answer(self.0.record([record].into()).await)[..] else { panic!("a record gets one answer") };
        written
    }

    pub(super) async fn write(&self, record: Record) {
        assert_eq!(self.try_write(record).await, Written::Yes, "a record under a lease that holds is written");
    }

    pub(super) async fn settle_all(&self, settlements: impl IntoIterator<Item = Settlement>) -> Vec<Written> {
        answer(self.0.settle(settlements.into_iter().collect()).await)
    }

    pub(super) async fn try_settle(&self, settlement: Settlement) -> Written {
        let [written] = self.settle_all([settlement]).await[..] else { panic!("a settlement gets one answer") };
        written
    }

    pub(super) async fn settle(&self, settlement: Settlement) {
        assert_eq!(self.try_settle(settlement).await, Written::Yes, "a settlement whose hold holds is written");
    }

    pub(super) async fn job(&self, id: JobId) -> Job {
        answer(self.0.job(id).await).unwrap_or_else(|| panic!("job {id} is not there"))
    }

    /// Checks that the store gives the same standing and counts with the job and without it.
    pub(super) async fn stands_as_it_is(&self, id: JobId) {
        let Job { standing, counts, .. } = self.job(id).await;
        assert_eq!(answer(self.0.standing(id).await), Some((standing, counts)));
    }

    pub(super) async fn steps(&self, id: JobId) -> Vec<Step> {
        answer(self.0.steps(id, 0, 10_000).await)
    }

    pub(super) async fn memos(&self, id: JobId, step: Option<u64>) -> Vec<Memo> {
        answer(self.0.memos(id, step, 0, 10_000).await)
    }

    pub(super) async fn attempts(&self, id: JobId) -> Vec<Attempt> {
        answer(self.0.attempts(id).await)
    }

    /// Tries every write under `lease`, and checks that the job is as it was.
    pub(super) async fn can_not_write(&self, lease: Lease) {
        let before = (self.job(lease.job).await, self.steps(lease.job).await, self.attempts(lease.job).await);
        // Steps alone may take a shorter way than a record with more in it.
        let steps_alone = record(lease, [step(before.0.counts.steps)]);
        assert_eq!(self.try_write(steps_alone).await, Written::Fenced, "{lease:?} has recorded");
        let progress = Some(Progress { done: 77, total: 77 });
        let (memos, jobs) = (vec![memo(before.0.counts.memos, None)], vec![call()]);
        let enqueued = jobs[0].call.id;
        let record = Record { progress, memos, jobs, passed: true, ..record(lease, [step(before.0.counts.steps)]) };
        assert_eq!(self.try_write(record).await, Written::Fenced, "{lease:?} has recorded");
        for next in [done(), waiting(0), cancelled()] {
            let attempt = Some(attempt(lease, Ending::Done));
            let settlement = Settlement { attempt, ..settlement_to(lease, Outcome { failures: 77, ..outcome(next) }) };
            assert_eq!(self.try_settle(settlement).await, Written::Fenced, "{lease:?} has settled");
        }
        // A job that is done may take a shorter way than others.
        assert_eq!(self.try_settle(ended_well(lease)).await, Written::Fenced, "{lease:?} has ended well");
        let after = (self.job(lease.job).await, self.steps(lease.job).await, self.attempts(lease.job).await);
        assert_eq!(after, before, "{lease:?} has left a trace");
        assert_eq!(answer(self.0.job(enqueued).await), None, "{lease:?} has enqueued a job");
    }
}

pub(super) async fn expect_notification(listener: &mut Listener, what: &str) {
    // The timeout is there only to fail rather than to hang.
    let notified = tokio::time::timeout(Duration::from_secs(30), listener.notification()).await;
    notified.unwrap_or_else(|_| panic!("{what} is notified"));
}

/// Runs all futures at once and gives their outputs, in order.
pub(super) async fn at_once<T: Send + 'static>(
    futures: impl IntoIterator<Item: Future<Output = T> + Send + 'static>,
) -> Vec<T> {
    let running: Vec<_> = futures.into_iter().map(tokio::spawn).collect();
    join_all(running).await.into_iter().map(|ended| ended.expect("a call of the store does not panic")).collect()
}

/// So many milliseconds from the beginning of the test.
pub(super) fn at(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(1_700_000_000_000 + milliseconds).expect("tests last no centuries")
}

pub(super) fn json(text: &str) -> Json {
    Json::from_stored(text)
}

pub(super) fn call() -> NewJob {
    NewJob {
        call: JobCall {
            id: JobId::new(),
            task: "task".into(),
            queue: "default".into(),
            priority: 0,
            args: json("{}"),
            max_time: None,
            enqueued: at(0),
            expires: None,
            trace: None,
            key: None,
            after: None,
        },
        due: at(0),
        unique: None,
    }
}

pub(super) fn calls(count: usize) -> Vec<NewJob> {
    (0..count).map(|_| call()).collect()
}

pub(super) fn ask(worker: WorkerId) -> Ask {
    Ask {
        worker,
        queues: queues(&["default"]),
        tasks: ["task", "suspect"].into(),
        limit: 1_000,
        suspects: Suspects::PassOver,
        now: at(0),
    }
}

/// What a new worker asks for to get the job that [`Subject::running`] made.
pub(super) fn ask_for(job: JobId, now: Timestamp) -> Ask {
    Ask { queues: queues(&[&job.to_string()]), now, ..ask(WorkerId::new()) }
}

pub(super) fn queues(names: &[&str]) -> Arc<[String]> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

pub(super) fn step(seq: u64) -> Step {
    Step { seq, hash: seq.wrapping_mul(u64::MAX / 3), reply: Reply::Value(json(&format!("{{\"n\":{seq}}}"))) }
}

pub(super) fn record(lease: Lease, steps: impl IntoIterator<Item = Step>) -> Record {
    Record {
        lease,
        steps: steps.into_iter().collect(),
        memos: Vec::new(),
        jobs: Vec::new(),
        progress: None,
        passed: false,
    }
}

/// Memo number `number`, for the body or for a step.
pub(super) fn memo(number: u64, step: Option<u64>) -> Memo {
    Memo { number, step, name: "name".into(), nth: number / 2, value: json(&format!("\"came of {number}\"")) }
}

pub(super) fn noted(lease: Lease, memos: impl IntoIterator<Item = Memo>) -> Record {
    Record { memos: memos.into_iter().collect(), ..record(lease, []) }
}

pub(super) fn settlement(lease: Lease, next: NextState) -> Settlement {
    settlement_to(lease, outcome(next))
}

pub(super) fn settlement_to(lease: Lease, outcome: Outcome) -> Settlement {
    Settlement { hold: Hold::Lease(lease), outcome, steps: None, attempt: None, now: at(0) }
}

pub(super) fn outcome(next: NextState) -> Outcome {
    Outcome { next, failures: 0, suspect: None }
}

/// All states of jobs.
pub(super) const STATES: [StateKind; 5] =
    [StateKind::Waiting, StateKind::Running, StateKind::Done, StateKind::Dead, StateKind::Cancelled];

/// The condition that a job is in a state, at its first attempt.
pub(super) fn seen(job: JobId, state: StateKind) -> Hold {
    Hold::Seen { job, state, attempt: 1 }
}

pub(super) fn cancel(lease: Lease) -> Settlement {
    let hold = Hold::Seen { job: lease.job, state: StateKind::Running, attempt: lease.attempt };
    let ended = attempt(lease, Ending::Cancelled { reason: "enough".into() });
    Settlement { hold, attempt: Some(ended), ..settlement(lease, cancelled()) }
}

/// The same attempt, when the job had so many steps.
pub(super) fn with_steps(attempt: Attempt, steps: u64) -> Attempt {
    Attempt { steps: Some(steps), ..attempt }
}

/// An attempt at a job without steps.
pub(super) fn attempt(lease: Lease, ending: Ending) -> Attempt {
    Attempt { number: lease.attempt, worker: lease.worker, started: Some(at(1)), ended: at(2), ending, steps: Some(0) }
}

/// The end of a job that is done, with its attempt.
pub(super) fn ended_well(lease: Lease) -> Settlement {
    let attempt = attempt(lease, Ending::Done);
    Settlement { now: attempt.ended, attempt: Some(attempt), ..settlement(lease, done()) }
}

pub(super) fn waiting(milliseconds: i64) -> NextState {
    NextState::Waiting { due: at(milliseconds) }
}

pub(super) fn done() -> NextState {
    NextState::Done { output: Output::Value(json("1")) }
}

pub(super) fn dead() -> NextState {
    NextState::Dead { error: "no".into() }
}

pub(super) fn cancelled() -> NextState {
    NextState::Cancelled { reason: "enough".into() }
}

/// The number of the one renewal of a worker that [`Subject::running`] made.
pub(super) const BEAT: u64 = 4;

/// The settlement of a job that is taken from its worker, which was last seen at this beat.
pub(super) fn lost(lease: Lease, beat: impl Into<Option<u64>>) -> Settlement {
    let now = at(9_000);
    Settlement { hold: Hold::Silent { lease, beat: beat.into() }, now, ..settlement(lease, waiting(9_000)) }
}

pub(super) fn ids(jobs: &[Job]) -> Vec<JobId> {
    jobs.iter().map(|job| job.call.id).collect()
}

pub(super) fn sorted(mut leases: Vec<Lease>) -> Vec<Lease> {
    leases.sort_by_key(|lease| lease.job);
    leases
}

pub(super) fn lease_of(job: &Job) -> Lease {
    job.lease().unwrap_or_else(|| panic!("job {} is {}, not running", job.call.id, job.standing.state.name()))
}
