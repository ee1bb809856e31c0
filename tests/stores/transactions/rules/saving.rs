//! What handlers save is there once and in order, whatever form the task has and whatever its body does beside that.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use qtasks::{BoxError, Budget, Count, Error, Find, Result, prelude::*, store::Store};
use qtasks_tests::{
    Diary, Stage,
    edge::{Behind, CarryOut, Edge},
    in_time,
    ledger::Ledger,
};

use super::{
    failing::{stumbles, stumbles_leniently},
    saved_values,
};
use crate::{KIND, LONG, Sql, insert, make_tables, others, place, saved, stage};

on_this_store![
    what_every_form_of_task_saves_is_there_once_and_in_order,
    a_body_may_use_the_replies,
    a_long_generator_saves_all_its_values,
    what_is_done_once_does_not_overtake_the_handlers_before_it,
    a_handler_in_a_transaction_cannot_wait_for_the_store,
    a_job_enqueued_in_the_transaction_exists_exactly_if_the_handler_succeeds,
    running_here_and_now_commits_each_value_and_stores_no_job,
    what_was_saved_before_an_answer_was_lost_is_not_saved_again,
];

handler! {
    pub(crate) fn save(tx, value: i64) -> Sql<i64> {
        done!(insert(tx, value, &TaskContext::current()))?;
        Ok(value * 10)
    }
}

handler! {
    fn save_and_note(tx, value: i64, diary: State<Diary>, ctx: TaskContext) -> anyhow::Result<i64> {
        done!(insert(tx, value, &ctx))?;
        diary.note(format!("{} {value}", ctx.task().name));
        Ok(value * 10)
    }
}

macro_rules! all_save {
    ($($task:ident: [$($kind:tt)*] $handler:ident $(, $option:ident = $text:literal)*;)*) => {
        $(#[qtask(generate_handler = $handler $(, $option = $text)*)]
        pub(crate) $($kind)* $task(n: i64) -> Vec<i64> {
            for value in 0..n {
                yield_!(value);
            }
        })*

        async fn what_every_form_of_task_saves_is_there_once_and_in_order() {
    let stage = stage().await;
            let jobs = [$(stage.app.enqueue($task(100)).await.unwrap()),*];
            stage.work().await;
            for job in jobs {
                assert_eq!(job.result().await.unwrap(), (0..100).map(|value| value * 10).collect::<Vec<_>>());
                assert_eq!(saved_values(&stage, job.id()), (0..100).collect::<Vec<_>>());
                let keys: Vec<_> = (0..100).map(|seq| format!("{}:{seq}", job.id())).collect();
                assert_eq!(saved(&stage, job.id(), "key"), keys, "a body that runs ahead changes no key");
                assert_eq!(job.status().await.unwrap().attempt, 1);
            }
            assert_eq!(stage.diary.count("polled_more 99"), 1);
            assert_eq!(stage.diary.count("called_more 99"), 1);
        }
    };
}

all_save! {
    polled: [async fn] save;
    called: [fn] save;
    polled_more: [async fn] save_and_note;
    called_more: [fn] save_and_note;
    polled_each: [async fn] save, checkpoint = "each";
    called_each: [fn] save, checkpoint = "each";
    polled_slowly: [async fn] save, checkpoint = "within 100ms";
    polled_leniently: [async fn] save, on_error = "skip";
}

#[qtask(generate_handler = save)]
pub(crate) async fn sums_replies(n: i64, co: Co<i64, i64>) -> Vec<i64> {
    let mut sum = 0;
    for _ in 0..n {
        sum += co.yield_(sum + 1).await;
        co.emit(sum).await;
    }
}

#[qtask(generate_handler = save)]
fn uses_replies() -> Count {
    let reply = yield_!(1);
    yield_!(reply + 1);
}

