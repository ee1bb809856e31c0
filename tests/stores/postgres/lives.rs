//! Workers show that they live, and others see that they do not.

use std::{slice::from_ref, sync::Arc, time::Duration};

use futures::future::join_all;
use jiff::Timestamp;
use qtasks::{
    Error,
    job::{Job, NextState, Suspect, WorkerId},
    lifecycle::Outcome,
    postgres::Postgres,
    store::{Hold, Presence, Settlement, Store, Written},
};
use qtasks_tests::{
    eventually, in_time,
    servers::{
        postgres::{Postgres as Server, shared, tell, url},
        proxy::Proxy,
    },
};

use crate::{NOW, ask, enqueueing::connect, new_job, open, schema, with};

/// Has a new worker of the store lease a job; it has renewed once.
async fn running(store: &Postgres) -> (WorkerId, Job) {
    let asked = ask(1);
    store.enqueue(vec![new_job()]).await.unwrap();
    store.renew(asked.worker, 1).await.unwrap();
    (asked.worker, store.lease(asked).await.unwrap().jobs.remove(0))
}

/// Takes a job from its worker, if that has not renewed since this beat.
fn lost(job: &Job, beat: Option<u64>) -> Settlement {
    let hold = Hold::Silent { lease: job.lease().unwrap(), beat };
    let suspect = Some(Suspect::default());
    let next = NextState::Waiting { due: NOW };
    Settlement { hold, outcome: Outcome { next, failures: 0, suspect }, steps: None, attempt: None, now: NOW }
}

async fn presence(store: &Postgres, worker: WorkerId) -> Option<Presence> {
    store.workers().await.unwrap().into_iter().find(|other| other.worker == worker)
}

async fn is_gone(store: &Postgres, worker: WorkerId) -> bool {
    presence(store, worker).await.is_some_and(|presence| presence.gone)
}

/// The URL on another server.
fn on(server: u16, url: &str) -> String {
    url.replace(&shared().port.to_string(), &server.to_string())
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test]
async fn a_store_that_is_dropped_as_in_a_crash_loses_its_jobs_soon() {
    let url = url();
    let (one, other) = (open(&url).await, open(&url).await);
    let (worker, job) = running(&one).await;
    other.renew(WorkerId::new(), 1).await.unwrap();
    let mut told = other.notifier().lost();
    assert!(!is_gone(&other, worker).await);
    drop(one);
    in_time(told.notification()).await;
    let gone = Presence { worker, beat: Some(1), holds: true, gone: true };
    assert_eq!(presence(&other, worker).await, Some(gone));
    assert_eq!(other.held(worker, 9).await.unwrap(), from_ref(&job));
    assert_eq!(other.settle([lost(&job, Some(1))].into()).await.unwrap(), [Written::Yes]);
    other.forget(worker, Some(1)).await.unwrap();
    assert_eq!(presence(&other, worker).await, None);
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test]
async fn other_processes_hear_of_a_worker_that_left_with_jobs() {
    let url = url();
    let (one, other) = (open(&url).await, open(&url).await);
    let (worker, job) = running(&one).await;
    let (mut here, mut there) = (one.notifier().lost(), other.notifier().lost());
    one.leave(worker).await.unwrap();
    assert!(here.take_notification());
    in_time(there.notification()).await;
    let gone = Presence { worker, beat: None, holds: true, gone: true };
    assert_eq!(presence(&other, worker).await, Some(gone));
    assert_eq!(other.settle([lost(&job, None)].into()).await.unwrap(), [Written::Yes]);
    assert!(!presence(&other, worker).await.unwrap().holds);
    other.forget(worker, None).await.unwrap();
    assert_eq!(presence(&other, worker).await, None);
}

