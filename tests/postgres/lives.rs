//! Workers show that they live, and others see that they do not.

use std::{slice::from_ref, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use qtasks::{
    job::{Job, State, WorkerId},
    postgres::Postgres,
    store::{Hold, Settlement, Store, Written},
};
use qtasks_tests::{
    eventually, in_time,
    servers::postgres::{shared, tell, url},
};

use crate::{HOUR, NOW, ask, new_job, open, schema};

/// Has a new worker of the store lease a job, for an hour from now on.
async fn running(store: &Postgres) -> (WorkerId, Job) {
    let asked = ask(1);
    store.enqueue(vec![new_job()]).await.unwrap();
    store.renew(asked.worker, NOW + HOUR).await.unwrap();
    (asked.worker, store.lease(asked).await.unwrap().jobs.remove(0))
}

fn lost(job: &Job, now: Timestamp) -> Settlement {
    let hold = Hold::Expired { attempt: job.attempt, now };
    let next = State::Waiting { due: NOW };
    Settlement { job: job.id, hold, steps: None, next, failures: 0, suspect: true, attempt: None, now }
}

fn workers(url: &str) -> String {
    tell(&shared().database(), &format!("SELECT count(*) FROM {}.workers", schema(url))).unwrap()
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test]
async fn a_store_that_is_dropped_as_in_a_crash_loses_its_jobs_soon() {
    let url = url();
    let (one, other) = (open(&url).await, open(&url).await);
    let (_, job) = running(&one).await;
    other.renew(WorkerId::new(), NOW + HOUR).await.unwrap();
    let mut told = other.bell().lost();
    assert_eq!(other.expired(NOW, 9).await.unwrap(), []);
    assert_eq!(other.settle(vec![lost(&job, NOW)]).await.unwrap(), [Written::Fenced]);
    drop(one);
    in_time(told.heard()).await;
    assert_eq!(other.expired(NOW, 9).await.unwrap(), from_ref(&job), "although its leases last an hour");
    assert_eq!(other.settle(vec![lost(&job, NOW)]).await.unwrap(), [Written::Yes]);
    assert_eq!(other.expired(NOW, 9).await.unwrap(), []);
    eventually("what the dead one left behind goes away", async || workers(&url) == "1").await;
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test]
async fn a_worker_that_only_time_tells_of_is_forgotten_after_a_day() {
    let url = url();
    let (store, until) = (open(&url).await, NOW.as_millisecond());
    let silent = format!("INSERT INTO {}.workers VALUES (gen_random_uuid(), {until}, 0, false)", schema(&url));
    tell(&shared().database(), &silent).unwrap();
    for (after, left) in [(HOUR * 24, "1"), (HOUR * 24 + SignedDuration::from_millis(1), "0")] {
        store.expired(NOW + after, 9).await.unwrap();
        assert_eq!(workers(&url), left);
    }
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test]
async fn a_worker_whose_connections_are_cut_keeps_its_jobs() {
    let url = url();
    let server = qtasks_tests::servers::postgres::Postgres::start(&["-c", "fsync=off"]);
    let url = url.replace(&shared().port.to_string(), &server.port.to_string());
    let (one, other) = (open(&url).await, open(&url).await);
    let (worker, job) = running(&one).await;
    other.renew(WorkerId::new(), NOW + HOUR).await.unwrap();
    const SIGNS: &str = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted";
    let mut doubt = one.bell().doubt();
    for _ in 0..3 {
        server.cut_all();
        in_time(doubt.heard()).await;
        eventually("both show again that they live", async || server.tell(SIGNS).unwrap() == "2").await;
        assert_eq!(other.expired(NOW, 9).await.unwrap(), []);
    }
    eventually("its leases are there", async || one.renew(worker, NOW + HOUR).await.is_ok_and(|held| held.len() == 1))
        .await;
    assert_eq!(other.settle(vec![lost(&job, NOW)]).await.unwrap(), [Written::Fenced]);
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test]
async fn a_worker_that_lives_but_does_not_renew_loses_its_jobs_later() {
    let url = url();
    let (one, other) = (open(&url).await, open(&url).await);
    let (worker, job) = running(&one).await;
    let late = NOW + HOUR + jiff::SignedDuration::from_millis(1);
    assert_eq!(other.expired(NOW + HOUR, 9).await.unwrap(), []);
    assert_eq!(other.expired(late, 9).await.unwrap(), from_ref(&job));
    one.renew(worker, late).await.unwrap();
    assert_eq!(other.settle(vec![lost(&job, late)]).await.unwrap(), [Written::Fenced], "it came back in time");
    one.renew(worker, NOW).await.unwrap();
    assert_eq!(other.settle(vec![lost(&job, late)]).await.unwrap(), [Written::Yes]);
    assert_eq!(one.renew(worker, late).await.unwrap(), []);
}

/// Who comes back learns of what was taken, or nothing is taken: never does one think that it holds what another has.
#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_comes_back_knows_what_was_taken() {
    let store = open(&url()).await;
    for round in 0..50 {
        let (worker, job) = running(&store).await;
        store.renew(worker, NOW).await.unwrap();
        let late = NOW + HOUR;
        let taking = tokio::spawn({
            let (store, job) = (Arc::clone(&store), job.clone());
            async move { store.settle(vec![lost(&job, late)]).await.unwrap() }
        });
        let held = store.renew(worker, late + HOUR).await.unwrap();
        let taken = taking.await.unwrap() == [Written::Yes];
        assert!(taken || held.len() == 1, "round {round}: nothing was taken, and it was not told of its job");
        let after = store.renew(worker, late + HOUR).await.unwrap();
        assert_eq!(held, after, "round {round}: taken: {taken}");
    }
}
