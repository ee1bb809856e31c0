//! A real PgBouncer before the server, in transaction mode.

use futures::future::join_all;
use qtasks::{
    postgres::tokio_postgres::{NoTls, connect},
    prelude::*,
};
use qtasks_tests::{
    in_time,
    servers::{pgbouncer::PgBouncer, postgres::Postgres},
    whole,
};

use crate::{app, refused, with};

#[qtask]
async fn tenfold(number: u64) -> Vec<u64> {
    for digit in 0..10 {
        yield_!(number * 10 + digit);
    }
}

#[cfg_attr(missing = "pgbouncer", ignore = "PgBouncer is not installed")]
#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test(flavor = "multi_thread")]
async fn through_a_pooler_jobs_are_enqueued_and_watched_and_workers_go_past_it() {
    let server = Postgres::start(&["-c", "fsync=off"]);
    let pooler = PgBouncer::start(&server, "");
    let pooled = app(&with(&pooler.database(), "pooler=transaction")).await;
    // Many at once, each over whatever session comes next.
    let calls = join_all((0..50).map(|number| pooled.enqueue(tenfold(number)))).await;
    let (mut client, connection) = connect(&pooler.database(), NoTls).await.unwrap();
    tokio::spawn(connection);
    let mut tx = client.transaction().await.unwrap();
    let in_transaction = pooled.enqueue_in(&mut tx, tenfold(50)).await.unwrap();
    tx.commit().await.unwrap();
    let mut tx = client.transaction().await.unwrap();
    let dropped = pooled.enqueue_in(&mut tx, tenfold(51)).await.unwrap().id();
    tx.rollback().await.unwrap();

    let refused = pooled.worker().start().await.unwrap_err();
    assert!(whole(&refused).ends_with("give workers a URL that leads past it"), "{refused:?}");
    let worker = app(&server.database()).await.worker().start().await.unwrap();
    let jobs = calls.into_iter().map(Result::unwrap).chain([in_transaction]);
    for (number, job) in (0..).zip(jobs) {
        let values: Vec<_> = in_time(job.stream().map(Result::unwrap).collect()).await;
        assert_eq!(values, (number * 10..number * 10 + 10).collect::<Vec<u64>>());
        assert_eq!(in_time(job.result()).await.unwrap(), values);
    }
    assert!(pooled.any_job(dropped).await.is_err());
    worker.shutdown().await.unwrap();
}

#[cfg_attr(missing = "pgbouncer", ignore = "PgBouncer is not installed")]
#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test]
async fn a_pooler_that_the_url_does_not_tell_of_is_noticed() {
    let server = Postgres::start(&["-c", "fsync=off"]);
    // One refuses the settings of a connection, the other drops them.
    for more in ["", "ignore_startup_parameters = options"] {
        let pooler = PgBouncer::start(&server, more);
        assert_eq!(
            refused(&pooler.database()).await,
            "these connections to Postgres go through a pooler, such as PgBouncer, that does not pass on their settings; \
             say so with `?pooler=transaction`, and give workers a URL that leads past it"
        );
    }
}
