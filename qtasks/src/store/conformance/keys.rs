//! Of the jobs with one key one lives at a time.

use std::{collections::HashSet, sync::Arc, time::Duration};

use super::harness::*;
use crate::{
    error::Error,
    model::{
        job::{Job, JobCall, JobId, NewJob, State, StateKind, WorkerId},
        unique::{Duplicate, Unique},
    },
    store::{Ask, Hold, Joined, Settlement, Store, Written},
};

/// A call with a key, enqueued and due at this time.
fn keyed(key: &str, on_duplicate: Duplicate, now: i64) -> NewJob {
    let call = JobCall { key: Some(key.to_owned()), enqueued: at(now), ..call().call };
    let unique = Some(Box::new(Unique { on_duplicate, ..Unique::default() }));
    NewJob { call, due: at(now), unique }
}

fn joins(key: &str) -> NewJob {
    keyed(key, Duplicate::Join, 0)
}

fn with_args(args: &str, new: NewJob) -> NewJob {
    NewJob { call: JobCall { args: json(args), ..new.call }, ..new }
}

impl Subject {
    async fn claim(&self, jobs: impl IntoIterator<Item = NewJob>) -> Vec<Joined> {
        answer(self.0.enqueue(jobs.into_iter().collect()).await)
    }

    /// Enqueues one job, and gives the id of the one that is that of the call.
    async fn claim_one(&self, new: NewJob) -> JobId {
        let id = new.call.id;
        match self.claim([new]).await[..] {
            [] => id,
            [joined] => {
                assert_eq!(joined.job, id);
                assert_ne!(joined.holder, id);
                joined.holder
            }
            ref several => panic!("one job has joined several: {several:?}"),
        }
    }

    async fn is_there(&self, id: JobId) -> bool {
        answer(self.0.job(id).await).is_some()
    }

    async fn refusal(&self, jobs: impl IntoIterator<Item = NewJob>) -> Error {
        self.0.enqueue(jobs.into_iter().collect()).await.expect_err("one of the jobs is refused")
    }

    async fn end(&self, id: JobId, from: StateKind) {
        let attempt = self.job(id).await.standing.attempt;
        let hold = Hold::Seen { job: id, state: from, attempt };
        self.settle(Settlement { hold, outcome: outcome(cancelled()), steps: None, attempt: None, now: at(0) }).await;
    }
}

fn ready(id: JobId, attempt: u32) -> Settlement {
    let hold = Hold::Seen { job: id, state: StateKind::Cancelled, attempt };
    Settlement { hold, outcome: outcome(waiting(0)), steps: None, attempt: None, now: at(0) }
}

/// While a job waits or runs that has a key, it is the job of each further call with that key. Each task has keys of its own.
pub async fn a_job_holds_its_key_until_it_has_ended(store: Arc<dyn Store>) {
    let store = Subject(store);
    let first = store.claim_one(joins("k")).await;
    assert_eq!(store.claim_one(joins("k")).await, first);
    assert_ne!(store.claim_one(joins("other")).await, first);
    let other_task = NewJob { call: JobCall { task: "suspect".into(), ..joins("k").call }, ..joins("k") };
    assert_ne!(store.claim_one(other_task).await, first);
    assert_eq!(answer(store.0.holder("task", "k").await).expect("it is taken").job, first);
    assert_eq!(answer(store.0.holder("task", "none").await), None);
    let leased = store.lease(Ask { limit: 1, ..ask(WorkerId::new()) }).await;
    assert_eq!(ids(&leased), [first]);
    assert_eq!(store.claim_one(joins("k")).await, first, "it runs");
    store.settle(settlement(lease_of(&leased[0]), waiting(5_000))).await;
    assert_eq!(store.claim_one(joins("k")).await, first, "it waits between two tries");
    let mut last = first;
    for next in [done(), dead(), cancelled()] {
        let leased = store.lease(Ask { now: at(9_000), ..ask(WorkerId::new()) }).await;
        let job = leased.iter().find(|job| job.call.id == last).expect("it is due");
        store.settle(settlement(lease_of(job), next)).await;
        let next = store.claim_one(joins("k")).await;
        assert_ne!(next, last, "what has ended holds no key");
        assert_eq!(store.claim_one(joins("k")).await, next);
        last = next;
    }
    assert_eq!(store.job(last).await.call.key.as_deref(), Some("k"));
}

