//! Jobs are counted in two tables, of which one is folded into the other, and by whatever way they come.

use std::sync::Arc;

use futures::future::join_all;
use qtasks::{
    postgres::{Postgres, Transaction, tokio_postgres},
    prelude::*,
    store::{JobCounts, Store},
};
use qtasks_tests::{
    eventually,
    servers::postgres::{shared, tell, url},
};

use crate::{NOW, app, ask, enqueueing::connect, new_job, open};

/// How many jobs of all lanes are in each state.
async fn counted(store: &Postgres) -> JobCounts {
    let mut sum = JobCounts::default();
    for lane in store.counts(NOW).await.unwrap() {
        sum += lane.jobs;
    }
    sum
}

/// Deletes nothing, and folds.
async fn fold(store: &Postgres) {
    assert_eq!(store.prune(NOW, NOW, 1).await.unwrap(), 0);
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test]
async fn what_pruning_folds_is_counted_as_before() {
    let url = shared().new_database();
    let store = open(&url).await;
    for _ in 0..3 {
        store.enqueue(vec![new_job(), new_job()]).await.unwrap();
    }
    store.lease(ask(1)).await.unwrap();
    assert_eq!(tell(&url, "SELECT count(*) FROM qtasks.deltas").unwrap(), "4");
    let before = counted(&store).await;
    assert_eq!((before.waiting, before.running), (5, 1));
    for _ in 0..2 {
        fold(&store).await;
        assert_eq!(counted(&store).await, before);
        assert_eq!(tell(&url, "SELECT count(*) FROM qtasks.deltas").unwrap(), "0");
    }
    assert_eq!(tell(&url, "SELECT queue, task, waiting, running FROM qtasks.counts").unwrap(), "default|task|5|1");
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test]
async fn a_process_that_changes_much_folds_by_itself() {
    let url = shared().new_database();
    let store = open(&url).await;
    for _ in 0..300 {
        store.enqueue(vec![new_job()]).await.unwrap();
    }
    let few = "SELECT count(*) < 256 FROM qtasks.deltas";
    eventually("it is folded", async || tell(&url, few).unwrap() == "t").await;
    assert_eq!(counted(&store).await.waiting, 300);
}

/// Three processes fold all the time, while others enqueue and read.
#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test(flavor = "multi_thread")]
async fn no_count_is_lost_or_doubled_while_it_is_folded() {
    let url = url();
    let stores = join_all((0..3).map(|_| open(&url))).await;
    let enqueueing = stores.iter().map(|store| {
        let store = Arc::clone(store);
        tokio::spawn(async move {
            for _ in 0..60 {
                store.enqueue(vec![new_job()]).await.unwrap();
                fold(&store).await;
            }
        })
    });
    let enqueueing: Vec<_> = enqueueing.collect();
    let mut before = 0;
    while !enqueueing.iter().all(tokio::task::JoinHandle::is_finished) {
        let waiting = counted(&stores[0]).await.waiting;
        assert!(waiting >= before, "{waiting} jobs, where {before} were counted");
        before = waiting;
    }
    assert_eq!(counted(&stores[0]).await.waiting, 180);
    assert_eq!(stores[0].recount().await.unwrap(), 0);
}

/// What a hand has changed in the tables.
#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test]
async fn counts_that_are_wrong_are_mended() {
    let url = shared().new_database();
    let store = open(&url).await;
    store.enqueue((0..5).map(|_| new_job()).collect()).await.unwrap();
    fold(&store).await;
    tell(&url, "INSERT INTO qtasks.deltas (queue, task, done, dead) VALUES ('default', 'task', 7, -9)").unwrap();
    tell(&url, "INSERT INTO qtasks.counts VALUES ('gone', 'task', 0, 3, 0, 0, 0)").unwrap();
    tell(&url, "UPDATE qtasks.jobs SET queue = 'moved' WHERE id = (SELECT id FROM qtasks.jobs LIMIT 1)").unwrap();
    assert_eq!(counted(&store).await.dead, 0, "fewer than none");
    assert_eq!(store.recount().await.unwrap(), 3);
    let counts = store.counts(NOW).await.unwrap();
    let mut lanes: Vec<_> = counts.iter().map(|counts| (&*counts.lane.queue, counts.jobs.total())).collect();
    lanes.sort_unstable();
    assert_eq!(lanes, [("default", 4), ("gone", 0), ("moved", 1)]);
    assert_eq!(counted(&store).await.waiting, 5);
    assert_eq!(store.recount().await.unwrap(), 0);
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test(flavor = "multi_thread")]
async fn what_changes_while_all_is_counted_anew_is_counted_once() {
    let url = url();
    let (store, other) = (open(&url).await, open(&url).await);
    let changing = tokio::spawn({
        let store = Arc::clone(&store);
        async move {
            for _ in 0..40 {
                store.enqueue((0..5).map(|_| new_job()).collect()).await.unwrap();
                store.lease(ask(3)).await.unwrap();
            }
        }
    });
    while !changing.is_finished() {
        let both = futures::join!(store.recount(), other.recount());
        assert_eq!((both.0.unwrap(), both.1.unwrap()), (0, 0));
    }
    changing.await.unwrap();
    let counts = counted(&store).await;
    assert_eq!((counts.waiting, counts.running), (80, 120));
    // Of two that find the same wrong, one mends it.
    tell(&shared().database(), &format!("UPDATE {}.counts SET waiting = 0", crate::schema(&url))).unwrap();
    fold(&store).await;
    _ = futures::join!(store.recount(), other.recount());
    assert_eq!(counted(&store).await, counts);
}

#[qtask]
async fn child() {}

async fn enqueues(tx: &mut Transaction<'_>, number: i64) -> Result<i64, tokio_postgres::Error> {
    tx.execute("SELECT qtasks.enqueue('counts.by_handler')", &[]).await?;
    Ok(number)
}

#[qtask(generate_handler = enqueues)]
async fn parent() -> Vec<i64> {
    yield_!(1);
    yield_!(2);
}

/// In the application's transactions, by SQL, and in those of handlers.
#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test(flavor = "multi_thread")]
async fn jobs_of_other_connections_are_counted_if_they_are_there() {
    let url = shared().new_database();
    let (app, store) = (app(&url).await, open(&url).await);
    let mut client = connect(&url).await;
    for commits in [false, true] {
        let mut tx = client.transaction().await.unwrap();
        let id = app.enqueue_in(&mut tx, child()).await.unwrap().id();
        app.enqueue_in(&mut tx, child().id(id)).await.unwrap();
        tx.batch_execute("SELECT qtasks.enqueue('child'), qtasks.enqueue('child', '{}', '{\"delay\": 60}')")
            .await
            .unwrap();
        if commits {
            tx.commit().await.unwrap();
        } else {
            tx.rollback().await.unwrap();
        }
    }
    let again = JobId::new();
    for _ in 0..2 {
        tell(&url, &format!(r#"SELECT qtasks.enqueue('child', '{{}}', '{{"id": "{again}"}}')"#)).unwrap();
    }
    assert_eq!(counted(&store).await.waiting, 4);
    app.enqueue(parent()).await.unwrap();
    app.worker().run_until_idle().await.unwrap();
    let counts = counted(&store).await;
    assert_eq!(
        (counts.waiting, counts.done, counts.total()),
        (3, 4, 7),
        "one for later, and two of a task of no program"
    );
    assert_eq!(store.recount().await.unwrap(), 0);
}
