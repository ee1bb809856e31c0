//! Values of a task's own that unwind where they are read, written or dropped: each time that is one failure of its attempt,
//! and the worker goes on.

use std::{panic::AssertUnwindSafe, time::Duration};

use futures::FutureExt as _;
use qtasks::{Last, job::Ending, prelude::*};
use qtasks_tests::{Diary, Stage, eventually, in_time, on_every_store};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};

on_every_store![
    what_unwinds_in_an_attempt_is_one_failure_of_it,
    what_unwinds_here_and_now_is_an_error,
    arguments_that_unwind_where_they_are_written_are_their_callers_own_affair,
    a_body_whose_drop_unwinds_is_stopped_like_any_other,
    a_body_whose_drop_unwinds_here_and_now_is_dropped_like_any_other,
    a_result_that_unwinds_where_it_is_read_is_its_readers_own_affair,
];

/// Unwinds where its text says so.
#[derive(Clone, Debug, PartialEq)]
struct Touchy(String);

fn touchy(text: &str) -> Touchy {
    Touchy(text.to_owned())
}

impl Serialize for Touchy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        assert!(self.0 != "write", "not written");
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Touchy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        assert!(text != "read", "not read");
        Ok(Self(text))
    }
}

impl Drop for Touchy {
    fn drop(&mut self) {
        assert!(self.0 != "drop" || std::thread::panicking(), "not dropped");
    }
}

#[qtask(retry = 0)]
async fn takes_touchy(value: Touchy) -> usize {
    value.0.len()
}

#[qtask(retry = 0)]
fn takes_touchy_on_a_thread(value: Touchy) -> usize {
    value.0.len()
}

fn reply_touchy(text: String) -> Touchy {
    Touchy(text)
}

#[qtask(generate_handler = reply_touchy, retry = 0)]
async fn gets_touchy(text: String) -> Vec<Touchy> {
    let _reply = yield_!(text);
}

#[qtask(generate_handler = reply_touchy, retry = 0)]
fn gets_touchy_on_a_thread(text: String) -> Last<Touchy> {
    let _reply = yield_!(text);
}

fn forgets(_value: Touchy) {}

#[qtask(generate_handler = forgets, retry = 0)]
async fn yields_touchy(text: String) -> Vec<()> {
    yield_!(Touchy(text));
}

#[qtask(retry = 0)]
async fn returns_touchy(text: String) -> Touchy {
    Touchy(text)
}

#[qtask(retry = 0)]
fn returns_touchy_on_a_thread(text: String) -> Touchy {
    Touchy(text)
}

#[qtask(echo = true, retry = 0)]
async fn does_touchy_once(ctx: TaskContext, text: String) -> usize {
    ctx.once("touchy", || async { Touchy(text) }).await.0.len()
}

#[qtask(echo = true, retry = 0)]
fn does_touchy_once_on_a_thread(ctx: TaskContext, text: String) -> usize {
    ctx.once_blocking("touchy", || Touchy(text)).0.len()
}

fn is_undecided(_error: &String) -> bool {
    panic!("undecided")
}

#[qtask(retry = 0, retry_on = is_undecided)]
async fn fails_undecidedly() -> Result<(), String> {
    Err("bad".to_owned())
}

#[qtask(retry = 0, retry_on = is_undecided)]
fn fails_undecidedly_on_a_thread() -> Result<(), String> {
    Err("bad".to_owned())
}

#[qtask(retry = 0, retry_on = is_undecided)]
async fn generates_undecidedly() -> Result<Vec<i64>, String> {
    yield_!(1);
    Err("bad".to_owned())
}

/// What is thrown, besides text.
#[qtask(retry = 0)]
async fn throws_no_text(what: u8) {
    match what {
        0 => std::panic::panic_any(()),
        1 => std::panic::panic_any(Box::new(String::from("boxed")) as Box<dyn std::any::Any + Send>),
        2 => std::panic::panic_any(std::io::Error::other("io")),
        _ => std::panic::resume_unwind(Box::new(7)),
    }
}

