//! What a body leaves behind has no attempt to go on with: its context answers with an error, and enqueues nothing.

use std::{future::pending, thread, time::Duration};

use futures::stream::FuturesUnordered;
use qtasks::{
    Count,
    prelude::*,
    store::{Budget, Find},
};
use qtasks_tests::{Diary, Stage, eventually, in_time, on_every_store};
use serde::{Deserialize, Serialize};
use tokio::{runtime::Handle, task::JoinHandle};

on_every_store![
    a_context_used_after_the_end_answers_with_an_error,
    what_began_before_the_end_ends_with_it,
    a_context_used_on_a_thread_after_the_end_answers_with_an_error,
    a_body_on_a_thread_whose_time_is_up_gets_errors,
    a_context_of_a_task_that_ran_here_and_now_answers_with_an_error,
    a_co_kept_beyond_the_end_ends_whoever_yields,
    a_value_yielded_outside_the_body_ends_the_attempt_with_an_error,
    a_yield_in_a_collection_of_futures_is_answered,
    what_a_task_has_spawned_has_no_current_context,
    what_was_enqueued_before_the_end_exists_exactly_if_its_caller_got_a_handle,
];

const ENDED: &str = "the attempt of this context has ended";

/// How an attempt ends.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum How {
    Returns,
    Fails,
    Panics,
    TimeUp,
    Cancelled,
    Stopped,
}

use How::*;

const ALL: [How; 6] = [Returns, Fails, Panics, TimeUp, Cancelled, Stopped];

async fn ends(how: How) -> Result<Count, String> {
    match how {
        Returns => Ok(Count(7)),
        Fails => Err("on purpose".to_owned()),
        Panics => panic!("on purpose"),
        TimeUp | Cancelled | Stopped => pending().await,
    }
}

/// Runs one attempt to its end. What the body left behind may go on when that is over.
async fn ended<T: qtasks::CallOptions>(stage: &Stage, how: How, call: T) -> JobId {
    // Long enough to be ready in, on a machine that has much else to do.
    let call = if how == TimeUp { call.max_time(Duration::from_secs(1)) } else { call.into_call() };
    let worker = stage.app.worker().grace(Duration::ZERO).start().await.unwrap();
    let job = stage.app.enqueue(call).await.unwrap();
    stage.diary.until("ready").await;
    if how == Cancelled {
        job.cancel().await.unwrap();
    }
    // A worker learns within a second that a job was called off.
    if let Cancelled | Stopped = how {
        in_time(worker.shutdown()).await.unwrap();
    }
    let job = stage.app.any_job(job.id()).await.unwrap();
    eventually("the attempt ends", async || job.status().await.unwrap().attempts.len() == 1).await;
    stage.diary.note("over");
    job.id()
}

/// Notes what a task that was spawned comes to.
fn tell(diary: &Diary, name: &'static str, spawned: JoinHandle<String>) {
    let diary = diary.clone();
    tokio::spawn(async move {
        let came = spawned.await.unwrap_or_else(|error| text(error.into_panic()));
        diary.note(format!("{name}: {came}"));
    });
}

fn text(payload: Box<dyn std::any::Any + Send>) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref().cloned()).unwrap_or_else(|| "no text".to_owned())
}

/// Waits until each has come to its end with the error.
async fn all_ended(stage: &Stage, names: &[&str]) {
    for name in names {
        let is_told = |line: &String| line.starts_with(&format!("{name}: "));
        eventually(name, async || stage.diary.lines().iter().any(is_told)).await;
        let line = stage.diary.lines().into_iter().find(is_told).unwrap();
        assert!(line.contains(ENDED), "{line}");
    }
}

async fn enqueued(stage: &Stage, task: &str) -> usize {
    let jobs = stage.app.find(Find::default().oldest_first()).budget(Budget::jobs(1000)).await.unwrap().jobs;
    jobs.iter().filter(|job| job.call.task == task).count()
}

#[qtask]
async fn is_enqueued_too_late() {}

