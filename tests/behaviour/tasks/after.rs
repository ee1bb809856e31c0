//! Jobs that come after others.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use futures::future::join_all;
use qtasks::{
    AfterFailure, Call, Duplicate, Error, Why,
    job::{After, StateKind},
    prelude::*,
    store::Store,
};
use qtasks_tests::{
    Diary, Stage,
    edge::{Behind, CarryOut, Edge},
    eventually, in_time,
    ledger::Ledger,
    on_every_store,
};
use tokio::sync::Notify;

on_every_store![
    a_job_runs_when_those_before_it_have_ended,
    a_failure_cancels_what_comes_after_it_or_does_not,
    a_task_enqueues_what_comes_after_its_own_jobs,
    the_last_of_many_in_many_programs_lets_it_on,
    a_job_says_for_which_others_it_waits,
    calls_that_cannot_wait_so_are_refused,
    whatever_dies_the_last_job_runs_after_the_others,
];

const HOUR: Duration = Duration::from_secs(3_600);

#[qtask]
async fn loads(part: u32, diary: State<Diary>) -> u32 {
    diary.note(format!("part {part}"));
    part
}

#[qtask]
async fn sums_up(diary: State<Diary>) {
    diary.note("sum");
}

#[qtask(retry = 0)]
async fn breaks() -> Result<(), String> {
    Err("no".to_owned())
}

fn lines_before_sum(diary: &Diary) -> usize {
    diary.lines().iter().position(|line| line == "sum").expect("it ran")
}

async fn a_job_runs_when_those_before_it_have_ended(stage: Stage) {
    let parts = stage.app.enqueue_all((0..5).map(loads)).await.unwrap();
    let late = stage.app.enqueue(loads(9).delay(HOUR)).await.unwrap();
    let sum = stage.app.enqueue(sums_up().after(&parts)).await.unwrap();
    let last = stage.app.enqueue(loads(6).after(&sum).after(&late)).await.unwrap();
    // The newest job comes first by its priority, if nothing held it.
    let urgent = stage.app.enqueue(loads(7).priority(9).after(sum.id())).await.unwrap();
    stage.work().await;
    sum.result().await.unwrap();
    urgent.result().await.unwrap();
    assert_eq!(lines_before_sum(&stage.diary), 5);
    assert_eq!(stage.diary.lines()[6..], ["part 7"]);
    assert_eq!(last.status().await.unwrap().state.kind(), StateKind::Waiting);
    late.edit().delay(Duration::ZERO).await.unwrap();
    stage.work().await;
    assert_eq!(last.result().await.unwrap(), 6);
}

async fn a_failure_cancels_what_comes_after_it_or_does_not(stage: Stage) {
    let (breaks, part) = (stage.app.enqueue(breaks()).await.unwrap(), stage.app.enqueue(loads(1)).await.unwrap());
    let cancels = stage.app.enqueue(sums_up().after([breaks.id(), part.id()])).await.unwrap();
    let next = stage.app.enqueue(loads(2).after(&cancels)).await.unwrap();
    let runs = loads(3).after([breaks.id(), next.id()]).after_failure(AfterFailure::Run);
    let runs = stage.app.enqueue(runs).await.unwrap();
    let watching = tokio::spawn(async move { (cancels.result().await, cancels) });
    stage.work().await;
    let (error, cancels) = in_time(watching).await.unwrap();
    let said = error.unwrap_err().to_string();
    assert!(said.ends_with(&format!("was cancelled: {} is dead", breaks.id())), "{said}");
    let said = next.result().await.unwrap_err().to_string();
    assert!(said.ends_with(&format!("was cancelled: {} is cancelled", cancels.id())), "{said}");
    assert_eq!(runs.result().await.unwrap(), 3);
    assert_eq!(cancels.status().await.unwrap().attempts, []);
    // What was cancelled with it is tried again by itself.
    cancels.retry().await.unwrap();
    stage.work().await;
    cancels.result().await.unwrap();
    assert_eq!(next.status().await.unwrap().state.name(), "cancelled");
}

#[qtask(echo = true, retry = 3, backoff = "1ms")]
async fn fans_out(ctx: TaskContext) -> Result<String, TaskError> {
    let mut parts = Vec::new();
    for part in 0..3 {
        parts.push(ctx.enqueue(loads(part)).await?);
    }
    let sum = ctx.enqueue(sums_up().after(&parts)).await?;
    if ctx.attempt() == 1 {
        return Err("once more".into());
    }
    Ok(sum.id().to_string())
}

async fn a_task_enqueues_what_comes_after_its_own_jobs(stage: Stage) {
    let job = stage.app.enqueue(fans_out()).await.unwrap();
    let worker = stage.app.worker().start().await.unwrap();
    let sum = stage.app.job::<sums_up>(job.result().await.unwrap().parse().unwrap()).await.unwrap();
    in_time(sum.result()).await.unwrap();
    worker.shutdown().await.unwrap();
    assert_eq!((lines_before_sum(&stage.diary), stage.diary.lines().len()), (3, 4), "one job of each");
}

async fn the_last_of_many_in_many_programs_lets_it_on(stage: Stage) {
    let mut programs = Vec::new();
    for _ in 0..3 {
        programs.push(stage.neighbour().await);
    }
    let parts = stage.app.enqueue_all((0..90).map(loads)).await.unwrap();
    let all: Vec<_> = parts.iter().map(JobHandle::id).collect();
    let calls = programs.iter().map(|app| app.enqueue(sums_up().after(&all)));
    let sums: Vec<_> = join_all(calls).await.into_iter().map(Result::unwrap).collect();
    let mut workers = Vec::new();
    for app in &programs {
        workers.push(app.worker().start().await.unwrap());
    }
    for sum in &sums {
        in_time(sum.result()).await.unwrap();
    }
    for worker in workers {
        worker.shutdown().await.unwrap();
    }
    assert_eq!((lines_before_sum(&stage.diary), stage.diary.count("sum")), (90, 3));
}