/// Every call that unwinds on a worker, with what is said of it.
macro_rules! each {
    ($run:ident) => {
        $run!(takes_touchy(touchy("read")), "not read");
        $run!(takes_touchy(touchy("drop_")), "");
        $run!(takes_touchy_on_a_thread(touchy("read")), "not read");
        $run!(gets_touchy("write".into()), "not written");
        $run!(gets_touchy("read".into()), "not read");
        $run!(gets_touchy("drop".into()), "not dropped");
        $run!(gets_touchy_on_a_thread("write".into()), "not written");
        $run!(gets_touchy_on_a_thread("read".into()), "not read");
        $run!(gets_touchy_on_a_thread("drop".into()), "not dropped");
        $run!(yields_touchy("drop".into()), "not dropped");
        $run!(returns_touchy("write".into()), "not written");
        $run!(returns_touchy_on_a_thread("write".into()), "not written");
        $run!(does_touchy_once("write".into()), "not written");
        $run!(does_touchy_once("read".into()), "not read");
        $run!(does_touchy_once("drop".into()), "not dropped");
        $run!(does_touchy_once_on_a_thread("write".into()), "not written");
        $run!(does_touchy_once_on_a_thread("read".into()), "not read");
        $run!(does_touchy_once_on_a_thread("drop".into()), "not dropped");
        $run!(throws_no_text(0), "with something that is not text");
        $run!(throws_no_text(1), "with something that is not text");
        $run!(throws_no_text(2), "with something that is not text");
        $run!(throws_no_text(3), "with something that is not text");
    };
}

async fn fails_once<C: DeserializeOwned>(job: JobHandle<C>, said: &str, call: &str) {
    let error = in_time(job.result()).await.err().unwrap_or_else(|| panic!("{call} is well")).to_string();
    assert!(error.ends_with(&format!("is dead: the task panicked: {said}")), "{call}: {error}");
    let status = job.status().await.unwrap();
    let endings: Vec<_> = status.attempts.iter().map(|attempt| &attempt.ending).collect();
    let failed = Ending::Failed { error: format!("the task panicked: {said}") };
    assert_eq!((endings, status.failures), (vec![&failed], 1), "{call}");
}

async fn what_unwinds_in_an_attempt_is_one_failure_of_it(stage: Stage) {
    let worker = stage.app.worker().concurrency(2).start().await.unwrap();
    macro_rules! enqueue {
        ($call:expr, "") => {
            assert_eq!(in_time(stage.app.enqueue($call).await.unwrap().result()).await.unwrap(), 5);
        };
        ($call:expr, $said:literal) => {
            fails_once(stage.app.enqueue($call).await.unwrap(), $said, stringify!($call)).await;
        };
    }
    each!(enqueue);
    enqueue!(fails_undecidedly(), "undecided");
    enqueue!(fails_undecidedly_on_a_thread(), "undecided");
    enqueue!(generates_undecidedly(), "undecided");
    in_time(worker.shutdown()).await.unwrap();
}

async fn what_unwinds_here_and_now_is_an_error(stage: Stage) {
    macro_rules! run {
        ($call:expr, "") => {
            assert_eq!(in_time(stage.app.run($call)).await.unwrap(), 5);
        };
        ($call:expr, $said:literal) => {
            let came = in_time(AssertUnwindSafe(stage.app.run($call)).catch_unwind()).await;
            let came = came.unwrap_or_else(|_| panic!("{} unwinds", stringify!($call)));
            let error = came.err().unwrap_or_else(|| panic!("{} is well", stringify!($call))).to_string();
            assert!(error.ends_with(&format!("the task panicked: {}", $said)), "{}: {error}", stringify!($call));
        };
    }
    each!(run);
    run!(fails_undecidedly(), "undecided");
    run!(fails_undecidedly_on_a_thread(), "undecided");
    run!(generates_undecidedly(), "undecided");
}

async fn arguments_that_unwind_where_they_are_written_are_their_callers_own_affair(stage: Stage) {
    for text in ["write", "drop"] {
        AssertUnwindSafe(stage.app.enqueue(takes_touchy(touchy(text)))).catch_unwind().await.unwrap_err();
    }
    AssertUnwindSafe(stage.app.run(takes_touchy(touchy("write")))).catch_unwind().await.unwrap_err();
    let job = stage.app.enqueue(takes_touchy(touchy("fine"))).await.unwrap();
    stage.work().await;
    assert_eq!(in_time(job.result()).await.unwrap(), 4);
}

