//! What a body does once stays as it was when the body runs again.

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use qtasks::{Count, prelude::*, store::Memory};
use qtasks_tests::{Diary, Place, Stage, in_time, on_every_store};
use tokio::time::Instant;

on_every_store![
    what_is_done_once_is_not_done_again,
    when_once_returns_it_is_durable_and_all_steps_before_it,
    a_fn_body_does_it_once_too,
    a_plain_task_does_it_once_too,
    each_use_of_a_name_is_one_of_its_own,
    an_error_is_not_recorded_and_its_next_try_is_the_same_use,
    the_time_and_chance_stay_as_they_were,
    a_body_enqueues_a_job_once,
    a_handler_enqueues_a_job_once_for_each_value,
    what_a_handler_does_once_is_not_done_again_for_the_same_value,
    memos_are_read_in_any_order_and_in_pages,
    what_cannot_be_recorded_ends_the_attempt,
    what_was_recorded_as_something_else_ends_the_attempt,
    a_name_is_checked,
    an_async_task_cannot_block,
    nothing_is_recorded_of_a_task_that_runs_here_and_now,
];

/// Fails, in every attempt but the third, in a way that is tried again at once.
pub(super) fn fails_twice(ctx: &TaskContext) -> Result<(), TaskError> {
    if ctx.attempt() < 3 { Err(TaskError::retry_after(Duration::ZERO)) } else { Ok(()) }
}

async fn fetches(diary: &Diary, what: &str) -> String {
    diary.note(format!("fetch {what}"));
    format!("{what} at the first time")
}

#[qtask(echo = true)]
async fn reads_once(ctx: TaskContext, diary: State<Diary>) -> Result<Vec<String>, TaskError> {
    let first = ctx.once("first", || fetches(&diary, "first")).await;
    yield_!(first);
    let second = ctx.once("second", || fetches(&diary, "second")).await;
    fails_twice(&ctx)?;
    yield_!(second);
    Ok(())
}

async fn what_is_done_once_is_not_done_again(stage: Stage) {
    let job = stage.app.enqueue(reads_once()).await.unwrap();
    stage.work().await;
    assert_eq!(job.result().await.unwrap(), ["first at the first time", "second at the first time"]);
    assert_eq!(stage.diary.lines(), ["fetch first", "fetch second"]);
    let status = job.status().await.unwrap();
    assert_eq!((status.attempt, status.steps), (3, 2), "memos are no steps");
}

#[qtask(echo = true, checkpoint = "within 1m")]
async fn waits_after_once(ctx: TaskContext, diary: State<Diary>) -> Count {
    yield_!(ctx.now().await);
    ctx.once("look", || fetches(&diary, "it")).await;
    diary.note("did it once");
    diary.told("go on").await;
}

async fn when_once_returns_it_is_durable_and_all_steps_before_it(stage: Stage) {
    let worker = stage.app.worker().start().await.unwrap();
    let id = stage.app.enqueue(waits_after_once()).await.unwrap().id();
    stage.diary.until("did it once").await;
    let job = stage.store.job(id).await.unwrap().unwrap();
    assert_eq!((job.counts.steps, job.counts.memos), (1, 2));
    stage.diary.note("go on");
    worker.shutdown().await.unwrap();
}

#[qtask(echo = true)]
fn reads_once_blocking(ctx: TaskContext, diary: State<Diary>) -> Result<Vec<String>, TaskError> {
    let fetch = |what: &str| {
        diary.note(format!("fetch {what}"));
        format!("{what} at the first time")
    };
    let first: String = ctx.once_blocking("first", || fetch("first"));
    yield_!(first);
    let second = ctx.try_once_blocking("second", || Ok::<_, TaskError>(fetch("second")))?;
    fails_twice(&ctx)?;
    yield_!(second);
    Ok(())
}

async fn a_fn_body_does_it_once_too(stage: Stage) {
    let job = stage.app.enqueue(reads_once_blocking()).await.unwrap();
    stage.work().await;
    assert_eq!(job.result().await.unwrap(), ["first at the first time", "second at the first time"]);
    assert_eq!(stage.diary.lines(), ["fetch first", "fetch second"]);
}

#[qtask(echo = true)]
async fn returns_what_it_read(ctx: TaskContext, diary: State<Diary>) -> Result<String, TaskError> {
    let read = ctx.once("read", || fetches(&diary, "it")).await;
    fails_twice(&ctx)?;
    Ok(read)
}

async fn a_plain_task_does_it_once_too(stage: Stage) {
    let job = stage.app.enqueue(returns_what_it_read()).await.unwrap();
    stage.work().await;
    assert_eq!(job.result().await.unwrap(), "it at the first time");
    assert_eq!(stage.diary.lines(), ["fetch it"]);
}