/// Also where calls come at the same time, alone or together with others: with a key that no job had before, and with one whose job has
/// ended.
pub async fn of_calls_at_once_one_makes_the_job(store: Arc<dyn Store>) {
    let store = Subject(store);
    let first = store.one_of_calls_at_once().await;
    store.end(first, StateKind::Waiting).await;
    assert_ne!(store.one_of_calls_at_once().await, first);
    let counts = answer(store.0.counts(at(0)).await);
    assert_eq!(counts.iter().map(|lane| lane.jobs.total()).sum::<u64>(), (1 + 16 + 4) + (1 + 16));
    assert_eq!(answer(store.0.recount().await), 0);
}

impl Subject {
    /// The job that one of many calls with a key makes.
    async fn one_of_calls_at_once(&self) -> JobId {
        let store = self;
        let calls = (0..32).map(|number| {
            let store = store.clone();
            let with_others = number % 2 == 0;
            async move {
                let mut jobs = vec![joins("k")];
                if with_others {
                    jobs.extend([call(), joins(&format!("k{}", number % 4)), joins(&format!("k{}", (number + 1) % 4))]);
                }
                let id = jobs[0].call.id;
                let joined = store.claim(jobs).await;
                joined.iter().find(|joined| joined.job == id).map_or(id, |joined| joined.holder)
            }
        });
        let found: HashSet<_> = at_once(calls).await.into_iter().collect();
        assert_eq!(found.len(), 1, "{found:?}");
        found.into_iter().next().expect("there is one")
    }
}

/// Of a call with several jobs of one key too.
pub async fn the_second_of_a_call_joins_the_first(store: Arc<dyn Store>) {
    let store = Subject(store);
    let jobs = [joins("a"), joins("b"), joins("a"), call(), joins("a")];
    let [first, second, third, plain, fifth] = [0, 1, 2, 3, 4].map(|index: usize| jobs[index].call.id);
    let mut joined = store.claim(jobs).await;
    joined.sort_by_key(|joined| joined.job);
    assert_eq!(joined, [third, fifth].map(|job| Joined { job, holder: first }));
    for (id, there) in [(first, true), (second, true), (third, false), (plain, true), (fifth, false)] {
        assert_eq!(store.is_there(id).await, there);
    }
    let last = with_args("[3]", keyed("c", Duplicate::Replace, 0));
    let jobs = [with_args("[1]", joins("c")), last];
    let first = jobs[0].call.id;
    assert_eq!(store.claim(jobs).await.len(), 1);
    assert_eq!(store.job(first).await.call.args, json("[3]"));
}

/// A job that was never started gets the arguments, the priority, the time and the rest of a call that replaces it. Its id, its queue and
/// the time of its enqueue stay.
pub async fn a_job_that_waits_is_replaced(store: Arc<dyn Store>) {
    let store = Subject(store);
    let first = with_args("[1]", joins("k"));
    let id = store.claim_one(first.clone()).await;
    let behind = store.enqueue([call()]).await[0];
    let large = format!("[\"{}\"]", "x".repeat(5_000));
    for (args, due) in [("[2]", 700), (&*large, 500), ("[4]", 600)] {
        let new = with_args(args, keyed("k", Duplicate::Replace, 100));
        let call = JobCall {
            queue: "elsewhere".into(),
            priority: 7,
            max_time: Some(Duration::from_secs(9)),
            expires: Some(Duration::from_secs(30)),
            ..new.call
        };
        let new = NewJob { call, due: at(due), ..new };
        assert_eq!(store.claim_one(new.clone()).await, id);
        let expected = JobCall { id, queue: "default".into(), enqueued: at(0), ..new.call.clone() };
        let job = store.job(id).await;
        assert_eq!((&job.call, &job.standing.state), (&expected, &State::waiting(at(due))));
        assert!(!store.is_there(new.call.id).await);
    }
    let now = |now| Ask { now: at(now), ..ask(WorkerId::new()) };
    assert_eq!(ids(&store.lease(now(599)).await), [behind]);
    let leased = store.lease(now(600)).await;
    assert_eq!((ids(&leased), &leased[0].call.args), (vec![id], &json("[4]")));
    let late = with_args("[5]", keyed("k", Duplicate::Replace, 100));
    assert_eq!(store.claim_one(late).await, id, "it runs, and is joined");
    assert_eq!(store.job(id).await, leased[0]);
    assert_eq!(answer(store.0.recount().await), 0);
}

