//! Statements of handlers: those that fail, that end the transaction, that set something, and what waits for the store.

use qtasks::{
    BoxError, Count, Result,
    job::Ending,
    postgres::{Transaction, tokio_postgres::error::SqlState},
    prelude::*,
};
use qtasks_tests::{Diary, servers::postgres::url, whole};

use crate::{
    Sql, insert, make_shared_tables,
    rules::{
        failing::{failed, goes_on, skips_one},
        saving::{called, cannot_wait, polled, save},
    },
    saved_values, stage,
};

async fn waits_in_a_transaction(tx: &mut Transaction<'_>, value: i64, ctx: TaskContext) -> anyhow::Result<u64> {
    insert(tx, value, &ctx).await?;
    match value {
        0 => Ok(ctx.random().await),
        1 => Ok(ctx.enqueue(called(1)).await.map(|_| 0)?),
        _ => Ok(ctx.once("look", || async { 0 }).await),
    }
}

#[qtask(generate_handler = waits_in_a_transaction, retry = 0)]
async fn asks_for_the_store(value: i64) -> Count {
    yield_!(value);
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test(flavor = "multi_thread")]
async fn a_handler_in_a_transaction_cannot_await_the_store() {
    let stage = stage().await;
    for value in 0..3 {
        cannot_wait(&stage, asks_for_the_store(value)).await;
    }
}

/// At value 3, the first time, has a statement fail and goes on, or writes what the commit refuses.
async fn trips_in_sql(tx: &mut Transaction<'_>, how: (i64, String), diary: State<Diary>) -> Result<i64, BoxError> {
    let (value, how) = how;
    insert(tx, value, &TaskContext::current()).await?;
    diary.note(format!("handle {value}"));
    if value != 3 || diary.count("handle 3") > 1 {
        return Ok(value);
    }
    match how.as_str() {
        "pass over" => {
            let failed = tx.execute("INSERT INTO saved (value) VALUES (1 / 0)", &[]).await.unwrap_err();
            assert_eq!(failed.code(), Some(&SqlState::DIVISION_BY_ZERO));
        }
        "defer" => _ = tx.execute("INSERT INTO saved (kind) VALUES (7)", &[]).await?,
        _ => unreachable!(),
    }
    Ok(value)
}

const PASSED_OVER: &str =
    "a statement of the handler failed, and it went on; what may fail belongs into a savepoint: `tx.savepoint(..)`";

#[qtask(generate_handler = trips_in_sql, backoff = "1ms..1ms")]
async fn stumbles_in_sql(how: String) -> Vec<i64> {
    for value in 0..6 {
        yield_!((value, how.clone()));
    }
}

#[qtask(generate_handler = trips_in_sql, on_error = "skip")]
async fn stumbles_in_sql_leniently(how: String) -> Vec<i64> {
    for value in 0..6 {
        yield_!((value, how.clone()));
    }
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_failed_and_was_passed_over_is_an_error_of_its_handler() {
    assert_eq!(goes_on(&stage().await, stumbles_in_sql("pass over".into())).await, failed(PASSED_OVER));
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test(flavor = "multi_thread")]
async fn a_constraint_that_is_checked_at_the_commit_is_an_error_of_the_handler_that_broke_it() {
    let ending = goes_on(&stage().await, stumbles_in_sql("defer".into())).await;
    let Ending::Failed { error } = ending else { panic!("it did not fail") };
    assert!(error.contains("violates foreign key constraint \"saved_kind_fkey\""), "{error}");
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test(flavor = "multi_thread")]
async fn a_value_whose_statement_failed_is_skipped_where_values_may_be() {
    let stage = stage().await;
    for how in ["pass over", "defer"] {
        skips_one(&stage, stumbles_in_sql_leniently(how.into())).await;
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

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test(flavor = "multi_thread")]
async fn through_a_pooler_no_handler_runs() {
    make_shared_tables();
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