#[qtask(echo = true)]
async fn counts_in_a_loop(ctx: TaskContext, diary: State<Diary>) -> Result<Vec<u32>, TaskError> {
    for turn in 0..3_u32 {
        let (even, odd) = (ctx.once("even", async || turn * 2).await, ctx.once("odd", || async { turn * 2 + 1 }).await);
        diary.note(format!("{even} {odd}"));
        yield_!(even);
        yield_!(odd);
    }
    fails_twice(&ctx)
}

async fn each_use_of_a_name_is_one_of_its_own(stage: Stage) {
    let job = stage.app.enqueue(counts_in_a_loop()).await.unwrap();
    stage.work().await;
    assert_eq!(job.result().await.unwrap(), [0, 1, 2, 3, 4, 5]);
    assert_eq!(stage.diary.lines(), ["0 1", "2 3", "4 5"].repeat(3));
}

#[qtask(echo = true)]
async fn tries_until_it_works(ctx: TaskContext, diary: State<Diary>) -> Result<Vec<String>, TaskError> {
    for word in ["one", "two"] {
        let mut tries = 0;
        let tried = loop {
            tries += 1;
            diary.note(format!("{word} {tries}"));
            let outcome = ctx.try_once("try", || async { if tries < 3 { Err(tries) } else { Ok(format!("{word}!")) } });
            if let Ok(tried) = outcome.await {
                break tried;
            }
        };
        yield_!(tried);
    }
    fails_twice(&ctx)
}

async fn an_error_is_not_recorded_and_its_next_try_is_the_same_use(stage: Stage) {
    let job = stage.app.enqueue(tries_until_it_works()).await.unwrap();
    stage.work().await;
    assert_eq!(job.result().await.unwrap(), ["one!", "two!"]);
    let first = ["one 1", "one 2", "one 3", "two 1", "two 2", "two 3"];
    let again = ["one 1", "two 1"];
    assert_eq!(stage.diary.lines(), [&first[..], &again, &again].concat());
}

#[qtask(echo = true)]
async fn yields_time_and_chance(ctx: TaskContext) -> Result<Vec<(Timestamp, u64)>, TaskError> {
    for _ in 0..2 {
        let now = ctx.now().await;
        let random = ctx.random().await;
        yield_!((now, random));
    }
    fails_twice(&ctx)
}

#[qtask(echo = true)]
fn yields_time_and_chance_blocking(ctx: TaskContext) -> Result<Vec<(Timestamp, u64)>, TaskError> {
    for _ in 0..2 {
        ctx.sleep_blocking(Duration::from_millis(1));
        yield_!((ctx.now_blocking(), ctx.random_blocking()));
    }
    fails_twice(&ctx)
}

async fn the_time_and_chance_stay_as_they_were(stage: Stage) {
    let before = Timestamp::now();
    let polled = stage.app.enqueue(yields_time_and_chance()).await.unwrap();
    let called = stage.app.enqueue(yields_time_and_chance_blocking()).await.unwrap();
    stage.work().await;
    // Other values than those recorded would have ended the job as diverged.
    for job in [polled, called] {
        let pairs = job.result().await.unwrap();
        assert!(pairs[0].0 <= pairs[1].0 && before <= pairs[0].0 && pairs[1].0 <= Timestamp::now(), "{pairs:?}");
        assert_ne!(pairs[0].1, pairs[1].1);
    }
}

#[qtask]
async fn is_enqueued(by: String, diary: State<Diary>) -> String {
    diary.note(format!("{by} ran"));
    by
}

#[qtask(echo = true)]
async fn enqueues(ctx: TaskContext) -> qtasks::Result<Vec<JobId>, qtasks::BoxError> {
    for number in 0..2 {
        let job = ctx.enqueue(is_enqueued(format!("job {number}"))).await?;
        yield_!(job.id());
    }
    Ok(fails_twice(&ctx)?)
}

async fn a_body_enqueues_a_job_once(stage: Stage) {
    let job = stage.app.enqueue(enqueues()).await.unwrap();
    stage.work().await;
    let ids = job.result().await.unwrap();
    assert!(ids.is_sorted(), "later ones are leased later");
    let mut ran = stage.diary.lines();
    ran.sort();
    assert_eq!(ran, ["job 0 ran", "job 1 ran"]);
    for (number, id) in ids.into_iter().enumerate() {
        let enqueued = stage.app.job::<is_enqueued>(id).await.unwrap();
        assert_eq!(enqueued.result().await.unwrap(), format!("job {number}"));
    }
}

async fn enqueues_and_fails(value: u32, ctx: TaskContext) -> Result<JobId, qtasks::BoxError> {
    let job = ctx.enqueue(is_enqueued(format!("value {value}"))).await?;
    fails_twice(&ctx)?;
    Ok(job.id())
}