/// It had lost its connection, say, for longer than others wait.
#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test]
async fn a_worker_that_was_taken_for_gone_can_come_back() {
    let url = url();
    let (one, other) = (open(&url).await, open(&url).await);
    let (worker, job) = running(&one).await;
    other.renew(WorkerId::new(), 1).await.unwrap();
    drop(one);
    eventually("it is taken for gone", async || is_gone(&other, worker).await).await;
    let back = open(&url).await;
    let renewed = back.renew(worker, 2).await.unwrap();
    assert_eq!(renewed.leases, [job.lease().unwrap()]);
    assert!(!is_gone(&other, worker).await);
    assert_eq!(other.settle([lost(&job, Some(1))].into()).await.unwrap(), [Written::Fenced]);
    assert_eq!(back.renew(worker, 3).await.unwrap().leases, renewed.leases);
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test]
async fn a_free_lock_on_another_server_says_nothing() {
    let url = url();
    let (one, two, other) = (open(&url).await, open(&url).await, open(&url).await);
    let ((here, _), (elsewhere, _)) = (running(&one).await, running(&two).await);
    other.renew(WorkerId::new(), 1).await.unwrap();
    let moved = format!("UPDATE {}.workers SET instance = 'another' WHERE id = '{elsewhere}'", schema(&url));
    tell(&shared().database(), &moved).unwrap();
    drop(two);
    drop(one);
    eventually("the other one is taken for gone", async || is_gone(&other, here).await).await;
    assert!(!is_gone(&other, elsewhere).await);
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test]
async fn a_worker_whose_connections_are_cut_keeps_its_jobs() {
    let server = Server::start(&["-c", "fsync=off"]);
    let url = on(server.port, &url());
    let (one, other) = (open(&url).await, open(&url).await);
    let (worker, job) = running(&one).await;
    other.renew(WorkerId::new(), 1).await.unwrap();
    const SIGNS: &str = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted";
    let mut doubt = one.notifier().doubt();
    for beat in 2..5 {
        server.cut_all();
        in_time(doubt.notification()).await;
        eventually("both show again that they live", async || server.tell(SIGNS).unwrap() == "2").await;
        assert!(!is_gone(&other, worker).await);
        assert_eq!(one.renew(worker, beat).await.unwrap().leases, [job.lease().unwrap()]);
    }
    assert_eq!(other.settle([lost(&job, Some(1))].into()).await.unwrap(), [Written::Fenced]);
}

/// A worker that comes back learns of what was taken, or nothing is taken: it never thinks that it holds what another has.
#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_comes_back_knows_what_was_taken() {
    let store = open(&url()).await;
    for round in 0..50 {
        let (worker, job) = running(&store).await;
        let taking = tokio::spawn({
            let (store, job) = (Arc::clone(&store), job.clone());
            async move { store.settle([lost(&job, Some(1))].into()).await.unwrap() }
        });
        let held = store.renew(worker, 2).await.unwrap().leases;
        let taken = taking.await.unwrap() == [Written::Yes];
        assert!(taken || held.len() == 1, "round {round}: nothing was taken, and it was not told of its job");
        let after = store.renew(worker, 3).await.unwrap().leases;
        assert_eq!(held, after, "round {round}: taken: {taken}");
    }
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_was_robbed_while_all_connections_were_busy() {
    let url = url();
    let store = open(&with(&url, "connections=2")).await;
    let (worker, job) = running(&store).await;
    let client = connect(&shared().database()).await;
    let schema = schema(&url);
    client.batch_execute(&format!("BEGIN; LOCK TABLE {schema}.steps IN ACCESS EXCLUSIVE MODE")).await.unwrap();
    let reading = tokio::spawn({
        let store = Arc::clone(&store);
        async move { join_all((0..9).map(|_| store.steps(job.call.id, 0, 9))).await }
    });
    let busy = format!("SELECT count(*) = 2 FROM pg_locks WHERE relation = '{schema}.steps'::regclass AND NOT granted");
    eventually("both are busy", async || tell(&shared().database(), &busy).unwrap() == "t").await;
    assert_eq!(in_time(store.renew(worker, 2)).await.unwrap().leases, [job.lease().unwrap()]);
    assert!(!reading.is_finished());
    client.batch_execute("COMMIT").await.unwrap();
    assert!(in_time(reading).await.unwrap().iter().all(Result::is_ok));
}

/// Another worker of the process renews on the same connection.
#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_waited_for_the_row_of_another_worker() {
    let url = url();
    let store = open(&url).await;
    let ((one, _), (other, job)) = (running(&store).await, running(&store).await);
    let client = connect(&shared().database()).await;
    let lock = format!("BEGIN; SELECT FROM {}.workers WHERE id = '{one}' FOR SHARE", schema(&url));
    client.batch_execute(&lock).await.unwrap();
    let waits = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.renew(one, 2).await }
    });
    const WAITS: &str =
        "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query ~ 'INSERT INTO'";
    eventually("it waits", async || tell(&shared().database(), WAITS).unwrap() == "t").await;
    assert_eq!(in_time(store.renew(other, 2)).await.unwrap().leases, [job.lease().unwrap()]);
    let refused = in_time(waits).await.unwrap().unwrap_err();
    assert!(refused.is_store_trouble(), "{refused:?}");
    client.batch_execute("COMMIT").await.unwrap();
    store.renew(one, 3).await.unwrap();
}

