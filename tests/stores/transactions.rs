//! Handlers that run in a transaction of the store: what they write is there exactly once.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use qtasks::{
    BoxError, Count, Error, Result,
    job::Ending,
    prelude::*,
    sqlite::{
        Transaction,
        rusqlite::{self, params},
    },
};
use qtasks_tests::{
    Diary, Place, Stage,
    edge::{Behind, CarryOut, Edge},
    in_time,
    ledger::Ledger,
};

async fn stage() -> Stage {
    let stage = Stage::open(Place::sqlite()).await;
    make_tables(&stage);
    stage
}

fn make_tables(stage: &Stage) {
    let tables = "CREATE TABLE saved (value INTEGER, job TEXT, key TEXT)";
    rusqlite::Connection::open(stage.file()).unwrap().execute_batch(tables).unwrap();
}

/// One column of what was saved for a job, in the order of its saving.
fn saved<T: rusqlite::types::FromSql>(stage: &Stage, job: JobId, column: &str) -> Vec<T> {
    let database = rusqlite::Connection::open(stage.file()).unwrap();
    let mut rows = database.prepare(&format!("SELECT {column} FROM saved WHERE job = ?1 ORDER BY rowid")).unwrap();
    rows.query_map([job.to_string()], |row| row.get(0)).unwrap().map(|row| row.unwrap()).collect()
}

fn insert(tx: &Transaction<'_>, value: i64, ctx: &TaskContext) -> rusqlite::Result<()> {
    let mut insert = tx.prepare_cached("INSERT INTO saved (value, job, key) VALUES (?1, ?2, ?3)")?;
    insert.execute(params![value, ctx.job_id().to_string(), ctx.idempotency_key()]).map(drop)
}

fn save(tx: &Transaction<'_>, value: i64) -> rusqlite::Result<i64> {
    insert(tx, value, &TaskContext::current())?;
    Ok(value * 10)
}

fn save_and_note(tx: &Transaction<'_>, value: i64, diary: State<Diary>, ctx: TaskContext) -> anyhow::Result<i64> {
    insert(tx, value, &ctx)?;
    diary.note(format!("{} {value}", ctx.task().name));
    Ok(value * 10)
}