#[qtask(generate_handler = enqueues_and_fails, checkpoint = "each")]
fn has_a_handler_that_enqueues() -> Vec<JobId> {
    for value in 0..3_u32 {
        yield_!(value);
    }
}

async fn a_handler_enqueues_a_job_once_for_each_value(stage: Stage) {
    let job = stage.app.enqueue(has_a_handler_that_enqueues()).await.unwrap();
    stage.work().await;
    let mut ran = stage.diary.lines();
    ran.sort();
    assert_eq!(ran, ["value 0 ran", "value 1 ran", "value 2 ran"]);
    assert_eq!(job.result().await.unwrap().len(), 3);
}

async fn charges_once(value: u32, ctx: TaskContext, diary: State<Diary>) -> Result<String, TaskError> {
    let receipt = ctx.once("charge", || async { format!("{} {value}", fetches(&diary, "receipt").await) }).await;
    fails_twice(&ctx)?;
    Ok(receipt)
}

#[qtask(generate_handler = charges_once, echo = true)]
async fn charges(ctx: TaskContext) -> Vec<String> {
    // The names of the body and those of its handler are not each other's.
    let count = ctx.once("charge", || async { 2_u32 }).await;
    for value in 0..count {
        yield_!(value);
    }
}

async fn what_a_handler_does_once_is_not_done_again_for_the_same_value(stage: Stage) {
    let job = stage.app.enqueue(charges()).await.unwrap();
    stage.work().await;
    assert_eq!(job.result().await.unwrap(), ["receipt at the first time 0", "receipt at the first time 1"]);
    assert_eq!(stage.diary.lines(), ["fetch receipt", "fetch receipt"]);
}

/// A worker reads 1,024 memos at a time.
const MORE_THAN_A_PAGE: u32 = 1_050;

#[qtask(echo = true)]
async fn asks_backwards(ctx: TaskContext, diary: State<Diary>) -> Result<Vec<u32>, TaskError> {
    let numbers = 0..MORE_THAN_A_PAGE;
    let numbers: Vec<u32> = if ctx.attempt() == 1 { numbers.collect() } else { numbers.rev().collect() };
    let mut sum = 0;
    for number in numbers {
        sum += ctx
            .once(&format!("number{number}"), || async {
                diary.note("done");
                1
            })
            .await;
    }
    fails_twice(&ctx)?;
    yield_!(sum);
    Ok(())
}

async fn memos_are_read_in_any_order_and_in_pages(stage: Stage) {
    let job = stage.app.enqueue(asks_backwards()).await.unwrap();
    stage.work().await;
    assert_eq!(job.result().await.unwrap(), [MORE_THAN_A_PAGE]);
    assert_eq!(stage.diary.count("done"), MORE_THAN_A_PAGE as usize);
}

#[qtask(echo = true, retry = 0)]
async fn records_too_much(ctx: TaskContext, diary: State<Diary>) -> Vec<u32> {
    let text = ctx.once("text", || async { "x".repeat(300_000) }).await;
    diary.note(text.len());
    yield_!(1);
}

async fn what_cannot_be_recorded_ends_the_attempt(stage: Stage) {
    let job = stage.app.enqueue(records_too_much()).await.unwrap();
    stage.work().await;
    let error = job.result().await.unwrap_err().to_string();
    assert!(
        error.ends_with(
            "is dead: what is recorded once: 300002 bytes of JSON are more than the limit of 262144; store the data \
             elsewhere and pass its key"
        ),
        "{error}"
    );
    assert_eq!(stage.diary.lines(), [""; 0]);
}

#[qtask(echo = true, retry = 1)]
async fn changes_its_mind(ctx: TaskContext) -> Result<Vec<u32>, TaskError> {
    if ctx.attempt() == 1 {
        let _: String = ctx.once("limit", || async { "ten".to_owned() }).await;
        return Err(TaskError::retry_after(Duration::ZERO));
    }
    let limit: u32 = ctx.once("limit", || async { 10 }).await;
    yield_!(limit);
    Ok(())
}

#[qtask(echo = true, retry = 1)]
fn changes_its_mind_blocking(ctx: TaskContext) -> Result<Vec<u32>, TaskError> {
    if ctx.attempt() == 1 {
        let _: String = ctx.once_blocking("limit", || "ten".to_owned());
        return Err(TaskError::retry_after(Duration::ZERO));
    }
    let limit: u32 = ctx.once_blocking("limit", || 10);
    yield_!(limit);
    Ok(())
}

async fn what_was_recorded_as_something_else_ends_the_attempt(stage: Stage) {
    let polled = stage.app.enqueue(changes_its_mind()).await.unwrap();
    let called = stage.app.enqueue(changes_its_mind_blocking()).await.unwrap();
    stage.work().await;
    for job in [polled, called] {
        let error = job.result().await.unwrap_err().to_string();
        let said = "is dead: what was recorded once as `limit` cannot be read as `u32`: invalid type: string, \
                    expected u32 at line 1 column 5";
        assert!(error.ends_with(said), "{error}");
    }
}

