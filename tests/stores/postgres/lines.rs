//! Lines to the server that go dead: neither end is told.

use futures::future::join_all;
use jiff::Timestamp;
use qtasks::{
    job::{Lease, NextState, Reply, Step},
    json::Json,
    lifecycle::Outcome,
    store::{Hold, Record, Settlement, Store, Written},
};
use qtasks_tests::{
    in_time,
    servers::{
        postgres::{shared, url},
        proxy::Proxy,
    },
    whole,
};

use crate::{NOW, ask, new_job, open, refused, with};

/// A line to the server that all tests share, and the URL of the same store over it.
async fn line(url: &str) -> (Proxy, String) {
    let proxy = Proxy::to(shared().port, Default::default()).await;
    let over_it = with(&url.replace(&shared().port.to_string(), &proxy.port.to_string()), "timeout=1");
    (proxy, over_it)
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_line_is_waited_for_once_and_not_for_each_connection() {
    let (line, url) = line(&url()).await;
    let store = open(&url).await;
    let job = new_job();
    store.enqueue(vec![job.clone()]).await.unwrap();
    join_all((0..100).map(|_| store.job(job.call.id))).await;
    assert!(line.connections() > 3, "there are several connections");
    line.swallow();
    assert_eq!(
        whole(&store.job(job.call.id).await.unwrap_err()),
        "the store could not read a job: no answer from the server within 1 s"
    );
    assert!(store.job(job.call.id).await.unwrap().is_some());
}

fn step(seq: u64) -> Step {
    Step { seq, hash: seq, reply: Reply::Value(Json::from_stored("1")) }
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test(flavor = "multi_thread")]
async fn who_is_gone_in_the_middle_of_a_transaction_holds_up_nobody() {
    let url = url();
    let (line, over_it) = line(&url).await;
    let (gone, other) = (open(&over_it).await, open(&url).await);
    gone.enqueue(vec![new_job()]).await.unwrap();
    let asked = ask(1);
    let job = gone.lease(asked.clone()).await.unwrap().jobs.remove(0);
    let lease = Lease { job: job.call.id, attempt: job.standing.attempt, worker: asked.worker };
    line.swallow_at("COMMIT");
    // Two of one job take a transaction.
    let records = [step(0), step(1)].map(|step| Record {
        lease,
        steps: vec![step],
        memos: vec![],
        jobs: vec![],
        progress: None,
        passed: false,
    });
    gone.record(records.into()).await.unwrap_err();
    assert!(line.lost() > 0, "it was gone at the end of the transaction");
    let settlement = Settlement {
        hold: Hold::Lease(lease),
        outcome: Outcome { next: NextState::Waiting { due: Timestamp::UNIX_EPOCH }, failures: 0, suspect: None },
        steps: None,
        attempt: None,
        now: NOW,
    };
    assert_eq!(in_time(other.settle([settlement].into())).await.unwrap(), [Written::Yes]);
    assert_eq!(other.job(job.call.id).await.unwrap().unwrap().counts.steps, 0);
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test(flavor = "multi_thread")]
async fn who_is_gone_in_the_middle_of_a_migration_holds_up_nobody() {
    let url = url();
    let (line, over_it) = line(&url).await;
    line.swallow_at("CREATE TABLE");
    let said = refused(&over_it).await;
    assert_eq!(said, "the store could not bring its tables up to date: no answer from the server within 1 s");
    let store = in_time(open(&url)).await;
    store.enqueue(vec![new_job()]).await.unwrap();
}
