//! Handlers that run in a transaction of Postgres: what they write is there exactly once.

use std::{
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use jiff::Timestamp;
use qtasks::{
    BoxError, Count, Error, Result,
    job::{self, Ending, StateKind},
    lifecycle::Outcome,
    postgres::{
        Transaction,
        tokio_postgres::{self, error::SqlState},
    },
    prelude::*,
    store::{Hold, Settlement, Store, Written},
};
use qtasks_tests::{
    Diary, Place, Stage,
    edge::{Behind, CarryOut, Edge},
    eventually, in_time,
    ledger::Ledger,
    servers::postgres::{Postgres, shared, tell, url},
    whole,
};

type Sql<T> = std::result::Result<T, tokio_postgres::Error>;

const TABLES: &str = "
    CREATE TABLE kinds (id int PRIMARY KEY);
    CREATE TABLE saved (number bigserial, value bigint, job text, key text,
        kind int REFERENCES kinds DEFERRABLE INITIALLY DEFERRED)";

async fn stage() -> Stage {
    make_tables();
    Stage::open(Place::postgres()).await
}

/// What tests save stands in one table, apart by job.
fn make_tables() {
    static MADE: OnceLock<()> = OnceLock::new();
    MADE.get_or_init(|| _ = shared().tell(TABLES).unwrap());
}

/// One column of what was saved for a job, in the order of its saving.
fn saved(job: JobId, column: &str) -> Vec<String> {
    let asked = format!("SELECT {column} FROM saved WHERE job = '{job}' ORDER BY number");
    shared().tell(&asked).unwrap().lines().map(str::to_owned).collect()
}

fn saved_values(job: JobId) -> Vec<i64> {
    saved(job, "value").iter().map(|value| value.parse().unwrap()).collect()
}

async fn insert(tx: &Transaction<'_>, value: i64, ctx: &TaskContext) -> Sql<()> {
    let (job, key) = (ctx.job_id().to_string(), ctx.idempotency_key());
    tx.execute("INSERT INTO saved (value, job, key) VALUES ($1, $2, $3)", &[&value, &job, &key]).await.map(drop)
}

async fn save(tx: &mut Transaction<'_>, value: i64) -> Sql<i64> {
    insert(tx, value, &TaskContext::current()).await?;
    Ok(value * 10)
}

async fn save_and_note(
    tx: &mut Transaction<'_>,
    value: i64,
    diary: State<Diary>,
    ctx: TaskContext,
) -> anyhow::Result<i64> {
    insert(tx, value, &ctx).await?;
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

        #[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
        #[tokio::test(flavor = "multi_thread")]
        async fn what_every_form_of_task_saves_is_there_once_and_in_order() {
            let stage = stage().await;
            let jobs = [$(stage.app.enqueue($task(100)).await.unwrap()),*];
            stage.work().await;
            for job in jobs {
                assert_eq!(job.result().await.unwrap(), (0..100).map(|value| value * 10).collect::<Vec<_>>());
                assert_eq!(saved_values(job.id()), (0..100).collect::<Vec<_>>());
                let keys: Vec<_> = (0..100).map(|seq| format!("{}:{seq}", job.id())).collect();
                assert_eq!(saved(job.id(), "key"), keys, "a body that runs ahead changes no key");
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

#[qtask(generate_handler = save)]
fn uses_replies() -> Count {
    let reply = yield_!(1);
    yield_!(reply + 1);
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test(flavor = "multi_thread")]
async fn a_body_may_use_the_replies() {
    let stage = stage().await;
    let (sums, uses) =
        (stage.app.enqueue(sums_replies(2)).await.unwrap(), stage.app.enqueue(uses_replies()).await.unwrap());
    stage.work().await;
    assert_eq!(sums.result().await.unwrap(), [10, 100, 110, 1200]);
    assert_eq!(saved_values(sums.id()), [1, 10, 11, 120]);
    assert_eq!(uses.result().await.unwrap(), 2);
    assert_eq!(saved_values(uses.id()), [1, 11]);
    assert_eq!(stage.app.run(sums_replies(2)).await.unwrap(), [10, 100, 110, 1200]);
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test(flavor = "multi_thread")]
async fn a_long_generator_saves_all_its_values() {
    let stage = stage().await;
    let job = stage.app.enqueue(polled(1_500)).await.unwrap();
    stage.work().await;
    assert_eq!(saved_values(job.id()), (0..1_500).collect::<Vec<_>>());
    assert_eq!(job.result().await.unwrap().len(), 1_500);
}

async fn saves_but_two_at_first(tx: &mut Transaction<'_>, value: i64, ctx: TaskContext) -> anyhow::Result<i64> {
    insert(tx, value, &ctx).await?;
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

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_once_does_not_overtake_the_handlers_before_it() {
    let stage = stage().await;
    let worker = stage.app.worker().start().await.unwrap();
    let job = stage.app.enqueue(does_things_once_in_between()).await.unwrap();
    assert_eq!(in_time(job.result()).await.unwrap(), 4);
    worker.shutdown().await.unwrap();
    assert_eq!(saved_values(job.id()), [0, 1, 2, 3]);
    // The body has run ahead of the handler that failed, but nothing of that was recorded.
    let memos = stage.store.memos(job.id(), None, 0, 99).await.unwrap();
    assert_eq!(memos.iter().map(|memo| memo.number).collect::<Vec<_>>(), (0..8).collect::<Vec<_>>());
    assert_eq!(stage.diary.lines(), ["after 0", "after 1", "after 2", "after 2", "after 3"]);
}

#[qtask(generate_handler = save, echo = true)]
async fn saves_what_is_noted(ctx: TaskContext) -> Count {
    for _ in 0..50 {
        let random = ctx.random().await >> 8;
        yield_!(random.cast_signed());
    }
}

/// Writes down when calls begin and end.
#[derive(Debug)]
struct Overhears(Diary);

impl Edge for Overhears {
    async fn pass<T: Send + 'static>(&self, call: &'static str, carry_out: CarryOut<T>) -> Result<T> {
        self.0.note(format!("{call} begins"));
        let answer = carry_out().await;
        self.0.note(format!("{call} ends"));
        answer
    }
}

/// Else a crash in between would leave a step and not the random number that it was made of.
#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test(flavor = "multi_thread")]
async fn handlers_do_not_overtake_what_the_body_noted_before() {
    make_tables();
    let calls = Diary::default();
    let edge = Overhears(calls.clone());
    let before = |inner| Arc::new(Behind::new(edge, inner, &Ledger::default())) as Arc<dyn Store>;
    let stage = Stage::behind(Place::postgres(), before).await;
    let job = stage.app.enqueue(saves_what_is_noted()).await.unwrap();
    stage.work().await;
    assert_eq!(job.result().await.unwrap(), 50);
    let lines = calls.lines().into_iter().filter(|line| line.starts_with("record") || line.starts_with("transact"));
    let lines: Vec<_> = lines.collect();
    assert!(lines.iter().filter(|line| *line == "transact begins").count() > 10, "{lines:?}");
    assert!(!lines.windows(2).any(|pair| pair == ["record begins", "transact begins"]), "{lines:?}");
}

async fn waits_in_a_transaction(tx: &mut Transaction<'_>, value: i64, ctx: TaskContext) -> anyhow::Result<u64> {
    insert(tx, value, &ctx).await?;
    match value {
        0 => Ok(ctx.random().await),
        1 => Ok(ctx.enqueue(called(1)).await.map(|_| 0)?),
        2 => Ok(ctx.once("look", || async { 0 }).await),
        _ => Ok(ctx.random_blocking()),
    }
}

#[qtask(generate_handler = waits_in_a_transaction, retry = 0)]
async fn asks_for_the_store(value: i64) -> Count {
    yield_!(value);
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test(flavor = "multi_thread")]
async fn a_handler_in_a_transaction_cannot_wait_for_the_store() {
    let stage = stage().await;
    let calls = (0..4).map(asks_for_the_store);
    let jobs = stage.app.enqueue_all(calls).await.unwrap();
    stage.work().await;
    for job in jobs {
        let error = job.result().await.unwrap_err().to_string();
        let said = "is dead: a handler in a transaction cannot wait for the store, which waits for the handler: enqueue \
                    with `app.enqueue_in(tx, ..)`, and do the rest in the body";
        assert!(error.ends_with(said), "{error}");
        assert_eq!(saved_values(job.id()), [0; 0]);
    }
}

/// Fails once at value 3, as it is told.
async fn trips(tx: &mut Transaction<'_>, how: (i64, String), diary: State<Diary>) -> Result<i64, BoxError> {
    let (value, how) = how;
    insert(tx, value, &TaskContext::current()).await?;
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
        "pass over" => {
            let failed = tx.execute("INSERT INTO saved (value) VALUES (1 / 0)", &[]).await.unwrap_err();
            assert_eq!(failed.code(), Some(&SqlState::DIVISION_BY_ZERO));
            return Ok(value);
        }
        "defer" => {
            tx.execute("INSERT INTO saved (kind) VALUES (7)", &[]).await?;
            return Ok(value);
        }
        _ => unreachable!(),
    })
}

const PASSED_OVER: &str =
    "a statement of the handler failed, and it went on; what may fail belongs into a savepoint: `tx.savepoint(..)`";

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

/// Runs a task that fails at value 3 and goes on there; gives how its first attempt ended.
async fn goes_on<C: CallOptions>(call: C) -> Ending
where
    C::Task: qtasks::Task<Output = Vec<i64>>,
{
    let stage = stage().await;
    let job = stage.app.enqueue(call).await.unwrap();
    let worker = stage.app.worker().start().await.unwrap();
    assert_eq!(in_time(job.result()).await.unwrap(), [0, 1, 2, 3, 4, 5]);
    worker.shutdown().await.unwrap();
    assert_eq!(saved_values(job.id()), [0, 1, 2, 3, 4, 5]);
    let handled: Vec<_> = [0, 1, 2, 3, 3, 4, 5].iter().map(|value| format!("handle {value}")).collect();
    assert_eq!(stage.diary.lines(), handled, "none runs after one that failed, and none twice that did not");
    let status = job.status().await.unwrap();
    let mut endings: Vec<_> = status.attempts.into_iter().map(|attempt| attempt.ending).collect();
    assert_eq!(endings.pop(), Some(Ending::Done));
    assert_eq!((endings.len(), status.failures), (1, 0));
    endings.remove(0)
}

fn failed(error: &str) -> Ending {
    Ending::Failed { error: error.into() }
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test(flavor = "multi_thread")]
async fn an_error_undoes_its_value_only_and_the_next_attempt_goes_on_there() {
    assert_eq!(goes_on(stumbles("error".into())).await, failed("no room"));
    assert_eq!(goes_on(stumbles_called("error".into())).await, failed("no room"));
    assert_eq!(goes_on(stumbles_each("error".into())).await, failed("no room"));
    assert_eq!(goes_on(stumbles_called_each("error".into())).await, failed("no room"));
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test(flavor = "multi_thread")]
async fn a_panic_undoes_its_value_only_and_the_next_attempt_goes_on_there() {
    assert_eq!(goes_on(stumbles("panic".into())).await, failed("the task panicked: no room"));
    assert_eq!(goes_on(stumbles_called("panic".into())).await, failed("the task panicked: no room"));
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_failed_and_was_passed_over_is_an_error_of_its_handler() {
    assert_eq!(goes_on(stumbles("pass over".into())).await, failed(PASSED_OVER));
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test(flavor = "multi_thread")]
async fn a_constraint_that_is_checked_at_the_commit_is_an_error_of_the_handler_that_broke_it() {
    let Ending::Failed { error } = goes_on(stumbles("defer".into())).await else { panic!("it did not fail") };
    assert!(error.contains("violates foreign key constraint \"saved_kind_fkey\""), "{error}");
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test(flavor = "multi_thread")]
async fn a_task_error_is_obeyed_and_its_value_undone() {
    assert_eq!(goes_on(stumbles("snooze".into())).await, Ending::Snoozed);
    assert_eq!(goes_on(stumbles_leniently("snooze".into())).await, Ending::Snoozed);
    for (how, end) in [("cancel", "was cancelled"), ("discard", "is dead")] {
        let stage = stage().await;
        let job = stage.app.enqueue(stumbles(how.into())).await.unwrap();
        stage.work().await;
        let error = job.result().await.unwrap_err().to_string();
        assert_eq!(error, format!("job {} {end}: not wanted", job.id()));
        assert_eq!(saved_values(job.id()), [0, 1, 2]);
        assert_eq!(job.status().await.unwrap().steps, 3);
    }
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test(flavor = "multi_thread")]
async fn a_skipped_value_is_undone_and_recorded() {
    for how in ["error", "pass over", "defer"] {
        let stage = stage().await;
        let job = stage.app.enqueue(stumbles_leniently(how.into())).await.unwrap();
        stage.work().await;
        assert_eq!(job.result().await.unwrap(), [0, 1, 2, 4, 5]);
        assert_eq!(saved_values(job.id()), [0, 1, 2, 4, 5]);
        let third = job.stream_from(3).next().await.unwrap().unwrap_err();
        assert!(third.is_skipped() && third.seq() == Some(3), "{third:?}");
    }
}

/// Yields a value that its handler refuses, and then takes its time.
#[qtask(generate_handler = trips, retry = 0)]
async fn dawdles() -> Vec<i64> {
    yield_!((3, "error".to_owned()));
    std::future::pending::<()>().await;
}

/// Yields a value that its handler refuses, and comes to another end before that is known.
#[qtask(generate_handler = trips, retry = 0, checkpoint = "within 1s")]
fn fails_elsewhere() -> Result<Vec<i64>, String> {
    yield_!((3, "error".to_owned()));
    Err("an error of the body".to_owned())
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test(flavor = "multi_thread")]
async fn an_error_of_the_handler_comes_before_whatever_the_body_does() {
    for call in [0, 1] {
        let stage = stage().await;
        let worker = stage.app.worker().start().await.unwrap();
        let job = match call {
            0 => stage.app.enqueue(dawdles()).await.unwrap(),
            _ => stage.app.enqueue(fails_elsewhere()).await.unwrap(),
        };
        let error = in_time(job.result()).await.unwrap_err().to_string();
        assert!(error.ends_with("is dead: no room"), "{error}");
        worker.shutdown().await.unwrap();
    }
}

async fn ends_the_transaction(tx: &mut Transaction<'_>, (value, how): (i64, String)) -> Sql<i64> {
    save(tx, value).await?;
    if value == 2 {
        // Whatever comes of it.
        _ = tx.batch_execute(&how).await;
    }
    Ok(value)
}

#[qtask(generate_handler = ends_the_transaction, retry = 0)]
async fn oversteps(how: String) -> Vec<i64> {
    for value in 0..4 {
        yield_!((value, how.clone()));
    }
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_ends_the_transaction_fails_its_attempt_and_leaves_nothing_behind() {
    let stage = stage().await;
    for how in [
        "COMMIT",
        "ROLLBACK",
        "COMMIT; BEGIN",
        "ROLLBACK; BEGIN",
        "COMMIT AND CHAIN",
        "RELEASE SAVEPOINT qtasks_handler",
    ] {
        let job = stage.app.enqueue(oversteps(how.into())).await.unwrap();
        let other = stage.app.enqueue(polled(50)).await.unwrap();
        stage.work().await;
        let error = job.result().await.unwrap_err().to_string();
        let text = "a handler ended the transaction that it was given; it must neither commit nor roll back";
        assert_eq!(error, format!("job {} is dead: {text}", job.id()), "{how}");
        let steps = job.status().await.unwrap().steps.cast_signed();
        assert_eq!(saved_values(job.id()), (0..steps).collect::<Vec<_>>(), "{how}");
        assert_eq!(saved_values(other.id()), (0..50).collect::<Vec<_>>(), "{how}");
    }
}

#[qtask]
async fn greets(diary: State<Diary>, name: i64) {
    diary.note(format!("hello {name}"));
}

/// The application of the test in which guests are invited.
static HOST: OnceLock<QueueTasks> = OnceLock::new();

async fn invites(tx: &mut Transaction<'_>, guest: i64) -> Result<(), BoxError> {
    HOST.wait().enqueue_in(&mut *tx, greets(guest)).await?;
    if guest == 2 { Err("is not to come".into()) } else { Ok(()) }
}

#[qtask(generate_handler = invites, on_error = "skip")]
async fn party() -> Count {
    for guest in 1..=3 {
        yield_!(guest);
    }
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test(flavor = "multi_thread")]
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

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test(flavor = "multi_thread")]
async fn running_here_and_now_commits_each_value_and_stores_no_job() {
    let stage = stage().await;
    let diary = &stage.diary;
    assert_eq!(stage.app.run(polled_more(3)).await.unwrap(), [0, 10, 20]);
    assert_eq!(stage.app.run(called(3)).await.unwrap(), [0, 10, 20]);
    let error = stage.app.run(stumbles("error".into())).await.unwrap_err().to_string();
    assert_eq!(error, "the task `stumbles` failed: no room");
    let run = stage.app.run(stumbles_leniently("error".into())).await.unwrap();
    assert_eq!(run, [0, 1, 2, 3, 4, 5], "the handler has tripped already");
    assert_eq!(stage.app.jobs(Default::default(), None, 10).await.unwrap(), []);
    assert_eq!(diary.lines().len(), 3 + 4 + 6);
}

#[tokio::test]
async fn a_store_without_transactions_is_refused() {
    let app = QueueTasks::open("memory:").await.unwrap();
    for error in [app.worker().start().await.unwrap_err(), app.run(called(1)).await.unwrap_err()] {
        assert!(matches!(error, Error::NoTransactions { kind: "postgres", .. }), "{error:?}");
    }
    let folder = tempfile::tempdir().unwrap();
    let app = QueueTasks::open(&format!("sqlite:{}", folder.path().join("jobs.db").display())).await.unwrap();
    assert_eq!(
        app.run(called(1)).await.unwrap_err().to_string(),
        "the task `called` has a handler for transactions of postgres, which this store does not have; open one that does \
         (`postgres:..`), or let the handler take the value alone"
    );
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test(flavor = "multi_thread")]
async fn through_a_pooler_no_handler_runs() {
    make_tables();
    let app = QueueTasks::open(&format!("{}&pooler=transaction", url())).await.unwrap();
    assert_eq!(
        whole(&app.run(called(1)).await.unwrap_err()),
        "the task `called` failed: a handler in a transaction needs a connection of its own to Postgres, and these go \
         through a pooler (`pooler=transaction`); use a URL that leads past it"
    );
}

async fn asks_how_it_runs(tx: &mut Transaction<'_>, setting: String) -> Sql<String> {
    tx.query_one("SELECT current_setting($1)", &[&setting]).await?.try_get(0)
}

#[qtask(generate_handler = asks_how_it_runs)]
async fn settings() -> Vec<String> {
    for setting in ["transaction_isolation", "enable_seqscan", "plan_cache_mode"] {
        yield_!(setting.to_owned());
    }
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test(flavor = "multi_thread")]
async fn handlers_read_what_is_committed_and_are_planned_as_any_statement() {
    let settings = stage().await.app.run(settings()).await.unwrap();
    assert_eq!(settings, ["read committed", "on", "auto"]);
}

/// Sets things for itself that its step could not be recorded with.
async fn sets_things(tx: &mut Transaction<'_>, value: i64) -> Sql<i64> {
    save(tx, value).await?;
    tx.batch_execute("SET LOCAL ROLE pg_monitor; SET LOCAL search_path = nowhere").await?;
    Ok(value)
}

#[qtask(generate_handler = sets_things, checkpoint = "each")]
async fn sets_things_for_itself() -> Vec<i64> {
    for value in 0..3 {
        yield_!(value);
    }
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test(flavor = "multi_thread")]
async fn what_a_handler_sets_for_itself_does_not_keep_its_step_from_being_recorded() {
    let stage = stage().await;
    let job = stage.app.enqueue(sets_things_for_itself()).await.unwrap();
    stage.work().await;
    assert_eq!(job.result().await.unwrap(), [0, 1, 2]);
    assert_eq!(saved_values(job.id()), [0, 1, 2]);
    assert_eq!(job.status().await.unwrap().attempt, 1);
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

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test(flavor = "multi_thread")]
async fn what_was_saved_before_an_answer_was_lost_is_not_saved_again() {
    make_tables();
    let deaf = |inner| Arc::new(Behind::new(Deaf::default(), inner, &Ledger::default())) as Arc<dyn Store>;
    let stage = Stage::behind(Place::postgres(), deaf).await;
    let worker = stage.app.worker().start().await.unwrap();
    let (ahead, each) =
        (stage.app.enqueue(polled_more(50)).await.unwrap(), stage.app.enqueue(called_each(5)).await.unwrap());
    for job in [ahead, each] {
        let values = in_time(job.result()).await.unwrap().len() as i64;
        assert_eq!(saved_values(job.id()), (0..values).collect::<Vec<_>>());
        assert_eq!(job.status().await.unwrap().attempt, 1);
    }
    worker.shutdown().await.unwrap();
    assert_eq!(stage.diary.lines().len(), 50);
}

/// At value 1, whose commit waits for a standby.
async fn saves_with_a_copy(tx: &mut Transaction<'_>, value: i64, ctx: TaskContext) -> Sql<()> {
    if value == 1 {
        tx.execute("SET LOCAL synchronous_commit = on", &[]).await?;
    }
    insert(tx, value, &ctx).await
}

#[qtask(generate_handler = saves_with_a_copy, checkpoint = "each")]
async fn has_a_copy() -> Count {
    for value in 0..3 {
        yield_!(value);
    }
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_takes_longer_than_anybody_waits_is_waited_for_at_last() {
    let server = Postgres::start(&["-c", "fsync=off", "-c", "synchronous_commit=local"]);
    server.tell(TABLES).unwrap();
    let stage = Stage::open(Place::at(format!("{}&timeout=1", server.url()))).await;
    let worker = stage.app.worker().start().await.unwrap();
    server.tell("ALTER SYSTEM SET synchronous_standby_names = 'nobody'").unwrap();
    server.tell("SELECT pg_reload_conf()").unwrap();
    let job = stage.app.enqueue(has_a_copy()).await.unwrap();
    // The commit waits, and somebody waits for it who asks what came of it.
    let waits = async |what| {
        let asked = format!("SELECT count(*) > 0 FROM pg_stat_activity WHERE {what}");
        eventually(what, async || server.tell(&asked).unwrap() == "t").await;
    };
    waits("wait_event = 'SyncRep'").await;
    waits("wait_event_type = 'Lock' AND query LIKE '%FOR UPDATE'").await;
    server.tell("ALTER SYSTEM RESET synchronous_standby_names").unwrap();
    server.tell("SELECT pg_reload_conf()").unwrap();
    assert_eq!(in_time(job.result()).await.unwrap(), 3);
    assert_eq!(job.status().await.unwrap().attempt, 1, "what was committed after all has cost nothing");
    worker.shutdown().await.unwrap();
    let saved = server.tell("SELECT string_agg(value::text, ' ' ORDER BY number) FROM saved").unwrap();
    assert_eq!(saved, "0 1 2");
}

/// Loses its connection once at value 3, before or after it has written.
async fn loses_its_connection(tx: &mut Transaction<'_>, (value, early): (i64, bool), diary: State<Diary>) -> Sql<i64> {
    const END: &str = "SELECT pg_terminate_backend(pg_backend_pid())";
    diary.note(format!("handle {value}"));
    let once = value == 3 && diary.count("handle 3") == 1;
    if once && early {
        tx.execute(END, &[]).await?;
    }
    save(tx, value).await?;
    if once {
        _ = tx.execute(END, &[]).await;
    }
    Ok(value)
}

macro_rules! is_cut_off {
    ($($task:ident: $($option:ident = $text:literal),*;)*) => {
        $(#[qtask(generate_handler = loses_its_connection $(, $option = $text)*)]
        async fn $task(early: bool) -> Count {
            for value in 0..6 {
                yield_!((value, early));
            }
        })*
    };
}

is_cut_off! {
    is_cut_off: on_error = "fail";
    is_cut_off_leniently: on_error = "skip";
    is_cut_off_each: checkpoint = "each";
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_committed_when_the_connection_was_lost_is_handled_again_at_no_cost() {
    let stage = stage().await;
    let worker = stage.app.worker().start().await.unwrap();
    for early in [true, false] {
        for kind in 0..3 {
            stage.diary.clear();
            let job = match kind {
                0 => stage.app.enqueue(is_cut_off(early)).await.unwrap(),
                1 => stage.app.enqueue(is_cut_off_leniently(early)).await.unwrap(),
                _ => stage.app.enqueue(is_cut_off_each(early)).await.unwrap(),
            };
            assert_eq!(in_time(job.result()).await.unwrap(), 6);
            assert_eq!(saved_values(job.id()), [0, 1, 2, 3, 4, 5]);
            let status = job.status().await.unwrap();
            let endings: Vec<_> = status.attempts.into_iter().map(|attempt| attempt.ending).collect();
            assert_eq!(endings, [Ending::Released, Ending::Done]);
            if kind == 2 {
                let handled: Vec<_> = [0, 1, 2, 3, 3, 4, 5].iter().map(|value| format!("handle {value}")).collect();
                assert_eq!(stage.diary.lines(), handled, "what was committed is not handled again");
            }
        }
    }
    worker.shutdown().await.unwrap();
}

/// At the first attempt, has somebody else take its job away while it runs.
async fn is_robbed(tx: &mut Transaction<'_>, value: i64, diary: State<Diary>, ctx: TaskContext) -> Sql<u32> {
    insert(tx, value, &ctx).await?;
    if ctx.attempt() == 1 && value == 1 {
        let now = Timestamp::now();
        let theft = Settlement {
            hold: Hold::Seen { job: ctx.job_id(), state: StateKind::Running, attempt: 1 },
            outcome: Outcome { next: job::NextState::Waiting { due: now }, failures: 0, suspect: None },
            steps: None,
            attempt: None,
            now,
        };
        let taken = ROBBED.wait().settle([theft].into()).await.unwrap();
        diary.note(format!("taken: {}", taken == [Written::Yes]));
    }
    Ok(ctx.attempt())
}

/// The store of the test in which a job is taken away.
static ROBBED: OnceLock<Arc<dyn Store>> = OnceLock::new();

#[qtask(generate_handler = is_robbed)]
async fn loses_its_lease() -> Vec<u32> {
    for value in 0..3 {
        yield_!(value);
    }
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_whose_lease_passed_on_commits_nothing_and_holds_nobody_up() {
    let stage = stage().await;
    assert!(ROBBED.set(stage.store.clone()).is_ok());
    let worker = stage.app.worker().start().await.unwrap();
    let job = stage.app.enqueue(loses_its_lease()).await.unwrap();
    let attempts = in_time(job.result()).await.unwrap();
    worker.shutdown().await.unwrap();
    assert_eq!(stage.diary.lines(), ["taken: true"]);
    assert_eq!(saved_values(job.id()), [0, 1, 2]);
    assert_eq!(attempts[1..], [2, 2], "{attempts:?}");
}

/// Never ends at value 2.
async fn never_ends(tx: &mut Transaction<'_>, value: i64, diary: State<Diary>) -> Sql<i64> {
    save(tx, value).await?;
    if value == 2 && diary.count("let go") == 0 {
        diary.note("stuck");
        std::future::pending::<()>().await;
    }
    Ok(value)
}

macro_rules! gets_stuck {
    ($($task:ident: [$($kind:tt)*] $($option:ident = $text:literal),*;)*) => {
        $(#[qtask(generate_handler = never_ends, retry = 0 $(, $option = $text)*)]
        $($kind)* $task() -> Vec<i64> {
            for value in 0..4 {
                yield_!(value);
            }
        })*
    };
}

gets_stuck! {
    gets_stuck: [async fn] max_time = "2s";
    gets_stuck_called: [fn] max_time = "2s";
    gets_stuck_each: [async fn] max_time = "2s", checkpoint = "each";
    gets_stuck_for_ever: [async fn] queue = "default";
    gets_stuck_for_ever_each: [async fn] checkpoint = "each";
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_never_ends_is_stopped_when_the_time_of_its_attempt_is_up() {
    let stage = stage().await;
    let jobs = [
        stage.app.enqueue(gets_stuck()).await.unwrap(),
        stage.app.enqueue(gets_stuck_called()).await.unwrap(),
        stage.app.enqueue(gets_stuck_each()).await.unwrap(),
    ];
    let worker = stage.app.worker().start().await.unwrap();
    for job in jobs {
        let error = in_time(job.result()).await.unwrap_err().to_string();
        assert!(error.ends_with("is dead: the attempt took longer than its max_time of 2s"), "{error}");
        assert_eq!(saved_values(job.id()), [0, 1], "what was handled before is durable");
        assert_eq!(job.status().await.unwrap().steps, 2);
    }
    worker.shutdown().await.unwrap();
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_never_ends_does_not_hold_up_the_end_of_its_worker() {
    let stage = stage().await;
    let jobs = [
        stage.app.enqueue(gets_stuck_for_ever()).await.unwrap(),
        stage.app.enqueue(gets_stuck_for_ever_each()).await.unwrap(),
    ];
    let worker = stage.app.worker().grace(Duration::from_millis(10)).start().await.unwrap();
    stage.diary.until_times("stuck", 2).await;
    in_time(worker.shutdown()).await.unwrap();
    for job in &jobs {
        let status = job.status().await.unwrap();
        assert_eq!((status.state.name(), status.failures, status.steps), ("waiting", 0, 2));
        assert_eq!(saved_values(job.id()), [0, 1]);
    }
    stage.diary.note("let go");
    stage.work().await;
    for job in &jobs {
        assert_eq!(job.result().await.unwrap(), [0, 1, 2, 3]);
        assert_eq!(saved_values(job.id()), [0, 1, 2, 3]);
    }
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_cancelled_leaves_nothing_of_the_handler_that_runs() {
    let stage = stage().await;
    let worker = stage.app.worker().start().await.unwrap();
    let job = stage.app.enqueue(gets_stuck_for_ever_each()).await.unwrap();
    stage.diary.until("stuck").await;
    job.cancel().await.unwrap();
    let error = in_time(job.result()).await.unwrap_err().to_string();
    assert!(error.contains("was cancelled"), "{error}");
    in_time(worker.shutdown()).await.unwrap();
    assert_eq!(saved_values(job.id()), [0, 1]);
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_takes_longer_than_the_store_gives_it_fails() {
    make_tables();
    let diary = Diary::default();
    let app = QueueTasks::builder().store(format!("{}&timeout=1", url())).state(diary.clone()).build().await.unwrap();
    let worker = app.worker().start().await.unwrap();
    let job = app.enqueue(gets_stuck_for_ever()).await.unwrap();
    let error = in_time(job.result()).await.unwrap_err().to_string();
    assert!(
        error.ends_with("is dead: a handler in a transaction took longer than 1 s, which is the store's `timeout`"),
        "{error}"
    );
    assert_eq!(saved_values(job.id()), [0, 1]);
    worker.shutdown().await.unwrap();
}

/// Goes on when it is told that the other has come as far.
async fn meets_the_other(tx: &mut Transaction<'_>, (who, whom): (i64, i64), diary: State<Diary>) -> Sql<i64> {
    save(tx, who).await?;
    diary.note(format!("hello {who}"));
    diary.told(&format!("hello {whom}")).await;
    Ok(who)
}

#[qtask(generate_handler = meets_the_other)]
async fn meets(who: i64, whom: i64) -> Count {
    yield_!((who, whom));
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test(flavor = "multi_thread")]
async fn handlers_of_two_jobs_do_not_wait_for_each_other() {
    let stage = stage().await;
    let worker = stage.app.worker().start().await.unwrap();
    let first = stage.app.enqueue(meets(1, 2)).await.unwrap();
    stage.diary.until("hello 1").await;
    let second = stage.app.enqueue(meets(2, 1)).await.unwrap();
    for job in [first, second] {
        assert_eq!(in_time(job.result()).await.unwrap(), 1);
        assert_eq!(job.status().await.unwrap().attempt, 1);
    }
    worker.shutdown().await.unwrap();
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test(flavor = "multi_thread")]
async fn nothing_else_waits_for_a_connection_that_a_handler_has() {
    make_tables();
    let diary = Diary::default();
    let url = format!("{}&connections=1", url());
    let app = QueueTasks::builder().store(url).state(diary.clone()).build().await.unwrap();
    let worker = app.worker().start().await.unwrap();
    let waiting = app.enqueue(meets(1, 7)).await.unwrap();
    diary.until("hello 1").await;
    let plain = app.enqueue(greets(7)).await.unwrap();
    in_time(plain.result()).await.unwrap();
    assert_eq!(in_time(waiting.result()).await.unwrap(), 1);
    assert_eq!(waiting.status().await.unwrap().attempt, 1);
    worker.shutdown().await.unwrap();
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test(flavor = "multi_thread")]
async fn many_jobs_share_a_single_connection_for_handlers() {
    make_tables();
    let url = format!("{}&connections=1", url());
    let app = QueueTasks::builder().store(url).state(Diary::default()).build().await.unwrap();
    let worker = app.worker().concurrency(20).start().await.unwrap();
    let jobs = app.enqueue_all((0..20).map(|_| polled_each(20))).await.unwrap();
    for job in jobs {
        assert_eq!(in_time(job.result()).await.unwrap().len(), 20);
        assert_eq!(saved_values(job.id()), (0..20).collect::<Vec<_>>());
    }
    worker.shutdown().await.unwrap();
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test(flavor = "multi_thread")]
async fn what_is_saved_is_there_once_however_the_server_is_killed() {
    let server = Postgres::start(&[]);
    tell(&server.database(), TABLES).unwrap();
    let (diary, url) = (Diary::default(), format!("{}?timeout=2", server.database()));
    let app = QueueTasks::builder().store(url).state(diary.clone()).build().await.unwrap();
    let worker = app.worker().concurrency(8).start().await.unwrap();
    let jobs = app.enqueue_all((0..8).map(|_| polled_more(300))).await.unwrap();
    for at in [150, 600] {
        eventually("work goes on", async || diary.lines().len() > at).await;
        server.cut_all();
    }
    eventually("work goes on", async || diary.lines().len() > 1_200).await;
    server.kill();
    server.restart();
    let results = Mutex::new(Vec::new());
    for job in &jobs {
        eventually("the job is done", async || match job.result().await {
            Ok(result) => {
                results.lock().unwrap().push(result);
                true
            }
            Err(error) if error.is_store_trouble() => false,
            Err(error) => panic!("{error:?}"),
        })
        .await;
    }
    worker.shutdown().await.unwrap();
    let expected: Vec<_> = (0..300).map(|value| value * 10).collect();
    assert!(results.into_inner().unwrap().iter().all(|result| *result == expected));
    let counts = "SELECT count(*), count(DISTINCT (job, value)), count(DISTINCT job) FROM saved";
    assert_eq!(server.tell(counts).unwrap(), "2400|2400|8");
}

/// Unwinds when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "dropped half way");
    }
}

async fn is_stopped_with_a_bomb(tx: &mut Transaction<'_>, value: i64) -> Sql<i64> {
    let _bomb = Bomb;
    insert(tx, value, &TaskContext::current()).await?;
    std::future::pending().await
}

#[qtask(generate_handler = is_stopped_with_a_bomb, retry = 0, max_time = "1s")]
async fn holds_a_bomb() -> Count {
    yield_!(1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_unwinds_when_it_is_stopped_holds_up_no_worker() {
    let stage = stage().await;
    let worker = stage.app.worker().start().await.unwrap();
    let job = stage.app.enqueue(holds_a_bomb()).await.unwrap();
    let error = in_time(job.result()).await.unwrap_err().to_string();
    assert!(error.ends_with("is dead: the attempt took longer than its max_time of 1s"), "{error}");
    assert_eq!((saved_values(job.id()), job.status().await.unwrap().failures), (vec![], 1));
    let job = stage.app.enqueue(polled(3)).await.unwrap();
    assert_eq!(in_time(job.result()).await.unwrap(), [0, 10, 20]);
    in_time(worker.shutdown()).await.unwrap();
}

async fn saves_a_name(tx: &mut Transaction<'_>, value: i64, ctx: TaskContext) -> Sql<String> {
    insert(tx, value, &ctx).await?;
    Ok(if value == 2 { "poison".to_owned() } else { value.to_string() })
}

#[qtask(generate_handler = saves_a_name, retry = 1, backoff = "1ms..1ms")]
async fn names_them() -> Vec<String> {
    for value in 0..4 {
        yield_!(value);
    }
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test(flavor = "multi_thread")]
async fn a_reply_that_the_store_refuses_fails_the_job_and_no_other() {
    let stage = stage().await;
    let schema = stage.place.url.split_once("schema=").unwrap().1;
    let check = format!("ALTER TABLE {schema}.steps ADD CONSTRAINT clean CHECK (reply NOT LIKE '%poison%')");
    shared().tell(&check).unwrap();
    let job = stage.app.enqueue(names_them()).await.unwrap();
    let others = stage.app.enqueue_all((0..20).map(|_| sums_replies(5))).await.unwrap();
    stage.work().await;
    for other in others {
        other.result().await.unwrap();
    }
    let error = job.result().await.unwrap_err().to_string();
    let said = "the store refuses to run handlers in a transaction: new row for relation \"steps\" violates check \
                constraint \"clean\" (SQLSTATE 23514)";
    assert!(error.ends_with(&format!("is dead: {said}")), "{error}");
    let status = job.status().await.unwrap();
    assert!(status.attempts.iter().all(|attempt| attempt.ending == Ending::Failed { error: said.into() }));
    assert!(status.attempt <= 3 && status.failures == 2, "{status:?}");
    assert_eq!(saved_values(job.id()), (0..status.steps as i64).collect::<Vec<_>>());
}