/// By calls that replace it a job is put off up to a time after it was enqueued.
pub async fn a_job_is_put_off_for_a_time_at_most(store: Arc<dyn Store>) {
    let store = Subject(store);
    let put_off = |now: i64| {
        let new = keyed("k", Duplicate::Replace, now);
        let put_off = Some(Duration::from_millis(60_000));
        let unique = Some(Box::new(Unique { on_duplicate: Duplicate::Replace, until: None, put_off }));
        NewJob { due: at(now + 5_000), unique, ..new }
    };
    let id = store.claim_one(put_off(0)).await;
    for (now, due) in [(4_000, 9_000), (54_000, 59_000), (58_000, 60_000), (59_999, 60_000)] {
        assert_eq!(store.claim_one(put_off(now)).await, id);
        assert_eq!(store.job(id).await.standing.state, State::waiting(at(due)), "at {now}");
    }
}

/// When a worker leases a job while it is replaced, either comes first, and never half of it.
pub async fn a_job_is_replaced_or_leased(store: Arc<dyn Store>) {
    let store = Subject(store);
    for round in 0..20 {
        let key = format!("k{round}");
        let id = store.claim_one(with_args("[1]", joins(&key))).await;
        let (caller, worker) = (store.clone(), store.clone());
        let new = with_args("[2]", keyed(&key, Duplicate::Replace, 0));
        let replacing = tokio::spawn(async move { caller.claim_one(new).await });
        let leasing = tokio::spawn(async move { worker.lease(ask(WorkerId::new())).await });
        let (found, leased) = (replacing.await.expect("no panic"), leasing.await.expect("no panic"));
        assert_eq!(found, id);
        let leased = if leased.is_empty() { store.lease(ask(WorkerId::new())).await } else { leased };
        assert_eq!(leased, [store.job(id).await], "what runs is what the store has");
    }
}

/// Nothing of a call is added of which one job is refused, and the error names the holder of the key.
pub async fn a_call_is_refused_whose_key_is_held(store: Arc<dyn Store>) {
    let store = Subject(store);
    let refuses = |key| keyed(key, Duplicate::Refuse, 0);
    let holder = store.claim_one(refuses("k")).await;
    let (beside, new) = (call(), refuses("new"));
    let others = [beside.call.id, new.call.id];
    let error = store.refusal([beside, new, refuses("k")]).await;
    assert_eq!(error.to_string(), format!("job {holder} of `task` holds the key `k`"));
    for id in others {
        assert!(!store.is_there(id).await, "nothing of the call is added");
    }
    let twice = [joins("twice"), refuses("twice")];
    let first = twice[0].call.id;
    assert!(matches!(store.refusal(twice).await, Error::Duplicate { job, .. } if job == first));
    assert!(!store.is_there(first).await);
    store.claim([refuses("new"), call()]).await;
    store.end(holder, StateKind::Waiting).await;
    assert_ne!(store.claim_one(refuses("k")).await, holder);
}

/// A key may be held for a time, whatever becomes of the job: also after that is pruned.
pub async fn a_key_is_held_for_a_time(store: Arc<dyn Store>) {
    let store = Subject(store);
    let lasting = |now: i64| {
        let unique = Unique { until: Some(at(now + 60_000)), ..Unique::default() };
        NewJob { unique: Some(Box::new(unique)), ..keyed("k", Duplicate::Join, now) }
    };
    let first = store.claim_one(lasting(0)).await;
    store.end(first, StateKind::Waiting).await;
    assert_eq!(store.claim_one(lasting(59_999)).await, first);
    assert_eq!(answer(store.0.prune(at(1), at(1), 99).await), 1);
    assert_eq!(store.claim_one(lasting(59_999)).await, first, "the job is not there any more");
    let second = store.claim_one(lasting(60_000)).await;
    assert_ne!(second, first);
    assert_eq!(store.claim_one(lasting(120_001)).await, second, "it lives");
    store.end(second, StateKind::Waiting).await;
    assert_ne!(store.claim_one(lasting(120_001)).await, second);
}