macro_rules! late {
    ($ctx:ident, $diary:ident: $($name:literal => $call:expr;)*) => {
        $({
            let ($ctx, told) = ($ctx.clone(), $diary.clone());
            let late = tokio::spawn(async move {
                told.told("over").await;
                let came = $call;
                format!("{came:?}")
            });
            tell(&$diary, $name, late);
        })*
    };
}

const LATE: [&str; 7] = ["once", "try_once", "now", "random", "sleep", "enqueue", "last_step"];

#[qtask(echo = true, retry = 0, resume = "cursor")]
async fn leaves_tasks_behind(ctx: TaskContext, how: How, diary: State<Diary>) -> Result<Count, String> {
    ctx.last_step::<i64>().await.unwrap();
    late! { ctx, diary:
        "once" => ctx.once("late", || async { 1 }).await;
        "try_once" => ctx.try_once("late", || async { Ok::<_, String>(1) }).await;
        "now" => ctx.now().await;
        "random" => ctx.random().await;
        "sleep" => ctx.sleep(Duration::ZERO).await;
        "enqueue" => ctx.enqueue(is_enqueued_too_late()).await.unwrap_err();
        "last_step" => ctx.last_step::<i64>().await.unwrap_err();
    }
    yield_!(1);
    diary.note("ready");
    ends(how).await?;
    Ok(())
}

async fn a_context_used_after_the_end_answers_with_an_error(stage: Stage) {
    for how in ALL {
        stage.diary.clear();
        ended(&stage, how, leaves_tasks_behind(how)).await;
        all_ended(&stage, &LATE).await;
        assert_eq!(enqueued(&stage, "is_enqueued_too_late").await, 0, "{how:?}");
    }
}

macro_rules! early {
    ($ctx:ident, $diary:ident: $($name:literal => $call:expr;)*) => {
        $({
            let ctx = $ctx.clone();
            let early = tokio::spawn(async move {
                let $ctx = ctx;
                let came = $call;
                format!("{came:?}")
            });
            tell(&$diary, $name, early);
        })*
    };
}

const EARLY: [&str; 4] = ["once", "try_once", "slow_once", "sleep"];

#[qtask(echo = true, retry = 0)]
async fn leaves_work_under_way(ctx: TaskContext, how: How, diary: State<Diary>) -> Result<Count, String> {
    let slow = diary.clone();
    let slowly = async move || {
        slow.note("begun");
        slow.told("over").await;
        1
    };
    let hangs = async |diary: State<Diary>| {
        diary.note("begun");
        pending::<i64>().await
    };
    let (one, other) = (diary.clone(), diary.clone());
    early! { ctx, diary:
        "once" => ctx.once("hangs", || hangs(one)).await;
        "try_once" => ctx.try_once("hangs.too", || async { Ok::<_, String>(hangs(other).await) }).await;
        "slow_once" => ctx.once("slow", slowly).await;
        "sleep" => ctx.sleep(Duration::from_secs(3600)).await;
    }
    while diary.count("begun") < 3 {
        tokio::task::yield_now().await;
    }
    yield_!(1);
    diary.note("ready");
    ends(how).await?;
    Ok(())
}

async fn what_began_before_the_end_ends_with_it(stage: Stage) {
    for how in ALL {
        stage.diary.clear();
        ended(&stage, how, leaves_work_under_way(how)).await;
        all_ended(&stage, &EARLY).await;
    }
}

macro_rules! late_on_threads {
    ($ctx:ident, $diary:ident: $($name:literal => $call:expr;)*) => {
        $({
            let ($ctx, told, runtime) = ($ctx.clone(), $diary.clone(), Handle::current());
            thread::spawn(move || {
                runtime.block_on(told.told("over"));
                let call = std::panic::AssertUnwindSafe(move || format!("{:?}", $call));
                let came = std::panic::catch_unwind(call).unwrap_or_else(text);
                told.note(format!("{}: {came}", $name));
            });
        })*
    };
}

