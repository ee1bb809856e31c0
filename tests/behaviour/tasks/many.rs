//! Calls of different tasks that are enqueued together.

use qtasks::{
    AnyCall, Error, Limits,
    prelude::*,
    store::{Budget, Find},
};
use qtasks_tests::{Stage, on_every_store};

on_every_store![
    calls_of_different_tasks_have_handles_in_their_order,
    of_calls_of_different_tasks_all_are_enqueued_or_none
];

#[qtask]
async fn doubled(n: u32) -> u32 {
    2 * n
}

#[qtask(queue = "texts")]
async fn loud(text: String) -> String {
    text.to_uppercase()
}

async fn calls_of_different_tasks_have_handles_in_their_order(stage: Stage) {
    let calls: [AnyCall; 3] = [doubled(4).into(), loud("hey".into()).priority(7).into(), doubled(5).into()];
    let jobs = stage.app.enqueue_many(calls).await.unwrap();
    stage.work().await;
    let mut results = Vec::new();
    for job in &jobs {
        results.push(job.result().await.unwrap());
    }
    assert_eq!(results, [8.into(), "HEY".into(), serde_json::Value::from(10)]);
    let loud = stage.app.find_job(jobs[1].id()).await.unwrap().unwrap();
    assert_eq!((&*loud.call.queue, loud.call.priority), ("texts", 7));
    assert_eq!(stage.app.job::<doubled>(jobs[0].id()).await.unwrap().result().await.unwrap(), 8);
    assert!(stage.app.enqueue_many([]).await.unwrap().is_empty());
}

async fn of_calls_of_different_tasks_all_are_enqueued_or_none(stage: Stage) {
    let large = "x".repeat(Limits::default().args + 1);
    let error = stage.app.enqueue_many([doubled(1).into(), loud(large).into()]).await.unwrap_err();
    assert!(matches!(error, Error::OverLimit { .. }), "{error}");
    let id = JobId::new();
    let error = stage.app.enqueue_many([doubled(1).id(id).into(), loud("a".into()).id(id).into()]).await.unwrap_err();
    assert!(matches!(error, Error::OtherTask { .. }), "{error}");
    let found = stage.app.find(Find::default()).budget(Budget::jobs(9)).await.unwrap();
    assert!(found.jobs.is_empty(), "{:?}", found.jobs);
}