#[qtask(echo = true, retry = 0)]
async fn names_it_badly(ctx: TaskContext) {
    ctx.once("a name", || async {}).await;
}

async fn a_name_is_checked(stage: Stage) {
    let job = stage.app.enqueue(names_it_badly()).await.unwrap();
    stage.work().await;
    let error = job.result().await.unwrap_err().to_string();
    let said = "the task panicked: `a name` cannot name a thing that is done once: a name is 1 to 128 letters, digits and \
                `_.:-`";
    assert!(error.ends_with(said), "{error}");
}

#[qtask(echo = true, retry = 0)]
async fn blocks_though_it_is_async(ctx: TaskContext) -> u64 {
    ctx.random_blocking()
}

async fn an_async_task_cannot_block(stage: Stage) {
    let job = stage.app.enqueue(blocks_though_it_is_async()).await.unwrap();
    stage.work().await;
    let error = job.result().await.unwrap_err().to_string();
    let said = "is dead: this task is an `async fn`, whose runtime a `_blocking` method would hold up: await the method \
                without `_blocking`, in a handler that is an `async fn` too";
    assert!(error.ends_with(said), "{error}");
}

#[qtask(echo = true, resume = "cursor")]
async fn does_it_all(ctx: TaskContext, diary: State<Diary>) -> qtasks::Result<Count> {
    assert_eq!(ctx.last_step::<u32>().await?, None);
    for _ in 0..2 {
        ctx.once("look", || fetches(&diary, "it")).await;
        ctx.sleep(Duration::from_millis(1)).await;
        let now = ctx.now().await;
        yield_!((now, ctx.random().await));
    }
    let job = ctx.enqueue(is_enqueued("a job".into())).await?;
    diary.note(job.status().await?.state.name());
    Ok(())
}

async fn nothing_is_recorded_of_a_task_that_runs_here_and_now(stage: Stage) {
    assert_eq!(stage.app.run(does_it_all()).await.unwrap(), Count(2));
    assert_eq!(stage.diary.lines(), ["fetch it", "fetch it", "waiting"]);
}

#[qtask(echo = true)]
async fn sleeps(ctx: TaskContext, diary: State<Diary>) -> Result<Vec<u32>, TaskError> {
    diary.note("sleeps");
    ctx.sleep(Duration::from_secs(3_600)).await;
    diary.note("has slept");
    fails_twice(&ctx)?;
    yield_!(1);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_sleep_is_slept_once() {
    let stage = Stage::on(Arc::new(Memory::new())).await;
    let (job, start) = (stage.app.enqueue(sleeps()).await.unwrap(), Instant::now());
    stage.app.worker().run_until_idle().await.unwrap();
    assert_eq!(job.result().await.unwrap(), [1]);
    assert_eq!(start.elapsed().as_secs() / 60, 60, "{:?}", start.elapsed());
    assert_eq!(stage.diary.lines(), ["sleeps", "has slept"].repeat(3));
}

#[tokio::test(start_paused = true)]
async fn a_generator_that_sleeps_is_given_back_at_once_and_sleeps_what_is_left() {
    let stage = Stage::on(Arc::new(Memory::new())).await;
    let (job, start) = (stage.app.enqueue(sleeps()).await.unwrap(), Instant::now());
    let worker = stage.app.worker().start().await.unwrap();
    stage.diary.until("sleeps").await;
    tokio::time::sleep(Duration::from_secs(1_200)).await;
    let stopping = Instant::now();
    worker.shutdown().await.unwrap();
    assert!(stopping.elapsed() < Duration::from_secs(20), "not even the grace is waited for");
    let status = job.status().await.unwrap();
    assert_eq!((status.state.name(), status.failures), ("waiting", 0));
    stage.app.worker().run_until_idle().await.unwrap();
    assert_eq!(start.elapsed().as_secs() / 60, 60, "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_memo_counts_no_later_than_the_step_after_it() {
    // A body runs ahead of what is durable, and what it did once goes to the store in one order with its steps.
    let stage = Stage::open(Place::sqlite()).await;
    let job = stage.app.enqueue(yields_time_and_chance()).await.unwrap();
    in_time(stage.app.worker().run_until_idle()).await.unwrap();
    let memos = stage.store.memos(job.id(), None, 0, 99).await.unwrap();
    let named: Vec<_> = memos.iter().map(|memo| (memo.number, memo.name.as_str(), memo.nth)).collect();
    assert_eq!(named, [(0, "@now", 0), (1, "@random", 0), (2, "@now", 1), (3, "@random", 1)]);
    assert!(Timestamp::now().duration_since(memos[0].value.decode().unwrap()) < SignedDuration::from_mins(1));
}