macro_rules! all_save {
    ($($task:ident: [$($kind:tt)*] $handler:ident $(, $option:ident = $text:literal)*;)*) => {
        $(#[qtask(generate_handler = $handler $(, $option = $text)*)]
        $($kind)* $task(n: i64) -> Vec<i64> {
            for value in 0..n {
                yield_!(value);
            }
        })*

        #[tokio::test(flavor = "multi_thread")]
        async fn what_every_form_of_task_saves_is_there_once_and_in_order() {
            let stage = stage().await;
            let jobs = [$(stage.app.enqueue($task(100)).await.unwrap()),*];
            stage.work().await;
            for job in jobs {
                assert_eq!(job.result().await.unwrap(), (0..100).map(|value| value * 10).collect::<Vec<_>>());
                assert_eq!(saved::<i64>(&stage, job.id(), "value"), (0..100).collect::<Vec<_>>());
                let keys: Vec<_> = (0..100).map(|seq| format!("{}:{seq}", job.id())).collect();
                assert_eq!(saved::<String>(&stage, job.id(), "key"), keys, "a body that runs ahead changes no key");
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
async fn sums_replies(n: i64, co: Co<i64, i64>) -> Vec<i64> {
    let mut sum = 0;
    for _ in 0..n {
        sum += co.yield_(sum + 1).await;
        co.emit(sum).await;
    }
}

fn saves_but_two_at_first(tx: &Transaction<'_>, value: i64, ctx: TaskContext) -> anyhow::Result<i64> {
    insert(tx, value, &ctx)?;
    anyhow::ensure!(value != 2 || ctx.attempt() > 1, "not yet");
    Ok(value)
}

#[qtask(generate_handler = saves_but_two_at_first, echo = true, backoff = "1ms")]
async fn does_things_once_in_between(ctx: TaskContext, diary: State<Diary>) -> Count {
    for value in 0..4 {
        yield_!(value);
        ctx.once("look", || async { diary.note(format!("after {value}")) }).await;
        ctx.now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_once_does_not_overtake_the_handlers_before_it() {
    let stage = stage().await;
    let worker = stage.app.worker().start().await.unwrap();
    let job = stage.app.enqueue(does_things_once_in_between()).await.unwrap();
    assert_eq!(in_time(job.result()).await.unwrap(), 4);
    worker.shutdown().await.unwrap();
    assert_eq!(saved::<i64>(&stage, job.id(), "value"), [0, 1, 2, 3]);
    // The body has run ahead of the handler that failed, but nothing of that was recorded.
    let memos = stage.store.memos(job.id(), None, 0, 99).await.unwrap();
    assert_eq!(memos.iter().map(|memo| memo.number).collect::<Vec<_>>(), (0..8).collect::<Vec<_>>());
    assert_eq!(stage.diary.lines(), ["after 0", "after 1", "after 2", "after 2", "after 3"]);
}

fn draws_in_a_transaction(tx: &Transaction<'_>, value: i64, ctx: TaskContext) -> rusqlite::Result<u64> {
    insert(tx, value, &ctx)?;
    Ok(ctx.random_blocking())
}

#[qtask(generate_handler = draws_in_a_transaction, retry = 0)]
fn waits_in_a_transaction() -> Count {
    yield_!(1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_in_a_transaction_cannot_wait_for_the_store() {
    let stage = stage().await;
    let job = stage.app.enqueue(waits_in_a_transaction()).await.unwrap();
    stage.work().await;
    let error = job.result().await.unwrap_err().to_string();
    let said = "is dead: a handler in a transaction cannot wait for the store, which waits for the handler: enqueue with \
                `app.enqueue_in(tx, ..)`, and do the rest in the body";
    assert!(error.ends_with(said), "{error}");
    assert_eq!(saved::<i64>(&stage, job.id(), "value"), [0; 0]);
}

#[qtask(generate_handler = save)]
fn uses_replies() -> Count {
    let reply = yield_!(1);
    yield_!(reply + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_may_use_the_replies() {
    let stage = stage().await;
    let (sums, uses) =
        (stage.app.enqueue(sums_replies(2)).await.unwrap(), stage.app.enqueue(uses_replies()).await.unwrap());
    stage.work().await;
    assert_eq!(sums.result().await.unwrap(), [10, 100, 110, 1200]);
    assert_eq!(saved::<i64>(&stage, sums.id(), "value"), [1, 10, 11, 120]);
    assert_eq!(uses.result().await.unwrap(), 2);
    assert_eq!(saved::<i64>(&stage, uses.id(), "value"), [1, 11]);
    assert_eq!(stage.app.run(sums_replies(2)).await.unwrap(), [10, 100, 110, 1200]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_generator_saves_all_its_values() {
    let stage = stage().await;
    let job = stage.app.enqueue(polled(10_000)).await.unwrap();
    stage.work().await;
    assert_eq!(saved::<i64>(&stage, job.id(), "value"), (0..10_000).collect::<Vec<_>>());
    assert_eq!(job.result().await.unwrap().len(), 10_000);
}

/// Fails once at value 3, as it is told.
fn trips(tx: &Transaction<'_>, how: (i64, String), diary: State<Diary>) -> Result<i64, BoxError> {
    let (value, how) = how;
    insert(tx, value, &TaskContext::current())?;
    diary.note(format!("handle {value}"));
    if value != 3 || diary.count("handle 3") > 1 {
        return Ok(value);
    }
    Err(match how.as_str() {
        "error" => "no room".into(),
        "panic" => panic!("no room"),
        "snooze" => TaskError::snooze(Duration::ZERO).into(),
        "cancel" => TaskError::cancel("not wanted").into(),
        "discard" => TaskError::discard("not wanted").into(),
        _ => unreachable!(),
    })
}

macro_rules! stumbles {
    ($($task:ident: [$($kind:tt)*] $($option:ident = $text:literal),*;)*) => {
        $(#[qtask(generate_handler = trips, backoff = "1ms..1ms" $(, $option = $text)*)]
        $($kind)* $task(how: String) -> Vec<i64> {
            for value in 0..6 {
                yield_!((value, how.clone()));
            }
        })*
    };
}

stumbles! {
    stumbles: [async fn];
    stumbles_called: [fn];
    stumbles_each: [async fn] checkpoint = "each";
    stumbles_called_each: [fn] checkpoint = "each";
    stumbles_leniently: [async fn] on_error = "skip";
}

/// Runs a task that fails at value 3 and goes on there.
async fn goes_on<C: CallOptions>(call: C, ending: Ending)
where
    C::Task: qtasks::Task<Output = Vec<i64>>,
{
    let stage = stage().await;
    let job = stage.app.enqueue(call).await.unwrap();
    let worker = stage.app.worker().start().await.unwrap();
    assert_eq!(in_time(job.result()).await.unwrap(), [0, 1, 2, 3, 4, 5]);
    worker.shutdown().await.unwrap();
    assert_eq!(saved::<i64>(&stage, job.id(), "value"), [0, 1, 2, 3, 4, 5]);
    let handled: Vec<_> = [0, 1, 2, 3, 3, 4, 5].iter().map(|value| format!("handle {value}")).collect();
    assert_eq!(stage.diary.lines(), handled, "none runs after one that failed, and none twice that did not");
    let status = job.status().await.unwrap();
    let endings: Vec<_> = status.attempts.into_iter().map(|attempt| attempt.ending).collect();
    assert_eq!(endings, [ending, Ending::Done]);
    assert_eq!(status.failures, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_undoes_its_value_only_and_the_next_attempt_goes_on_there() {
    let failed = || Ending::Failed { error: "no room".into() };
    goes_on(stumbles("error".into()), failed()).await;
    goes_on(stumbles_called("error".into()), failed()).await;
    goes_on(stumbles_each("error".into()), failed()).await;
    goes_on(stumbles_called_each("error".into()), failed()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_undoes_its_value_only_and_the_next_attempt_goes_on_there() {
    let failed = || Ending::Failed { error: "the task panicked: no room".into() };
    goes_on(stumbles("panic".into()), failed()).await;
    goes_on(stumbles_called("panic".into()), failed()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_error_is_obeyed_and_its_value_undone() {
    goes_on(stumbles("snooze".into()), Ending::Snoozed).await;
    goes_on(stumbles_leniently("snooze".into()), Ending::Snoozed).await;
    for (how, end) in [("cancel", "was cancelled"), ("discard", "is dead")] {
        let stage = stage().await;
        let job = stage.app.enqueue(stumbles(how.into())).await.unwrap();
        stage.work().await;
        let error = job.result().await.unwrap_err().to_string();
        assert_eq!(error, format!("job {} {end}: not wanted", job.id()));
        assert_eq!(saved::<i64>(&stage, job.id(), "value"), [0, 1, 2]);
        assert_eq!(job.status().await.unwrap().steps, 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_skipped_value_is_undone_and_recorded() {
    let stage = stage().await;
    let job = stage.app.enqueue(stumbles_leniently("error".into())).await.unwrap();
    stage.work().await;
    assert_eq!(job.result().await.unwrap(), [0, 1, 2, 4, 5]);
    assert_eq!(saved::<i64>(&stage, job.id(), "value"), [0, 1, 2, 4, 5]);
    let third = job.stream_from(3).next().await.unwrap().unwrap_err();
    assert!(third.is_skipped() && third.seq() == Some(3), "{third:?}");
    let run = stage.app.run(stumbles_leniently("error".into())).await.unwrap();
    assert_eq!(run, [0, 1, 2, 3, 4, 5], "the handler has tripped already");
}

/// Yields a value that its handler refuses, and then takes its time.
#[qtask(generate_handler = trips, retry = 0)]
async fn dawdles() -> Vec<i64> {
    yield_!((3, "error".to_owned()));
    std::future::pending::<()>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_takes_its_time_after_a_value_that_failed_is_stopped() {
    let stage = stage().await;
    let job = stage.app.enqueue(dawdles()).await.unwrap();
    let worker = stage.app.worker().start().await.unwrap();
    let error = in_time(job.result()).await.unwrap_err().to_string();
    assert!(error.ends_with("is dead: no room"), "{error}");
    worker.shutdown().await.unwrap();
}

/// Yields a value that its handler refuses, and comes to another end before that is known.
#[qtask(generate_handler = trips, retry = 0, checkpoint = "within 1s")]
fn fails_elsewhere() -> Result<Vec<i64>, String> {
    yield_!((3, "error".to_owned()));
    Err("an error of the body".to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_of_the_handler_comes_before_the_end_of_the_body() {
    let stage = stage().await;
    let job = stage.app.enqueue(fails_elsewhere()).await.unwrap();
    stage.work().await;
    let error = job.result().await.unwrap_err().to_string();
    assert!(error.ends_with("is dead: no room"), "{error}");
}

fn ends_the_transaction(tx: &Transaction<'_>, value: i64) -> rusqlite::Result<i64> {
    save(tx, value)?;
    if value == 2 {
        tx.execute_batch("ROLLBACK")?;
    }
    Ok(value)
}

#[qtask(generate_handler = ends_the_transaction, retry = 0)]
async fn oversteps() -> Vec<i64> {
    for value in 0..4 {
        yield_!(value);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_ends_the_transaction_fails_its_attempt() {
    let stage = stage().await;
    let job = stage.app.enqueue(oversteps()).await.unwrap();
    stage.work().await;
    let error = job.result().await.unwrap_err().to_string();
    let text = "a handler ended the transaction that it was given; it must neither commit nor roll back, as `INSERT OR \
                ROLLBACK` does";
    assert_eq!(error, format!("job {} is dead: {text}", job.id()));
    let steps = job.status().await.unwrap().steps.cast_signed();
    assert_eq!(saved::<i64>(&stage, job.id(), "value"), (0..steps).collect::<Vec<_>>());
}

#[qtask]
async fn greets(diary: State<Diary>, name: i64) {
    diary.note(format!("hello {name}"));
}

/// The application of the test in which guests are invited.
static HOST: OnceLock<QueueTasks> = OnceLock::new();

fn invites(tx: &Transaction<'_>, guest: i64) -> Result<(), BoxError> {
    HOST.wait().enqueue_in(tx, greets(guest))?;
    if guest == 2 { Err("is not to come".into()) } else { Ok(()) }
}

#[qtask(generate_handler = invites, on_error = "skip")]
async fn party() -> Count {
    for guest in 1..=3 {
        yield_!(guest);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_enqueued_in_the_transaction_exists_exactly_if_the_handler_succeeds() {
    let stage = stage().await;
    HOST.set(stage.app.clone()).unwrap();
    let job = stage.app.enqueue(party()).await.unwrap();
    stage.work().await;
    assert_eq!(job.result().await.unwrap(), 2);
    let mut lines = stage.diary.lines();
    lines.sort();
    assert_eq!(lines, ["hello 1", "hello 3"]);
}

/// The application of the test in which a handler waits.
static WAITED_FOR: OnceLock<QueueTasks> = OnceLock::new();

fn waits_for_the_store(_tx: &Transaction<'_>, value: i64) -> Result<i64, BoxError> {
    futures::executor::block_on(WAITED_FOR.wait().enqueue(called(value)))?;
    Ok(value)
}

#[qtask(generate_handler = waits_for_the_store)]
async fn waits() -> Count {
    yield_!(1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_waits_for_its_own_store_is_told_so() {
    let stage = stage().await;
    WAITED_FOR.set(stage.app.clone()).unwrap();
    let error = in_time(stage.app.run(waits())).await.unwrap_err();
    assert_eq!(
        qtasks_tests::whole(&error),
        "the task `waits` failed: a handler in a transaction waits for the store, which waits for the handler; write \
         through the transaction, and enqueue with `app.enqueue_in(tx, ..)`"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn running_here_and_now_commits_each_value_and_stores_no_job() {
    let stage = stage().await;
    assert_eq!(stage.app.run(polled_more(3)).await.unwrap(), [0, 10, 20]);
    assert_eq!(stage.app.run(called(3)).await.unwrap(), [0, 10, 20]);
    let error = stage.app.run(stumbles("error".into())).await.unwrap_err().to_string();
    assert_eq!(error, "the task `stumbles` failed: no room");
    assert_eq!(stage.app.jobs(Default::default(), None, 10).await.unwrap(), []);
    let database = rusqlite::Connection::open(stage.file()).unwrap();
    let count: i64 = database.query_row("SELECT count(*) FROM saved", [], |row| row.get(0)).unwrap();
    assert_eq!(count, 9);
}

#[tokio::test]
async fn a_store_without_transactions_is_refused() {
    let app = QueueTasks::open("memory:").await.unwrap();
    for error in [app.worker().start().await.unwrap_err(), app.run(called(1)).await.unwrap_err()] {
        assert!(matches!(error, Error::NoTransactions { kind: "sqlite", .. }));
        assert_eq!(
            error.to_string(),
            "the task `called` has a handler for transactions of sqlite, which this store does not have; open one that \
             does (`sqlite:..`), or let the handler take the value alone"
        );
    }
    assert_eq!(app.enqueue(called(1)).await.unwrap().status().await.unwrap().attempt, 0);
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

#[tokio::test(flavor = "multi_thread")]
async fn what_was_saved_before_an_answer_was_lost_is_not_saved_again() {
    let stage =
        Stage::behind(Place::sqlite(), |inner| Arc::new(Behind::new(Deaf::default(), inner, &Ledger::default()))).await;
    make_tables(&stage);
    let worker = stage.app.worker().start().await.unwrap();
    let (ahead, each) =
        (stage.app.enqueue(polled_more(50)).await.unwrap(), stage.app.enqueue(called_each(5)).await.unwrap());
    for job in [ahead, each] {
        let values = in_time(job.result()).await.unwrap().len() as i64;
        assert_eq!(saved::<i64>(&stage, job.id(), "value"), (0..values).collect::<Vec<_>>());
        assert_eq!(job.status().await.unwrap().attempt, 1);
    }
    worker.shutdown().await.unwrap();
    assert_eq!(stage.diary.lines().len(), 50);
}

/// Fills the file once, so that its step has no room in it.
fn fills_the_file(tx: &Transaction<'_>, value: i64, diary: State<Diary>) -> rusqlite::Result<String> {
    save(tx, value)?;
    diary.note(format!("handle {value}"));
    if value == 2 && diary.count("handle 2") == 1 {
        let pages: i64 = tx.query_row("PRAGMA page_count", [], |row| row.get(0))?;
        tx.pragma_update(None, "max_page_count", pages)?;
        return Ok("x".repeat(100_000));
    }
    tx.pragma_update(None, "max_page_count", 1_000_000)?;
    Ok("x".to_owned())
}

#[qtask(generate_handler = fills_the_file)]
async fn fills() -> Count {
    for value in 0..5 {
        yield_!(value);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_committed_is_handled_again_by_the_next_attempt_at_no_cost() {
    let stage = stage().await;
    let job = stage.app.enqueue(fills()).await.unwrap();
    let worker = stage.app.worker().start().await.unwrap();
    assert_eq!(in_time(job.result()).await.unwrap(), 5);
    worker.shutdown().await.unwrap();
    assert_eq!(saved::<i64>(&stage, job.id(), "value"), [0, 1, 2, 3, 4]);
    let status = job.status().await.unwrap();
    assert_eq!(status.failures, 0);
    assert!(status.attempts.iter().any(|attempt| attempt.ending == Ending::Released), "{:?}", status.attempts);
}

/// Unwinds when it is dropped, unless a handler has taken it.
#[derive(serde::Serialize)]
struct Bomb(i64);

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "value {} was not handled", self.0);
    }
}

fn refuses_the_first(_tx: &Transaction<'_>, bomb: Bomb) -> std::result::Result<i64, String> {
    let value = bomb.0;
    std::mem::forget(bomb);
    if value == 0 { Err("not this one".to_owned()) } else { Ok(value) }
}

#[qtask(generate_handler = refuses_the_first, retry = 0, checkpoint = "within 100ms")]
async fn yields_bombs() -> Count {
    for value in 0..50 {
        yield_!(Bomb(value));
    }
}

#[qtask(generate_handler = refuses_the_first, retry = 0, checkpoint = "within 100ms")]
fn yields_bombs_on_a_thread() -> Count {
    for value in 0..50 {
        yield_!(Bomb(value));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn values_that_are_not_handled_and_unwind_when_dropped_hold_up_no_worker() {
    let stage = stage().await;
    let worker = stage.app.worker().start().await.unwrap();
    for job in
        [stage.app.enqueue(yields_bombs()).await.unwrap(), stage.app.enqueue(yields_bombs_on_a_thread()).await.unwrap()]
    {
        let error = in_time(job.result()).await.unwrap_err().to_string();
        assert!(error.ends_with("is dead: not this one"), "{error}");
        assert_eq!(job.status().await.unwrap().failures, 1);
    }
    let job = stage.app.enqueue(polled(3)).await.unwrap();
    assert_eq!(in_time(job.result()).await.unwrap(), [0, 10, 20]);
    in_time(worker.shutdown()).await.unwrap();
}

fn saves_a_name(tx: &Transaction<'_>, value: i64, ctx: TaskContext) -> rusqlite::Result<String> {
    insert(tx, value, &ctx)?;
    Ok(if value == 2 { "poison".to_owned() } else { value.to_string() })
}

#[qtask(generate_handler = saves_a_name, retry = 1, backoff = "1ms..1ms")]
async fn names_them() -> Vec<String> {
    for value in 0..4 {
        yield_!(value);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_that_the_store_refuses_fails_the_job_and_no_other() {
    let stage = stage().await;
    let trigger = "CREATE TRIGGER refuse BEFORE INSERT ON qtasks_new_steps
                   WHEN instr(NEW.steps, CAST('poison' AS BLOB)) BEGIN SELECT raise(ABORT, 'no poison'); END";
    rusqlite::Connection::open(stage.file()).unwrap().execute_batch(trigger).unwrap();
    let job = stage.app.enqueue(names_them()).await.unwrap();
    let others = stage.app.enqueue_all((0..20).map(|_| sums_replies(5))).await.unwrap();
    stage.work().await;
    for other in others {
        other.result().await.unwrap();
    }
    let error = job.result().await.unwrap_err().to_string();
    assert!(error.ends_with("is dead: the store refuses to run handlers in a transaction: no poison"), "{error}");
    let status = job.status().await.unwrap();
    let said = error.split_once("is dead: ").unwrap().1.to_owned();
    assert!(status.attempts.iter().all(|attempt| attempt.ending == Ending::Failed { error: said.clone() }));
    assert!(status.attempt <= 3 && status.failures == 2, "{status:?}");
    assert_eq!(saved::<i64>(&stage, job.id(), "value"), (0..status.steps as i64).collect::<Vec<_>>());
}

fn takes_a_moment(_tx: &Transaction<'_>, value: u32) -> Result<u32, String> {
    // Long for a paused clock, which would pass hours in it.
    std::thread::sleep(Duration::from_millis(30));
    Ok(value)
}

#[qtask(generate_handler = takes_a_moment, max_time = "1s", retry = 0)]
async fn hands_over_slowly() -> Vec<u32> {
    yield_!(1);
}

#[tokio::test(start_paused = true)]
async fn a_handler_in_a_transaction_keeps_a_paused_clock_where_it_is() {
    let place = Place::sqlite();
    let stage = Stage::on(qtasks::store::open(&place.url).await.unwrap()).await;
    let job = stage.app.enqueue(hands_over_slowly()).await.unwrap();
    stage.work().await;
    assert_eq!(job.result().await.unwrap(), [1]);
}
