//! Calls whose job's id the caller says.

use std::{collections::HashMap, time::Duration};

use qtasks::{
    Error, Result,
    prelude::*,
    store::{Budget, Find},
};
use qtasks_tests::{Stage, on_every_store};

on_every_store![
    a_call_that_is_made_again_with_its_id_is_the_same_job,
    an_id_is_that_of_its_job_whatever_has_become_of_it,
    an_id_of_another_job_is_an_error_and_changes_nothing,
    of_many_calls_none_is_enqueued_where_an_id_is_that_of_another_job,
    a_body_can_say_the_id_too,
];

#[qtask]
async fn named(n: u32) -> u32 {
    n
}

#[qtask]
async fn named_otherwise(n: u32) -> u32 {
    n
}

#[qtask]
async fn with_a_map(map: HashMap<u32, f64>) -> usize {
    map.len()
}

#[qtask(echo = true, retry = 0)]
async fn enqueues_named(ctx: TaskContext, id: JobId) -> Result<JobId> {
    Ok(ctx.enqueue(named(7).id(id)).await?.id())
}

async fn count(stage: &Stage) -> usize {
    stage.app.find(Find::default().oldest_first()).budget(Budget::jobs(100)).await.unwrap().jobs.len()
}

async fn a_call_that_is_made_again_with_its_id_is_the_same_job(stage: Stage) {
    let id = JobId::new();
    let job = stage.app.enqueue(named(1).id(id).priority(3)).await.unwrap();
    assert_eq!(job.id(), id);
    let again = stage.app.enqueue(named(1).id(id).delay(Duration::from_secs(9)).queue("other")).await.unwrap();
    assert_eq!(again.id(), id);
    let all = stage.app.enqueue_all([named(1).id(id), named(2).into_call(), named(1).id(id)]).await.unwrap();
    assert_eq!((all[0].id(), all[2].id(), count(&stage).await), (id, id, 2));
    let found = stage.app.find(Find::default().oldest_first()).budget(Budget::jobs(1)).await.unwrap().jobs.remove(0);
    assert_eq!((found.call.id, found.call.priority, &*found.call.queue), (id, 3, "default"), "the first call counts");
}

async fn an_id_is_that_of_its_job_whatever_has_become_of_it(stage: Stage) {
    let map: HashMap<_, _> = (0..20).map(|n| (n, f64::from(n) / 3.0)).collect();
    let (id, ended) = (JobId::new(), JobId::new());
    stage.app.enqueue(with_a_map(map.clone()).id(id)).await.unwrap();
    stage.app.enqueue(named(2).id(ended)).await.unwrap();
    stage.work().await;
    // A map of its own says its keys in another order.
    let map = map.into_iter().collect();
    assert_eq!(stage.app.enqueue(with_a_map(map).id(id)).await.unwrap().result().await.unwrap(), 20);
    assert_eq!(stage.app.enqueue(named(2).id(ended)).await.unwrap().result().await.unwrap(), 2);
    assert_eq!(count(&stage).await, 2);
}

async fn an_id_of_another_job_is_an_error_and_changes_nothing(stage: Stage) {
    let id = JobId::new();
    stage.app.enqueue(named(1).id(id)).await.unwrap();
    let error = stage.app.enqueue(named_otherwise(1).id(id)).await.unwrap_err();
    assert_eq!(error.to_string(), format!("job {id} is one of the task `named`, not of `named_otherwise`"));
    assert!(!error.is_store_trouble());
    let error = stage.app.enqueue(named(2).id(id)).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "job {id} of the task `named` is there with other arguments; an id names one call, so give this one another"
        )
    );
    let found = stage.app.find(Find::default().oldest_first()).budget(Budget::jobs(9)).await.unwrap().jobs;
    assert_eq!((found.len(), &*found[0].call.task, found[0].call.args.as_str()), (1, "named", r#"{"n":1}"#));
}

async fn of_many_calls_none_is_enqueued_where_an_id_is_that_of_another_job(stage: Stage) {
    let (id, free) = (JobId::new(), JobId::new());
    stage.app.enqueue(named(1).id(id)).await.unwrap();
    for calls in [[named(5).into_call(), named(2).id(id)], [named(5).id(free), named(6).id(free)]] {
        let error = stage.app.enqueue_all(calls).await.unwrap_err();
        assert!(matches!(error, Error::OtherArguments { .. }), "{error}");
        assert_eq!(count(&stage).await, 1);
    }
}

async fn a_body_can_say_the_id_too(stage: Stage) {
    let id = JobId::new();
    let [job, again] = [(); 2].map(|()| enqueues_named(id));
    let jobs = stage.app.enqueue_all([job, again]).await.unwrap();
    let other = JobId::new();
    stage.app.enqueue(named(8).id(other)).await.unwrap();
    let refused = stage.app.enqueue(enqueues_named(other)).await.unwrap();
    stage.work().await;
    for job in jobs {
        assert_eq!(job.result().await.unwrap(), id);
    }
    assert_eq!(stage.app.job::<named>(id).await.unwrap().result().await.unwrap(), 7);
    let error = refused.result().await.unwrap_err().to_string();
    assert!(error.contains("is there with other arguments"), "{error}");
}