async fn a_body_may_use_the_replies() {
    let stage = stage().await;
    let (sums, uses) =
        (stage.app.enqueue(sums_replies(2)).await.unwrap(), stage.app.enqueue(uses_replies()).await.unwrap());
    stage.work().await;
    assert_eq!(sums.result().await.unwrap(), [10, 100, 110, 1200]);
    assert_eq!(saved_values(&stage, sums.id()), [1, 10, 11, 120]);
    assert_eq!(uses.result().await.unwrap(), 2);
    assert_eq!(saved_values(&stage, uses.id()), [1, 11]);
    assert_eq!(stage.app.run(sums_replies(2)).await.unwrap(), [10, 100, 110, 1200]);
}

async fn a_long_generator_saves_all_its_values() {
    let stage = stage().await;
    let job = stage.app.enqueue(polled(LONG)).await.unwrap();
    stage.work().await;
    assert_eq!(saved_values(&stage, job.id()), (0..LONG).collect::<Vec<_>>());
    assert_eq!(job.result().await.unwrap().len() as i64, LONG);
}

handler! {
    fn saves_but_two_at_first(tx, value: i64, ctx: TaskContext) -> anyhow::Result<i64> {
        done!(insert(tx, value, &ctx))?;
        anyhow::ensure!(value != 2 || ctx.attempt() > 1, "not yet");
        Ok(value)
    }
}

#[qtask(generate_handler = saves_but_two_at_first, echo = true, backoff = "1ms")]
async fn does_things_once_in_between(ctx: TaskContext, diary: State<Diary>) -> Count {
    for value in 0..4 {
        yield_!(value);
        ctx.once("look", || async { diary.note(format!("after {value}")) }).await;
        ctx.now().await;
    }
}

async fn what_is_done_once_does_not_overtake_the_handlers_before_it() {
    let stage = stage().await;
    let worker = stage.app.worker().start().await.unwrap();
    let job = stage.app.enqueue(does_things_once_in_between()).await.unwrap();
    assert_eq!(in_time(job.result()).await.unwrap(), 4);
    worker.shutdown().await.unwrap();
    assert_eq!(saved_values(&stage, job.id()), [0, 1, 2, 3]);
    // The body has run ahead of the handler that failed, but nothing of that was recorded.
    let memos = stage.store.memos(job.id(), None, 0, 99).await.unwrap();
    assert_eq!(memos.iter().map(|memo| memo.number).collect::<Vec<_>>(), (0..8).collect::<Vec<_>>());
    assert_eq!(stage.diary.lines(), ["after 0", "after 1", "after 2", "after 2", "after 3"]);
}

handler! {
    fn draws_in_a_transaction(tx, value: i64, ctx: TaskContext) -> Sql<u64> {
        done!(insert(tx, value, &ctx))?;
        Ok(ctx.random_blocking())
    }
}

#[qtask(generate_handler = draws_in_a_transaction, retry = 0)]
fn waits_in_a_transaction() -> Count {
    yield_!(1);
}

/// What becomes of a job whose handler waits for the store.
pub(crate) async fn cannot_wait<C: CallOptions>(stage: &Stage, call: C) {
    let job = stage.app.enqueue(call).await.unwrap();
    stage.work().await;
    let error = stage.app.any_job(job.id()).await.unwrap().result().await.unwrap_err().to_string();
    let said = "is dead: a handler in a transaction cannot wait for the store, which waits for the handler: enqueue with \
                `app.enqueue_in(tx, ..)`, and do the rest in the body";
    assert!(error.ends_with(said), "{error}");
    assert_eq!(saved_values(stage, job.id()), [0; 0]);
}

async fn a_handler_in_a_transaction_cannot_wait_for_the_store() {
    let stage = stage().await;
    cannot_wait(&stage, waits_in_a_transaction()).await;
}

#[qtask]
pub(crate) async fn greets(diary: State<Diary>, name: i64) {
    diary.note(format!("hello {name}"));
}

/// The application of the test in which guests are invited.
static HOST: OnceLock<QueueTasks> = OnceLock::new();

handler! {
    fn invites(tx, guest: i64) -> Result<(), BoxError> {
        done!(HOST.wait().enqueue_in(tx, greets(guest)))?;
        if guest == 2 { Err("is not to come".into()) } else { Ok(()) }
    }
}

