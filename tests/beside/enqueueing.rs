//! Jobs that are enqueued in transactions of sqlx.

use qtasks::{Statement, prelude::*};
use sqlx::{Executor, PgPool, Postgres, Sqlite, SqlitePool};

use crate::safe;

#[qtask]
async fn welcome(user: String) -> String {
    format!("welcome, {user}")
}

async fn on_sqlite(executor: impl Executor<'_, Database = Sqlite>, statement: &Statement) {
    let values = statement.parameters();
    values
        .into_iter()
        .fold(sqlx::query(safe(&statement.sql)), |query, value| query.bind(value))
        .execute(executor)
        .await
        .unwrap();
}

async fn on_postgres(executor: impl Executor<'_, Database = Postgres>, statement: &Statement) {
    let values = statement.parameters();
    values
        .into_iter()
        .fold(sqlx::query(safe(&statement.sql)), |query, value| query.bind(value))
        .execute(executor)
        .await
        .unwrap();
}

/// The job that was committed runs at a worker which waits already, and the other one is not there.
async fn only_the_committed_one_runs(app: &QueueTasks, rolled_back: Statement, committed: Statement) {
    let job = app.job::<welcome>(committed.id).await.unwrap();
    assert_eq!(job.result().await.unwrap(), "welcome, Grace");
    assert!(matches!(app.any_job(rolled_back.id).await, Err(qtasks::Error::NoSuchJob(_))));
}

#[tokio::test]
async fn a_job_in_a_sqlite_file_exists_exactly_if_the_transaction_commits() {
    let folder = tempfile::tempdir().unwrap();
    // The same URL for both.
    let url = format!("sqlite://{}?mode=rwc", folder.path().join("app.db").display());
    let app = QueueTasks::open(&url).await.unwrap();
    let pool = SqlitePool::connect(&url).await.unwrap();
    sqlx::query("CREATE TABLE users (name TEXT)").execute(&pool).await.unwrap();
    let worker = app.worker().start().await.unwrap();
    let [ada, grace] = ["Ada", "Grace"].map(|user| app.statement(welcome(user.into())).unwrap());
    for (statement, commits) in [(&ada, false), (&grace, true)] {
        let mut tx = pool.begin().await.unwrap();
        sqlx::query("INSERT INTO users VALUES (?1)").bind(statement.id.to_string()).execute(&mut *tx).await.unwrap();
        on_sqlite(&mut *tx, statement).await;
        if commits { tx.commit().await.unwrap() } else { tx.rollback().await.unwrap() }
    }
    // Another time, as after a lost answer.
    on_sqlite(&pool, &grace).await;
    only_the_committed_one_runs(&app, ada, grace).await;
    worker.shutdown().await.unwrap();
}

#[tokio::test]
async fn what_sqlite_refuses_is_an_error_of_sqlx() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("app.db").display());
    let _app = QueueTasks::open(&url).await.unwrap();
    let pool = SqlitePool::connect(&url).await.unwrap();
    let call = "INSERT INTO qtasks_enqueue (task, args) VALUES ('welcome', '[1]')";
    let error = sqlx::query(call).execute(&pool).await.unwrap_err().to_string();
    assert!(error.ends_with("the arguments are an object by parameter name"), "{error}");
    let (id,): (String,) = sqlx::query_as("SELECT id FROM qtasks_new_id").fetch_one(&pool).await.unwrap();
    id.parse::<JobId>().unwrap();
}

#[tokio::test]
async fn a_job_in_postgres_exists_exactly_if_the_transaction_commits() {
    let Ok(url) = std::env::var("QTASKS_POSTGRES") else {
        assert!(std::env::var_os("QTASKS_REQUIRE_SERVERS").is_none(), "`QTASKS_POSTGRES` is the URL of a database");
        return;
    };
    let app = QueueTasks::open(&url).await.unwrap();
    let pool = PgPool::connect(&url).await.unwrap();
    let worker = app.worker().start().await.unwrap();
    let [ada, grace] = ["Ada", "Grace"].map(|user| app.statement(welcome(user.into())).unwrap());
    for (statement, commits) in [(&ada, false), (&grace, true)] {
        let mut tx = pool.begin().await.unwrap();
        on_postgres(&mut *tx, statement).await;
        if commits { tx.commit().await.unwrap() } else { tx.rollback().await.unwrap() }
    }
    on_postgres(&pool, &grace).await;
    only_the_committed_one_runs(&app, ada, grace).await;
    worker.shutdown().await.unwrap();
}