#[qtask(echo = true, retry = 0, resume = "cursor")]
fn leaves_threads_behind(ctx: TaskContext, how: How, diary: State<Diary>) -> Result<Count, String> {
    ctx.last_step_blocking::<i64>().unwrap();
    late_on_threads! { ctx, diary:
        "once" => ctx.once_blocking("late", || 1);
        "try_once" => ctx.try_once_blocking("late", || Ok::<_, String>(1));
        "now" => ctx.now_blocking();
        "random" => ctx.random_blocking();
        "sleep" => ctx.sleep_blocking(Duration::ZERO);
        "enqueue" => ctx.enqueue_blocking(is_enqueued_too_late()).unwrap_err();
        "last_step" => ctx.last_step_blocking::<i64>().unwrap_err();
    }
    yield_!(1);
    diary.note("ready");
    match how {
        Returns => Ok(()),
        Panics => panic!("on purpose"),
        _ => Err("on purpose".to_owned()),
    }
}

async fn a_context_used_on_a_thread_after_the_end_answers_with_an_error(stage: Stage) {
    for how in [Returns, Fails, Panics] {
        stage.diary.clear();
        ended(&stage, how, leaves_threads_behind(how)).await;
        all_ended(&stage, &LATE).await;
        assert_eq!(enqueued(&stage, "is_enqueued_too_late").await, 0);
    }
}

#[qtask(echo = true, retry = 0)]
fn goes_on_when_its_time_is_up(ctx: TaskContext, diary: State<Diary>) {
    diary.note("ready");
    Handle::current().block_on(diary.told("over"));
    let error = ctx.enqueue_blocking(is_enqueued_too_late()).unwrap_err();
    diary.note(format!("enqueue: {error}"));
    let once = std::panic::AssertUnwindSafe(|| ctx.once_blocking("late", || 1));
    diary.note(format!("once: {}", text(std::panic::catch_unwind(once).unwrap_err())));
}

async fn a_body_on_a_thread_whose_time_is_up_gets_errors(stage: Stage) {
    ended(&stage, TimeUp, goes_on_when_its_time_is_up()).await;
    all_ended(&stage, &["enqueue", "once"]).await;
    assert_eq!(enqueued(&stage, "is_enqueued_too_late").await, 0);
}

async fn a_context_of_a_task_that_ran_here_and_now_answers_with_an_error(stage: Stage) {
    for how in [Returns, Fails, Panics, TimeUp, Cancelled] {
        for under_way in [false, true] {
            stage.diary.clear();
            let max_time = if how == TimeUp { Duration::from_millis(50) } else { Duration::from_secs(60) };
            let app = stage.app.clone();
            let run = tokio::spawn(async move {
                match under_way {
                    true => app.run(leaves_work_under_way(how).max_time(max_time)).await,
                    false => app.run(leaves_tasks_behind(how).max_time(max_time)).await,
                }
            });
            if how == Cancelled {
                stage.diary.until("ready").await;
                run.abort();
            }
            let came = in_time(run).await;
            assert_eq!(came.ok().is_some_and(|came| came.is_ok()), how == Returns);
            stage.diary.note("over");
            all_ended(&stage, if under_way { &EARLY } else { &LATE }).await;
        }
    }
    stage.diary.clear();
    let run = stage.app.run(goes_on_when_its_time_is_up().max_time(Duration::from_millis(50)));
    in_time(run).await.unwrap_err();
    stage.diary.note("over");
    eventually("the body goes on", async || stage.diary.lines().iter().any(|line| line.starts_with("once: "))).await;
    assert_eq!(enqueued(&stage, "is_enqueued_too_late").await, 0);
}

#[qtask(retry = 0)]
async fn leaves_its_co_behind(how: How, co: Co<i64, i64>, diary: State<Diary>) -> Result<Count, String> {
    for (name, wants_reply) in [("yield", true), ("emit", false)] {
        let (co, told) = (co.clone(), diary.clone());
        let late = tokio::spawn(async move {
            told.told("over").await;
            if wants_reply { co.yield_(2).await.to_string() } else { format!("{:?}", co.emit(3).await) }
        });
        tell(&diary, name, late);
    }
    co.emit(1).await;
    diary.note("ready");
    ends(how).await?;
    Ok(())
}