#[qtask(generate_handler = invites, on_error = "skip")]
async fn party() -> Count {
    for guest in 1..=3 {
        yield_!(guest);
    }
}

async fn a_job_enqueued_in_the_transaction_exists_exactly_if_the_handler_succeeds() {
    let stage = stage().await;
    HOST.set(stage.app.clone()).unwrap();
    let worker = stage.app.worker().start().await.unwrap();
    let job = stage.app.enqueue(party()).await.unwrap();
    assert_eq!(in_time(job.result()).await.unwrap(), 2);
    stage.diary.until("hello 1").await;
    stage.diary.until("hello 3").await;
    worker.shutdown().await.unwrap();
    assert_eq!(stage.diary.lines().len(), 2);
}

async fn running_here_and_now_commits_each_value_and_stores_no_job() {
    let stage = stage().await;
    let diary = &stage.diary;
    assert_eq!(stage.app.run(polled_more(3)).await.unwrap(), [0, 10, 20]);
    assert_eq!(stage.app.run(called(3)).await.unwrap(), [0, 10, 20]);
    let error = stage.app.run(stumbles("error".into())).await.unwrap_err().to_string();
    assert_eq!(error, "the task `stumbles` failed: no room");
    let run = stage.app.run(stumbles_leniently("error".into())).await.unwrap();
    assert_eq!(run, [0, 1, 2, 3, 4, 5], "the handler has tripped already");
    assert_eq!(stage.app.find(Find::default().oldest_first()).budget(Budget::jobs(10)).await.unwrap().jobs, []);
    assert_eq!(diary.lines().len(), 3 + 4 + 6);
}

#[tokio::test]
async fn a_store_without_transactions_is_refused() {
    let said = format!(
        "has a handler for transactions of {KIND}, which this store does not have; open one that does (`{KIND}:..`), or \
         let the handler take the value alone"
    );
    for place in others() {
        let app = QueueTasks::builder().store(&*place.url).state(Diary::default()).build().await.unwrap();
        let (started, run) = (app.worker().start().await.unwrap_err(), app.run(called(1)).await.unwrap_err());
        assert_eq!(run.to_string(), format!("the task `called` {said}"));
        for error in [started, run] {
            assert!(matches!(error, Error::NoTransactions { kind: KIND, .. }), "{error:?}");
            assert!(error.to_string().ends_with(&said), "{error}");
        }
        assert_eq!(app.enqueue(called(1)).await.unwrap().status().await.unwrap().attempt, 0);
    }
}

/// Every other answer to a call that runs handlers is lost.
#[derive(Debug, Default)]
struct Deaf {
    calls: AtomicUsize,
}

impl Edge for Deaf {
    async fn pass<T: Send + 'static>(&self, call: &'static str, carry_out: CarryOut<T>) -> Result<T> {
        let answer = carry_out().await?;
        match call == "transact" && self.calls.fetch_add(1, Relaxed).is_multiple_of(2) {
            true => Err(Error::Store { doing: "hear us", source: "the cable is out".into() }),
            false => Ok(answer),
        }
    }
}

async fn what_was_saved_before_an_answer_was_lost_is_not_saved_again() {
    let deaf = |inner| Arc::new(Behind::new(Deaf::default(), inner, &Ledger::default())) as Arc<dyn Store>;
    let stage = Stage::behind(place(), deaf).await;
    make_tables(&stage);
    let worker = stage.app.worker().start().await.unwrap();
    let (ahead, each) =
        (stage.app.enqueue(polled_more(50)).await.unwrap(), stage.app.enqueue(called_each(5)).await.unwrap());
    for job in [ahead, each] {
        let values = in_time(job.result()).await.unwrap().len() as i64;
        assert_eq!(saved_values(&stage, job.id()), (0..values).collect::<Vec<_>>());
        assert_eq!(job.status().await.unwrap().attempt, 1);
    }
    worker.shutdown().await.unwrap();
    assert_eq!(stage.diary.lines().len(), 50);
}