#[qtask(retry = 0, echo = true)]
async fn holds_touchy(ctx: TaskContext, sleeps: bool, diary: State<Diary>) -> Vec<i64> {
    let _touchy = touchy("drop");
    yield_!(1);
    diary.note("holds");
    if ctx.attempt() == 1 && sleeps {
        ctx.sleep(Duration::from_secs(3600)).await;
    }
    if ctx.attempt() == 1 {
        std::future::pending::<()>().await;
    }
    std::mem::forget(_touchy);
}

async fn a_body_whose_drop_unwinds_is_stopped_like_any_other(stage: Stage) {
    // Its time is up.
    let worker = stage.app.worker().start().await.unwrap();
    let job = stage.app.enqueue(holds_touchy(false).max_time(Duration::from_millis(50))).await.unwrap();
    let error = in_time(job.result()).await.unwrap_err().to_string();
    assert!(error.ends_with("the attempt took longer than its max_time of 50ms"), "{error}");
    assert_eq!(job.status().await.unwrap().failures, 1);
    // It is called off.
    stage.diary.clear();
    let job = stage.app.enqueue(holds_touchy(false)).await.unwrap();
    stage.diary.until("holds").await;
    job.cancel().await.unwrap();
    in_time(worker.shutdown()).await.unwrap();
    assert_eq!(job.status().await.unwrap().state.name(), "cancelled");
    // Its worker stops, while it sleeps and while it waits for something else.
    for sleeps in [true, false] {
        stage.diary.clear();
        let worker = stage.app.worker().grace(Duration::ZERO).start().await.unwrap();
        let job = stage.app.enqueue(holds_touchy(sleeps)).await.unwrap();
        stage.diary.until("holds").await;
        in_time(worker.shutdown()).await.unwrap();
        let status = job.status().await.unwrap();
        assert_eq!((status.state.name(), status.failures), ("waiting", 0), "sleeps: {sleeps}");
        assert_eq!(status.attempts[0].ending, Ending::Released);
        stage.work().await;
        assert_eq!(in_time(job.result()).await.unwrap(), [1]);
    }
}

async fn a_body_whose_drop_unwinds_here_and_now_is_dropped_like_any_other(stage: Stage) {
    let run = stage.app.run(holds_touchy(false).max_time(Duration::from_millis(50)));
    let came = in_time(AssertUnwindSafe(run).catch_unwind()).await.expect("it does not unwind");
    let error = came.unwrap_err().to_string();
    assert!(error.ends_with("the attempt took longer than its max_time of 50ms"), "{error}");
    stage.diary.clear();
    let app = stage.app.clone();
    let run = tokio::spawn(async move { app.run(holds_touchy(false)).await.map(drop) });
    stage.diary.until("holds").await;
    run.abort();
    assert!(in_time(run).await.unwrap_err().is_cancelled());
}

async fn a_result_that_unwinds_where_it_is_read_is_its_readers_own_affair(stage: Stage) {
    let worker = stage.app.worker().start().await.unwrap();
    let job = stage.app.enqueue(returns_touchy("read".into())).await.unwrap();
    AssertUnwindSafe(in_time(job.result())).catch_unwind().await.unwrap_err();
    assert_eq!(in_time(job.result_as::<String>()).await.unwrap(), "read");
    let job = stage.app.enqueue(streams_touchy("read".into())).await.unwrap();
    eventually("its end", async || job.status().await.unwrap().state.is_ended()).await;
    let mut values = job.stream();
    AssertUnwindSafe(in_time(values.next())).catch_unwind().await.unwrap_err();
    let values: Vec<_> = job.stream_as::<String>().map(Result::unwrap).collect().await;
    assert_eq!(values, ["read"]);
    worker.shutdown().await.unwrap();
}

#[qtask(generate_handler = reply_touchy, retry = 0)]
async fn streams_touchy(text: String) -> Vec<Touchy> {
    yield_!(text);
}
