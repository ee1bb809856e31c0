//! `app.run`: here and now, one try, nothing stored.

use qtasks::{Budget, Error, Find, JobId, prelude::*};
use qtasks_tests::{Diary, Stage, on_every_store, whole};

on_every_store![
    running_stores_nothing,
    running_makes_one_try_and_gives_the_whole_error,
    attaching_checks_the_task_and_the_job,
];

fn handle(value: i64, diary: State<Diary>) -> Result<i64, std::num::ParseIntError> {
    diary.note(format!("handle {value}"));
    if value == 2 { "x".parse() } else { Ok(value) }
}

#[qtask(generate_handler = handle, backoff = "1ms..1ms")]
async fn counts(n: i64) -> Vec<i64> {
    for value in 0..n {
        yield_!(value);
    }
}

#[qtask]
fn other() {}

async fn running_stores_nothing(stage: Stage) {
    assert_eq!(stage.app.run(counts(2)).await.unwrap(), [0, 1]);
    stage.app.run(other().queue("elsewhere").priority(5)).await.unwrap();
    assert_eq!(stage.app.find(Find::default().oldest_first()).budget(Budget::jobs(10)).await.unwrap().jobs, []);
}

async fn running_makes_one_try_and_gives_the_whole_error(stage: Stage) {
    let error = stage.app.run(counts(5)).await.unwrap_err();
    assert!(matches!(error, Error::Failed { task: "counts", .. }));
    assert_eq!(whole(&error), "the task `counts` failed: invalid digit found in string");
    assert_eq!(stage.diary.lines(), ["handle 0", "handle 1", "handle 2"]);
}

async fn attaching_checks_the_task_and_the_job(stage: Stage) {
    let app = &stage.app;
    let enqueued = app.enqueue(counts(2)).await.unwrap();
    stage.work().await;
    let attached = app.job::<counts>(enqueued.id()).await.unwrap();
    assert_eq!(attached.result().await.unwrap(), [0, 1]);
    assert_eq!(app.any_job(enqueued.id()).await.unwrap().result().await.unwrap(), serde_json::json!([0, 1]));
    let error = app.job::<other>(enqueued.id()).await.unwrap_err().to_string();
    assert_eq!(error, format!("job {} is one of the task `counts`, not of `other`", enqueued.id()));
    let unknown = JobId::new();
    for error in [app.job::<counts>(unknown).await.unwrap_err(), app.any_job(unknown).await.unwrap_err()] {
        assert!(matches!(error, Error::NoSuchJob(id) if id == unknown));
    }
    let text = enqueued.id().to_string();
    assert_eq!(app.job::<counts>(text.parse().unwrap()).await.unwrap().id(), enqueued.id());
}