async fn a_co_kept_beyond_the_end_ends_whoever_yields(stage: Stage) {
    for how in ALL {
        stage.diary.clear();
        ended(&stage, how, leaves_its_co_behind(how)).await;
        all_ended(&stage, &["yield", "emit"]).await;
    }
}

#[qtask(retry = 0)]
async fn yields_elsewhere(co: Co<i64, i64>) -> Vec<i64> {
    let elsewhere = co.clone();
    let _ = tokio::spawn(async move { elsewhere.emit(1).await }).await;
    co.emit(2).await;
}

async fn a_value_yielded_outside_the_body_ends_the_attempt_with_an_error(stage: Stage) {
    let worker = stage.app.worker().start().await.unwrap();
    let job = stage.app.enqueue(yields_elsewhere()).await.unwrap();
    let error = in_time(job.result()).await.unwrap_err().to_string();
    assert!(error.contains("a value was yielded outside of the task"), "{error}");
    let error = in_time(stage.app.run(yields_elsewhere())).await.unwrap_err().to_string();
    assert!(error.contains("a value was yielded outside of the task"), "{error}");
    worker.shutdown().await.unwrap();
}

#[qtask]
async fn yields_in_a_collection(co: Co<i64, i64>) -> Vec<i64> {
    for value in 0..3 {
        let mut yields: FuturesUnordered<_> = [co.yield_(value)].into_iter().collect();
        while let Some(reply) = yields.next().await {
            assert_eq!(reply, value);
        }
    }
}

async fn a_yield_in_a_collection_of_futures_is_answered(stage: Stage) {
    assert_eq!(in_time(stage.app.run(yields_in_a_collection())).await.unwrap(), [0, 1, 2]);
    let worker = stage.app.worker().start().await.unwrap();
    let job = stage.app.enqueue(yields_in_a_collection()).await.unwrap();
    assert_eq!(in_time(job.result()).await.unwrap(), [0, 1, 2]);
    worker.shutdown().await.unwrap();
}

#[qtask]
async fn asks_elsewhere() -> (bool, bool, bool) {
    let is_there = || TaskContext::try_current().is_some();
    let task = tokio::spawn(async move { is_there() }).await.unwrap();
    let blocking = tokio::task::spawn_blocking(is_there).await.unwrap();
    (task, blocking, thread::spawn(is_there).join().unwrap())
}

async fn what_a_task_has_spawned_has_no_current_context(stage: Stage) {
    let job = stage.app.enqueue(asks_elsewhere()).await.unwrap();
    stage.work().await;
    assert_eq!(in_time(job.result()).await.unwrap(), (false, false, false));
    let panicked = in_time(tokio::spawn(async { TaskContext::current() })).await.unwrap_err().into_panic();
    assert!(text(panicked).contains("`TaskContext::current` is for a running task"));
}

#[qtask]
async fn is_enqueued_in_time() {}

#[qtask(echo = true)]
async fn enqueues_until_its_end(ctx: TaskContext, diary: State<Diary>) {
    let told = diary.clone();
    tokio::spawn(async move {
        let mut enqueued = 0;
        while ctx.enqueue(is_enqueued_in_time().queue("elsewhere")).await.is_ok() {
            enqueued += 1;
            if enqueued == 3 {
                diary.note("three");
            }
        }
        diary.note(format!("enqueued {enqueued}"));
        diary.note("refused");
    });
    told.told("three").await;
}

async fn what_was_enqueued_before_the_end_exists_exactly_if_its_caller_got_a_handle(stage: Stage) {
    let worker = stage.app.worker().queues(["default"]).start().await.unwrap();
    for _ in 0..20 {
        let before = enqueued(&stage, "is_enqueued_in_time").await;
        stage.diary.clear();
        stage.app.enqueue(enqueues_until_its_end()).await.unwrap();
        stage.diary.until("refused").await;
        let told = stage.diary.lines().into_iter().find(|line| line.starts_with("enqueued ")).unwrap();
        let after = enqueued(&stage, "is_enqueued_in_time").await;
        assert_eq!(told, format!("enqueued {}", after - before));
    }
    worker.shutdown().await.unwrap();
}
