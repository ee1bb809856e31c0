//! A transaction on another file or database than the application's is refused: its job would be found by no worker here.

use qtasks::{
    Error, postgres,
    prelude::*,
    sqlite::rusqlite::Connection,
    store::{Budget, Find},
};
use qtasks_tests::{
    Place, Stage,
    servers::postgres::{shared, tell},
};

use crate::welcome;

/// That the call is refused and leaves no job in `there`, which is a store too.
async fn is_refused<T>(enqueued: qtasks::Result<T>, there: &QueueTasks, said: &str) {
    let error = enqueued.err().expect("it is refused");
    assert!(matches!(error, Error::OtherStore { .. }), "{error}");
    let end = "the job would be none of this application's; begin the transaction where the application is open, or open the \
               application there";
    assert_eq!(error.to_string(), format!("{said}: {end}"));
    assert_eq!(there.find(Find::default().oldest_first()).budget(Budget::jobs(9)).await.unwrap().jobs, []);
}

async fn file() -> (Stage, Connection) {
    let stage = Stage::open(Place::sqlite()).await;
    let connection = Connection::open(stage.file()).unwrap();
    (stage, connection)
}

#[tokio::test]
async fn a_transaction_on_another_file_is_refused() {
    let ((ours, _), (theirs, mut connection)) = (file().await, file().await);
    let tx = connection.transaction().unwrap();
    let enqueued = ours.app.enqueue_in(&tx, welcome("Ada".into()));
    tx.commit().unwrap();
    let (there, here) = (theirs.file(), ours.file());
    let said =
        format!("the transaction is on `{}`, and the application's store is `{}`", there.display(), here.display());
    is_refused(enqueued, &theirs.app, &said).await;
}

#[tokio::test]
async fn an_application_in_memory_has_no_transactions() {
    let app = QueueTasks::open("memory:").await.unwrap();
    let (theirs, mut connection) = file().await;
    let tx = connection.transaction().unwrap();
    let enqueued = app.enqueue_in(&tx, welcome("Ada".into()));
    tx.commit().unwrap();
    let said = format!(
        "the transaction is on `{}`, and the application's store is one that no transaction reaches, such as `memory:`",
        theirs.file().display()
    );
    is_refused(enqueued, &theirs.app, &said).await;
}

#[tokio::test]
async fn a_database_in_memory_is_no_place_for_jobs_and_neither_is_one_that_the_store_is_attached_to() {
    let (ours, _) = file().await;
    for path in ["", ":memory:"] {
        let mut connection = Connection::open(path).unwrap();
        connection.execute("ATTACH ?1 AS jobs", [ours.file().to_str().unwrap()]).unwrap();
        let tx = connection.transaction().unwrap();
        let enqueued = ours.app.enqueue_in(&tx, welcome("Ada".into()));
        tx.commit().unwrap();
        let here = ours.file();
        let said =
            format!("the transaction is on a database in memory, and the application's store is `{}`", here.display());
        is_refused(enqueued, &ours.app, &said).await;
    }
}

#[tokio::test]
async fn the_same_file_by_another_name_is_the_same() {
    let (stage, _) = file().await;
    let folder = stage.file().parent().unwrap().to_owned();
    std::os::unix::fs::symlink(stage.file(), folder.join("link.db")).unwrap();
    std::os::unix::fs::symlink(&folder, folder.join("folder")).unwrap();
    for name in ["link.db", "folder/jobs.db", "folder/link.db"] {
        let by_link = QueueTasks::open(&format!("sqlite:{}", folder.join(name).display())).await.unwrap();
        let mut connection = Connection::open(folder.join(name)).unwrap();
        let tx = connection.transaction().unwrap();
        for app in [&stage.app, &by_link] {
            app.enqueue_in(&tx, welcome("Ada".into())).unwrap();
        }
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_file_whose_name_is_no_text_is_the_same_too() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _};
    let folder = tempfile::tempdir().unwrap();
    let app = QueueTasks::open(&format!("sqlite:{}/%FF.db", folder.path().display())).await.unwrap();
    let mut connection = Connection::open(folder.path().join(OsStr::from_bytes(b"\xff.db"))).unwrap();
    let tx = connection.transaction().unwrap();
    app.enqueue_in(&tx, welcome("Ada".into())).unwrap();
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test]
async fn a_transaction_on_another_database_is_refused() {
    let (ours, theirs) = (shared().new_database(), shared().new_database());
    let name = |url: &str| url.rsplit_once('/').unwrap().1.to_owned();
    let (app, there) = (QueueTasks::open(&ours).await.unwrap(), QueueTasks::open(&theirs).await.unwrap());
    // One that was restored has all that the other has, its own name apart.
    let copy = format!("{}_copy", name(&ours));
    let copies = format!("CREATE DATABASE {copy} TEMPLATE {}", name(&theirs));
    let mut client = connect(&theirs).await;
    let mut tx = client.transaction().await.unwrap();
    let enqueued = app.enqueue_in(&mut tx, welcome("Ada".into())).await;
    tx.commit().await.unwrap();
    let said = |database: &str| {
        format!(
            "the transaction is on the database `{database}`, and the application's store is the schema `qtasks` of the \
             database `{}`",
            name(&ours)
        )
    };
    is_refused(enqueued, &there, &said(&name(&theirs))).await;
    drop((client, there));
    tell(&ours, &format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}'", name(&theirs)))
        .unwrap();
    tell(&ours, &copies).unwrap();
    let copy = theirs.replace(&name(&theirs), &copy);
    let original = QueueTasks::open(&theirs).await.unwrap();
    let mut client = connect(&copy).await;
    let mut tx = client.transaction().await.unwrap();
    assert!(original.enqueue_in(&mut tx, welcome("Ada".into())).await.is_err(), "a copy is another one");
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test]
async fn a_store_of_another_kind_or_schema_is_refused() {
    let (sqlite, mut file) = file().await;
    let url = shared().url();
    let (app, there) =
        (QueueTasks::open(&url).await.unwrap(), QueueTasks::open(&shared().new_database()).await.unwrap());
    let tx = file.transaction().unwrap();
    let schema = url.split_once("schema=").unwrap().1;
    let ours = format!("the application's store is the schema `{schema}` of the database `postgres`");
    let said = format!("the transaction is on `{}`, and {ours}", sqlite.file().display());
    is_refused(app.enqueue_in(&tx, welcome("Ada".into())), &there, &said).await;

    let mut client = connect(&shared().database()).await;
    let mut tx = client.transaction().await.unwrap();
    let enqueued = sqlite.app.enqueue_in(&mut tx, welcome("Ada".into())).await;
    let here = format!("and the application's store is `{}`", sqlite.file().display());
    is_refused(enqueued, &there, &format!("the transaction is on a database of Postgres, {here}")).await;
    let other = postgres::InSchema::new("others", &mut tx);
    let enqueued = app.enqueue_in(other, welcome("Ada".into())).await;
    is_refused(enqueued, &there, &format!("the transaction is on the schema `others`, and {ours}")).await;
    app.enqueue_in(&mut tx, welcome("Ada".into())).await.expect("the schema is that of the application");
    tx.commit().await.unwrap();
    assert_eq!(app.find(Find::default().oldest_first()).budget(Budget::jobs(9)).await.unwrap().jobs.len(), 1);
}

async fn connect(url: &str) -> postgres::tokio_postgres::Client {
    let config: postgres::tokio_postgres::Config = url.parse().unwrap();
    let (client, connection) = config.connect(postgres::tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}
