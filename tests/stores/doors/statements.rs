//! A call as SQL, carried out by a driver that qtasks knows nothing of.

use std::time::Duration;

use jiff::Timestamp;
use qtasks::{
    Error,
    job::Job,
    postgres::tokio_postgres::NoTls,
    prelude::*,
    sqlite::rusqlite::Connection,
    store::{Budget, Find},
};
use qtasks_tests::{Place, Stage};

use crate::welcome;

/// The calls, each with what [`QueueTasks::enqueue`] makes of it.
fn calls() -> Vec<qtasks::Call<welcome>> {
    let ada = || welcome("Ada \"\u{1f600}\" Grüße".into()).into_call();
    vec![
        ada(),
        ada().priority(-9).queue("other"),
        ada().max_time(Duration::from_nanos(1_500_001)),
        ada().max_time(Duration::ZERO),
        ada().expires(Duration::from_nanos(1_500_001)),
        ada().expires(Duration::ZERO),
        ada().at("2030-01-02T03:04:05.678999Z".parse().unwrap()),
        ada().at(Timestamp::MAX),
        ada().at(Timestamp::MIN),
        ada().delay(Duration::from_secs(86_400 * 365)),
        ada().delay(Duration::MAX),
        ada().id(JobId::new()),
    ]
}

/// What of a job does not depend on when it was made.
fn fixed(job: &Job) -> (String, String, i16, [Option<Duration>; 2], String) {
    (
        job.call.queue.clone(),
        job.call.task.clone(),
        job.call.priority,
        [job.call.max_time, job.call.expires],
        job.call.args.decode::<serde_json::Value>().unwrap().to_string(),
    )
}

async fn are_the_same(stage: &Stage, carry_out: impl AsyncFn(&qtasks::Statement)) {
    for (call, again) in calls().into_iter().zip(calls()) {
        let statement = stage.app.statement(call).unwrap();
        assert_eq!(stage.store.job(statement.id).await.unwrap(), None, "nothing is done");
        for _ in 0..2 {
            carry_out(&statement).await;
        }
        let by_sql = stage.store.job(statement.id).await.unwrap().expect("it is there");
        let usual = stage.app.enqueue(again.id(JobId::new())).await.unwrap().id();
        let usual = stage.store.job(usual).await.unwrap().unwrap();
        assert_eq!(fixed(&by_sql), fixed(&usual));
        let wait = |job: &Job| {
            let qtasks::job::State::Waiting { due, .. } = job.standing.state else { panic!("{job:?}") };
            due.duration_since(job.call.enqueued).max(jiff::SignedDuration::ZERO)
        };
        let apart = (wait(&by_sql) - wait(&usual)).abs();
        assert!(apart < jiff::SignedDuration::from_secs(60), "{by_sql:?}, not {usual:?}");
    }
    assert_eq!(
        stage.app.find(Find::default().oldest_first()).budget(Budget::jobs(99)).await.unwrap().jobs.len(),
        2 * calls().len()
    );
}

#[tokio::test]
async fn a_statement_on_sqlite_makes_the_job_of_its_call() {
    let stage = Stage::open(Place::sqlite()).await;
    let connection = Connection::open(stage.file()).unwrap();
    are_the_same(&stage, async |statement| {
        connection.execute(&statement.sql, statement.parameters()).unwrap();
    })
    .await;
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test]
async fn a_statement_on_postgres_makes_the_job_of_its_call_in_the_schema_of_the_store() {
    let stage = Stage::open(Place::postgres()).await;
    let (url, _) = stage.place.url.split_once('?').unwrap();
    let config: qtasks::postgres::tokio_postgres::Config = url.parse().unwrap();
    let (client, connection) = config.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    are_the_same(&stage, async |statement| {
        let [id, task, args, options] = statement.parameters();
        client.execute(&*statement.sql, &[&id, &task, &args, &options]).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_statement_is_checked_as_a_call_is() {
    let stage = Stage::open(Place::sqlite()).await;
    let error = stage.app.statement(welcome("Ada".into()).queue("a queue")).unwrap_err();
    assert!(matches!(error, Error::OverLimit(_)), "{error}");
    let error = stage.app.statement(welcome("x".repeat(1 << 20))).unwrap_err();
    assert!(matches!(error, Error::OverLimit(_)), "{error}");
    let app = QueueTasks::open("memory:").await.unwrap();
    let error = app.statement(welcome("Ada".into())).unwrap_err();
    assert!(matches!(error, Error::Unsupported(_)), "another store takes it: {error}");
    assert_eq!(
        error.to_string(),
        "only a store on SQLite or Postgres takes jobs by SQL; open one, or enqueue with `app.enqueue(..)`"
    );
}