/// Neither end is told that the line is dead; a lease lasts for 3 s.
#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_was_lost_on_a_dead_line() {
    let url = url();
    let proxy = Proxy::to(shared().port, Duration::ZERO).await;
    let store = open(&on(proxy.port, &url)).await;
    let (worker, job) = running(&store).await;
    proxy.swallow();
    let (mut beat, begun) = (1, std::time::Instant::now());
    // As its heartbeat does, which hears of the doubt.
    let renewed = loop {
        beat += 1;
        if let Ok(renewed) = store.renew(worker, beat).await {
            break renewed;
        }
    };
    assert_eq!(renewed.leases, [job.lease().unwrap()]);
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert_eq!(presence(&*open(&url).await, worker).await.unwrap().beat, Some(beat));
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test]
async fn a_worker_renewed_in_tables_of_a_newer_format() {
    let url = shared().new_database();
    let store = open(&url).await;
    let (worker, _) = running(&store).await;
    tell(&url, "UPDATE qtasks.format SET format = 99").unwrap();
    let refused = store.renew(worker, 2).await.unwrap_err();
    assert!(matches!(refused, Error::NewerStore { found: 99, known: 8, .. }), "{refused:?}");
    assert_eq!(presence(&store, worker).await.unwrap().beat, Some(1), "nothing is written there");
    // Whatever else has become of them.
    tell(&url, "DROP TABLE qtasks.workers").unwrap();
    let refused = store.renew(worker, 3).await.unwrap_err();
    assert!(matches!(refused, Error::NewerStore { .. }), "{refused:?}");
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test]
async fn the_time_is_that_of_the_server() {
    let store = open(&url()).await;
    let servers = || {
        let told = tell(&shared().database(), "SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint");
        Timestamp::from_millisecond(told.unwrap().parse().unwrap()).unwrap()
    };
    let before = servers();
    let (renewed, asked) = (store.renew(WorkerId::new(), 1).await.unwrap().now, store.time().await.unwrap());
    let after = servers();
    for time in [renewed.unwrap(), asked.unwrap()] {
        assert!(before <= time && time <= after, "{before} {time} {after}");
    }
}

/// They are found by the index, from one to the next.
#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test]
async fn all_who_hold_jobs_are_seen_whether_they_are_known_or_not() {
    let store = open(&url()).await;
    let mut expected = Vec::new();
    for number in 0..9 {
        let asked = ask(2);
        store.enqueue(vec![new_job(), new_job()]).await.unwrap();
        assert_eq!(store.lease(asked.clone()).await.unwrap().jobs.len(), 2);
        let known = number % 2 == 0;
        if known {
            store.renew(asked.worker, 7).await.unwrap();
        }
        expected.push(Presence { worker: asked.worker, beat: known.then_some(7), holds: true, gone: false });
    }
    let idle = WorkerId::new();
    store.renew(idle, u64::MAX).await.unwrap();
    expected.push(Presence { worker: idle, beat: Some(u64::MAX), holds: false, gone: false });
    let mut found = store.workers().await.unwrap();
    found.sort_by_key(|presence| presence.worker);
    assert_eq!(found, expected);
}

/// A renewal may still be under way when its caller has given it up.
#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test]
async fn a_renewal_that_is_under_way_does_not_bring_back_a_worker_that_left() {
    let url = shared().new_database();
    let store = open(&url).await;
    let (worker, _) = running(&store).await;
    // A renewal looks at the format first, and to leave takes no look at it.
    let holder = connect(&url).await;
    holder.batch_execute("BEGIN; LOCK TABLE qtasks.format IN ACCESS EXCLUSIVE MODE").await.unwrap();
    assert!(futures::poll!(std::pin::pin!(store.renew(worker, 2))).is_pending());
    let mut leaving = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.leave(worker).await }
    });
    let waits =
        "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
    eventually("the renewal waits", async || tell(&url, waits).unwrap() == "t").await;
    // If it does not wait for the renewal, it is done by then.
    let before = tokio::time::timeout(Duration::from_millis(200), &mut leaving).await;
    holder.batch_execute("COMMIT").await.unwrap();
    if before.is_err() {
        in_time(leaving).await.unwrap().unwrap();
    }
    // This one is answered after the first.
    store.renew(WorkerId::new(), 1).await.unwrap();
    let seen = presence(&store, worker).await.unwrap();
    assert_eq!((seen.beat, seen.gone), (None, true));
}