async fn a_job_says_for_which_others_it_waits(stage: Stage) {
    let (first, second) = (stage.app.enqueue(loads(1)).await.unwrap(), stage.app.enqueue(loads(2)).await.unwrap());
    let sum = stage.app.enqueue(sums_up().after([&first, &second])).await.unwrap();
    assert_eq!(sum.why().await.unwrap(), Why::After { parents: 2, first: Some(first.id()) });
    first.cancel().await.unwrap();
    let said = sum.why().await.unwrap().to_string();
    assert!(said.starts_with("it has ended: it is cancelled since "), "{said}");
    let sum = stage.app.enqueue(sums_up().after(&second)).await.unwrap();
    assert_eq!(sum.why().await.unwrap().to_string(), format!("it waits for the end of job {}", second.id()));
}

async fn calls_that_cannot_wait_so_are_refused(stage: Stage) {
    let refused = async |call: Call<sums_up>| stage.app.enqueue(call).await.map(|job| job.id()).unwrap_err();
    let none = JobId::new();
    let error = refused(sums_up().after(none)).await;
    assert!(matches!(&error, Error::NoParent { job, task } if *job == none && task == "sums_up"), "{error:?}");
    assert_eq!(
        error.to_string(),
        format!(
            "a call of `sums_up` is to wait for job {none}, and there is no such job in this store; finished jobs are pruned after \
             their retention"
        )
    );
    let many: Vec<_> = (0..=After::MOST).map(|_| JobId::new()).collect();
    assert_eq!(
        refused(sums_up().after(&many)).await.to_string(),
        "a job waits for up to 1000 others, and this one for 1001; have it wait for some that wait for the others"
    );
    let part = stage.app.enqueue(loads(1)).await.unwrap();
    let replaces = sums_up().after(&part).unique_key("k").on_duplicate(Duplicate::Replace);
    assert_eq!(
        refused(replaces).await.to_string(),
        "a call that may replace another one waits for no other jobs: `replace` and `debounce` do not go with `after`"
    );
    let scheduled = stage.app.schedule("daily", sums_up().after(&part), "@daily").await.map(drop).unwrap_err();
    assert_eq!(scheduled.to_string(), "a scheduled call waits for its ticks, and for no other jobs");
    let jobs = stage.app.find("").await.unwrap().jobs;
    assert_eq!(jobs.len(), 1, "nothing was enqueued: {jobs:?}");
}

/// Lets so many calls through, and carries the next one out or not; from then on its process is dead.
#[derive(Clone, Debug)]
struct Dies(Arc<Death>);

#[derive(Debug)]
struct Death {
    calls: AtomicU32,
    carries_out: bool,
    is_dead: AtomicBool,
    died: Notify,
}

impl Dies {
    fn after(calls: u32, carries_out: bool) -> Self {
        let (calls, is_dead) = (AtomicU32::new(calls), AtomicBool::new(false));
        Self(Arc::new(Death { calls, carries_out, is_dead, died: Notify::new() }))
    }
}

impl Edge for Dies {
    async fn pass<T: Send + 'static>(&self, _call: &'static str, carry_out: CarryOut<T>) -> qtasks::Result<T> {
        let is_last = self.0.calls.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_err();
        let answer =
            if !is_last || self.0.carries_out && !self.0.is_dead.load(SeqCst) { Some(carry_out().await) } else { None };
        if is_last {
            self.0.is_dead.store(true, SeqCst);
            self.0.died.notify_one();
            std::future::pending::<()>().await;
        }
        answer.expect("it is alive")
    }
}

/// A process that works dies at each of its calls, before it is carried out and behind.
async fn whatever_dies_the_last_job_runs_after_the_others(stage: Stage) {
    let store: Arc<dyn Store> = stage.store.clone();
    let mut deaths = 0;
    for calls in 0.. {
        let mut is_over = true;
        for carries_out in [false, true] {
            stage.diary.clear();
            let edge = Dies::after(calls, carries_out);
            let behind = Behind::new(edge.clone(), store.clone(), &Ledger::default());
            let parts = stage.app.enqueue_all((0..2).map(loads)).await.unwrap();
            let sum = stage.app.enqueue(sums_up().after(&parts)).await.unwrap();
            let builder = QueueTasks::builder().state(stage.diary.clone()).store_at(Arc::new(behind));
            let work = tokio::spawn(async move { builder.build().await?.worker().start().await });
            tokio::select! {
                () = edge.0.died.notified() => is_over = false,
                _ = in_time(sum.result()) => {}
            }
            for worker in store.workers().await.unwrap() {
                store.leave(worker.worker).await.unwrap();
            }
            deaths += u32::from(edge.0.is_dead.load(SeqCst));
            let successor = stage.app.worker().start().await.unwrap();
            in_time(sum.result()).await.unwrap();
            assert_eq!(sum.status().await.unwrap().state.name(), "done");
            successor.shutdown().await.unwrap();
            work.abort();
            let lines = stage.diary.lines();
            let ran = |line: &str| lines[..lines_before_sum(&stage.diary)].iter().any(|ran| ran == line);
            assert!(ran("part 0") && ran("part 1"), "{calls} calls: {lines:?}");
            let waits = eventually("nothing runs", async || {
                let left = stage.app.find("state:waiting,running").await.unwrap().jobs;
                left.is_empty()
            });
            waits.await;
        }
        if is_over || calls > 60 {
            break;
        }
    }
    assert!(deaths >= 10, "only {deaths} processes died");
}
