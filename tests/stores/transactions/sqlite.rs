//! Handlers that run in a transaction of SQLite: what they write is there exactly once.

/// A handler, as this store takes it: a plain function.
macro_rules! handler {
    ($(#[$doc:meta])* $shown:vis fn $name:ident($tx:ident $(, $taken:ident: $type:ty)*) -> $gives:ty $body:block) => {
        $(#[$doc])*
        $shown fn $name($tx: &crate::Transaction<'_>, $($taken: $type),*) -> $gives $body
    };
}

/// What a call gives that a handler makes through its transaction.
macro_rules! done {
    ($call:expr) => {
        $call
    };
}

/// Runs each of the tests on this store.
macro_rules! on_this_store {
    ($($test:ident),* $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                super::$test().await;
            })*
        }
    };
}

mod rules;

use std::{sync::OnceLock, time::Duration};

use qtasks::{
    BoxError, Count, Result,
    job::Ending,
    prelude::*,
    sqlite::{
        Transaction,
        rusqlite::{self, params},
    },
};
use qtasks_tests::{Diary, Place, Stage, in_time, whole};

use crate::rules::{
    failing::stumbles,
    saved_values,
    saving::{called, polled_more, save},
};

const KIND: &str = "sqlite";
/// How many values are many here.
const LONG: i64 = 10_000;
/// What is said of a reply that `refuse_poison` has the store refuse.
const REFUSED: &str = "the store refuses to run handlers in a transaction: no poison";

type Sql<T> = rusqlite::Result<T>;

fn place() -> Place {
    Place::sqlite()
}

/// Stores in whose transactions these handlers cannot run.
fn others() -> Vec<Place> {
    vec![Place::memory()]
}

async fn stage() -> Stage {
    let stage = Stage::open(place()).await;
    make_tables(&stage);
    stage
}

fn database(stage: &Stage) -> rusqlite::Connection {
    rusqlite::Connection::open(stage.file()).unwrap()
}

fn make_tables(stage: &Stage) {
    database(stage).execute_batch("CREATE TABLE saved (value INTEGER, job TEXT, key TEXT)").unwrap();
}

/// One column of what was saved for a job, in the order of its saving.
fn saved(stage: &Stage, job: JobId, column: &str) -> Vec<String> {
    let (database, id) = (database(stage), job.to_string());
    let asked = format!("SELECT CAST({column} AS TEXT) FROM saved WHERE job = ?1 ORDER BY rowid");
    let mut rows = database.prepare(&asked).unwrap();
    rows.query_map([id], |row| row.get(0)).unwrap().map(|row| row.unwrap()).collect()
}

fn insert(tx: &Transaction<'_>, value: i64, ctx: &TaskContext) -> Sql<()> {
    let mut insert = tx.prepare_cached("INSERT INTO saved (value, job, key) VALUES (?1, ?2, ?3)")?;
    insert.execute(params![value, ctx.job_id().to_string(), ctx.idempotency_key()]).map(drop)
}

/// Has the store refuse every reply with that word in it.
fn refuse_poison(stage: &Stage) {
    let trigger = "CREATE TRIGGER refuse BEFORE INSERT ON qtasks_new_steps
                   WHEN instr(NEW.steps, CAST('poison' AS BLOB)) BEGIN SELECT raise(ABORT, 'no poison'); END";
    database(stage).execute_batch(trigger).unwrap();
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
    assert_eq!(saved_values(&stage, job.id()), (0..steps).collect::<Vec<_>>());
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
        whole(&error),
        "the task `waits` failed: a handler in a transaction waits for the store, which waits for the handler; write \
         through the transaction, and enqueue with `app.enqueue_in(tx, ..)`"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn running_here_and_now_saves_each_value_once() {
    let stage = stage().await;
    stage.app.run(polled_more(3)).await.unwrap();
    stage.app.run(called(3)).await.unwrap();
    stage.app.run(stumbles("error".into())).await.unwrap_err();
    let count: i64 = database(&stage).query_row("SELECT count(*) FROM saved", [], |row| row.get(0)).unwrap();
    assert_eq!(count, 9);
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
    assert_eq!(saved_values(&stage, job.id()), [0, 1, 2, 3, 4]);
    let status = job.status().await.unwrap();
    assert_eq!(status.failures, 0);
    assert!(status.attempts.iter().any(|attempt| attempt.ending == Ending::Released), "{:?}", status.attempts);
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
