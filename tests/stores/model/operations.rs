//! What is done: operations, drawn by chance.

use proptest::{
    collection::vec,
    option,
    prelude::*,
    sample::{select, subsequence},
};
use qtasks::{
    AfterFailure, Duplicate,
    job::{Ending, NextState, Output, Shape, StateKind, Suspect},
    json::Json,
    store::Suspects,
};

use crate::at;

pub(crate) const QUEUES: [&str; 3] = ["default", "mail", "reports"];
const TASKS: [&str; 3] = ["send", "crawl", "send.all"];
const STATES: [StateKind; 5] =
    [StateKind::Waiting, StateKind::Running, StateKind::Done, StateKind::Dead, StateKind::Cancelled];

/// Clocks differ by as much, and step by it; in milliseconds.
const HOUR: i64 = 3_600_000;

/// Something to do, with numbers in place of what only the moment decides: so that it often makes sense when it comes.
#[derive(Clone, Debug)]
pub(crate) enum Operation {
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
    Find {
        task: Option<&'static str>,
        queue: Option<&'static str>,
        state: Option<StateKind>,
        oldest_first: bool,
        after: Option<u8>,
    },
    Place {
        job: u8,
        queue: Option<&'static str>,
        priority: Option<i16>,
        delay: Option<i64>,
    },
    Note {
        changes: Vec<Noting>,
        jobs: Vec<New>,
    },
    /// Looks for jobs that have expired, by a clock that is so far behind.
    Expire(i64),
    Steps {
        job: u8,
        from: u64,
        limit: usize,
    },
}

/// A job to be enqueued: its number, its queue, its task, its priority, when it is due, how long after that it expires, its key, and the
/// jobs that it comes after.
pub(crate) type New =
    (u8, &'static str, &'static str, i16, i64, Option<i64>, Option<Keyed>, Option<(Vec<u8>, AfterFailure)>);

/// A key: which of a few it is, what becomes of a duplicate, how long it is held at least, and how long a job is put off at most.
pub(crate) type Keyed = (u8, Duplicate, Option<i64>, Option<i64>);

/// A claim on a job, near to the one that is good: the attempt may be off by some, the worker another.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    pub(crate) job: u8,
    pub(crate) attempt_off: i8,
    pub(crate) other_worker: Option<u8>,
}