/// Once the job that took a key is pruned, the store knows no holder of that key.
pub async fn a_pruned_job_leaves_its_key(store: Arc<dyn Store>) {
    let store = Subject(store);
    let first = store.claim_one(joins("k")).await;
    store.end(first, StateKind::Waiting).await;
    assert_eq!(answer(store.0.prune(at(1), at(1), 99).await), 1);
    assert_eq!(answer(store.0.holder("task", "k").await), None);
    let second = store.claim_one(joins("k")).await;
    assert_ne!(second, first);
    assert_eq!(store.claim_one(joins("k")).await, second);
}

/// A call that is made again finds its own job, whatever has become of that and of its key.
pub async fn a_call_with_a_key_can_be_made_again(store: Arc<dyn Store>) {
    let store = Subject(store);
    for on_duplicate in [Duplicate::Join, Duplicate::Replace, Duplicate::Refuse] {
        let new = with_args("[1]", keyed("k", on_duplicate, 0));
        let id = new.call.id;
        for _ in 0..3 {
            assert_eq!(store.claim([new.clone()]).await, []);
        }
        store.end(id, StateKind::Waiting).await;
        assert_eq!(store.claim([new.clone()]).await, []);
        let next = store.claim_one(joins("k")).await;
        assert_ne!(next, id);
        assert_eq!(store.claim([new]).await, []);
        store.end(next, StateKind::Waiting).await;
    }
}

/// A job that had ended takes its key again when it is tried again. While another one has that, it stays as it is.
pub async fn a_job_that_is_tried_again_takes_its_key(store: Arc<dyn Store>) {
    let store = Subject(store);
    let first = store.claim_one(joins("k")).await;
    store.end(first, StateKind::Waiting).await;
    store.settle(ready(first, 0)).await;
    assert_eq!(store.claim_one(joins("k")).await, first, "it has its key again");
    store.end(first, StateKind::Waiting).await;
    let second = store.claim_one(joins("k")).await;
    let before = store.job(first).await;
    let plain = store.enqueue([call()]).await[0];
    store.end(plain, StateKind::Waiting).await;
    let answers = store.settle_all([ready(plain, 0), ready(first, 0)]).await;
    assert_eq!(answers, [Written::Yes, Written::Fenced]);
    assert_eq!(store.job(first).await, before);
    store.end(second, StateKind::Waiting).await;
    let answers = store.settle_all([ready(first, 0), ready(second, 0)]).await;
    assert_eq!(answers, [Written::Yes, Written::Fenced], "one of the two lives again");
    assert_eq!(store.claim_one(joins("k")).await, first);
    assert_eq!(answer(store.0.recount().await), 0);
}

/// Together with notes too, where none is refused.
pub async fn jobs_of_a_note_join_those_that_hold_their_keys(store: Arc<dyn Store>) {
    let store = Subject(store);
    let holder = store.claim_one(with_args("[1]", joins("k"))).await;
    let replaces = with_args("[2]", keyed("k", Duplicate::Replace, 0));
    let jobs = [keyed("k", Duplicate::Refuse, 0), replaces, joins("new"), joins("new"), call()];
    let added: Vec<_> = jobs.iter().map(|new| new.call.id).collect();
    assert_eq!(store.note([], jobs.to_vec()).await, Written::Yes);
    let mut there = Vec::new();
    for id in &added {
        there.push(store.is_there(*id).await);
    }
    assert_eq!(there, [false, false, true, false, true]);
    let Job { call, .. } = store.job(holder).await;
    assert_eq!(call.args, json("[2]"));
    assert_eq!(store.claim_one(joins("new")).await, added[2]);
}
