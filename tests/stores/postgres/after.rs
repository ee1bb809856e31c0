//! Jobs that wait for others, while transactions of which one would overtake the other are open.

use std::sync::Arc;

use qtasks::{job::State, prelude::*, store::Store};
use qtasks_tests::{
    eventually, in_time,
    servers::postgres::{shared, tell},
};

use crate::{
    app,
    enqueueing::{WAITS, connect},
    open,
};

#[qtask]
async fn part(number: u32) -> u32 {
    number
}

/// Ends a job, as a settlement does.
fn ends(job: JobId) -> String {
    format!("UPDATE qtasks.jobs SET state = 3, list = NULL, fresh = false, ended = due + 1 WHERE id = '{job}'")
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_is_under_way_is_waited_for() {
    let url = shared().new_database();
    let (app, mut client) = (Arc::new(app(&url).await), connect(&url).await);
    let first = app.enqueue(part(1)).await.unwrap();
    let transaction = client.transaction().await.unwrap();
    transaction.execute(&ends(first.id()), &[]).await.unwrap();
    let (caller, call) = (app.clone(), part(2).after(&first));
    let enqueues = tokio::spawn(async move { caller.enqueue(call).await });
    eventually("the enqueue waits", async || tell(&url, WAITS).unwrap() == "t").await;
    transaction.commit().await.unwrap();
    let next = in_time(enqueues).await.unwrap().unwrap();
    let state = open(&url).await.job(next.id()).await.unwrap().unwrap().standing.state;
    assert!(state.due().is_some(), "nobody else would let it on: {state:?}");
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test(flavor = "multi_thread")]
async fn of_two_ends_at_once_the_second_sees_the_first() {
    let url = shared().new_database();
    let app = app(&url).await;
    let parts = app.enqueue_all([part(1), part(2)]).await.unwrap();
    let next = app.enqueue(part(3).after(&parts)).await.unwrap();
    let (mut one, other) = (connect(&url).await, connect(&url).await);
    let transaction = one.transaction().await.unwrap();
    transaction.execute(&ends(parts[0].id()), &[]).await.unwrap();
    let second = ends(parts[1].id());
    let ends = tokio::spawn(async move { other.execute(&second, &[]).await });
    eventually("the second end waits", async || tell(&url, WAITS).unwrap() == "t").await;
    transaction.commit().await.unwrap();
    in_time(ends).await.unwrap().unwrap();
    let state = open(&url).await.job(next.id()).await.unwrap().unwrap().standing.state;
    assert!(matches!(state, State::Waiting { parents: 0, .. }), "nobody else would let it on: {state:?}");
}