#[derive(Clone, Debug)]
pub(crate) struct Writing {
    pub(crate) claim: Claim,
    /// Where the steps begin, counted from the job's next one.
    pub(crate) from: i8,
    /// Of each step whether it is skipped.
    pub(crate) skipped: Vec<bool>,
    /// Where the memos begin, counted from the job's next one.
    pub(crate) memos_from: i8,
    /// Of each memo whether it is for a step.
    pub(crate) for_step: Vec<bool>,
    /// Jobs that are enqueued by it.
    pub(crate) jobs: Vec<u8>,
    pub(crate) progress: Option<u64>,
    pub(crate) passed: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Settling {
    pub(crate) claim: Claim,
    pub(crate) hold: Holding,
    /// How many steps the job must have, counted from those that it has.
    pub(crate) steps_from: Option<i8>,
    pub(crate) next: NextState,
    pub(crate) failures: u32,
    pub(crate) suspect: Option<Suspect>,
    pub(crate) ending: Option<Ending>,
}

/// A change of one of a few notes, to or from one of a few versions.
#[derive(Clone, Debug)]
pub(crate) struct Noting {
    pub(crate) name: u8,
    pub(crate) seen: Option<u8>,
    /// The version that is written; none to delete.
    pub(crate) version: Option<u8>,
}

#[derive(Clone, Debug)]
pub(crate) enum Holding {
    Lease,
    /// The worker is silent since a beat, which is off by some.
    Silent(u64),
    Seen,
    SeenAs(StateKind),
}

pub(crate) fn operation() -> impl Strategy<Value = Operation> {
    let expires = || option::weighted(0.2, time(&[0, 5, 20]));
    let new = || {
        let due = time(&[0, 0, 0, -5, 5, 10, 30]);
        (
            job(),
            select(&QUEUES[..]),
            select(&TASKS[..]),
            -2..=2_i16,
            due,
            expires(),
            option::weighted(0.4, keyed()),
            option::weighted(0.3, after()),
        )
    };
    let names = |names: &'static [&'static str]| prop_oneof![Just(names.to_vec()), subsequence(names.to_vec(), 0..=3)];
    let lease =
        (worker(), names(&QUEUES), names(&TASKS), 0..6_usize, suspects(), time(&[0, 0, 0, 1, 5, 10, HOUR, -HOUR]));
    let jobs = (option::of(select(&TASKS[..])), option::of(select(&QUEUES[..])), option::of(select(&STATES[..])));
    let place = (job(), option::of(select(&QUEUES[..])), option::of(-2..=2_i16), option::of(time(&[0, -5, 5, 30])));
    prop_oneof![
        2 => time(&[1, 5, 10]).prop_map(Operation::Wait),
        1 => time(&[HOUR, -HOUR]).prop_map(Operation::Wait),
        4 => vec(new(), 0..5).prop_map(Operation::Enqueue),
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
        2 => (jobs, any::<bool>(), option::of(job())).prop_map(|((task, queue, state), oldest_first, after)| {
            Operation::Find { task, queue, state, oldest_first, after }
        }),
        2 => place.prop_map(|(job, queue, priority, delay)| Operation::Place { job, queue, priority, delay }),
        2 => (vec(noting(), 0..3), vec(new(), 0..2)).prop_map(|(changes, jobs)| Operation::Note { changes, jobs }),
        2 => time(&[0, 0, 5]).prop_map(Operation::Expire),
        1 => (job(), 0..6_u64, 0..6_usize).prop_map(|(job, from, limit)| Operation::Steps { job, from, limit }),
    ]
}

fn after() -> impl Strategy<Value = (Vec<u8>, AfterFailure)> {
    (vec(job(), 1..4), select(vec![AfterFailure::Cancel, AfterFailure::Run]))
}

fn keyed() -> impl Strategy<Value = Keyed> {
    let on_duplicate = select(vec![Duplicate::Join, Duplicate::Replace, Duplicate::Replace, Duplicate::Refuse]);
    let time = || option::weighted(0.3, time(&[1, 5, 20, HOUR]));
    (0..2_u8, on_duplicate, time(), time())
}

pub(crate) fn suspects() -> impl Strategy<Value = Suspects> {
    select(vec![Suspects::PassOver, Suspects::OneBesideOthers, Suspects::OneAlone])
}

pub(crate) fn suspect() -> impl Strategy<Value = Suspect> {
    (select(vec![0, 1, 70_000]), 0..3_u32).prop_map(|(survived, losses)| Suspect {
        survived: std::time::Duration::from_millis(survived),
        losses,
        ..Suspect::default()
    })
}

/// Few times, so that they often fall together.
pub(crate) fn time(milliseconds: &'static [i64]) -> impl Strategy<Value = i64> {
    select(milliseconds)
}

pub(crate) fn job() -> impl Strategy<Value = u8> {
    0..10_u8
}

pub(crate) fn worker() -> impl Strategy<Value = u8> {
    0..3_u8
}

pub(crate) fn claim() -> impl Strategy<Value = Claim> {
    let attempt_off = prop_oneof![8 => Just(0_i8), 1 => Just(-1), 1 => Just(1)];
    let other_worker = prop_oneof![8 => Just(None), 1 => worker().prop_map(Some)];
    (job(), attempt_off, other_worker).prop_map(|(job, attempt_off, other_worker)| Claim {
        job,
        attempt_off,
        other_worker,
    })
}

pub(crate) fn writing() -> impl Strategy<Value = Writing> {
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

pub(crate) fn noting() -> impl Strategy<Value = Noting> {
    let version = || option::weighted(0.7, 0..3_u8);
    (0..2_u8, version(), version()).prop_map(|(name, seen, version)| Noting { name, seen, version })
}

pub(crate) fn settling() -> impl Strategy<Value = Settling> {
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
