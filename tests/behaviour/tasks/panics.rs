//! A panic is an error of its job only.

use qtasks::prelude::*;
use qtasks_tests::{Stage, in_time, on_every_store};

use super::{errors::end, skipping::skips};

on_every_store![a_panic_is_an_error_of_that_job_only, arguments_whose_decoding_panics_are_an_error_of_that_job_only,];

fn panics(value: i64) -> i64 {
    assert!(value < 1, "no more than 0, not {value}");
    value
}

async fn panics_later(value: i64) -> i64 {
    tokio::task::yield_now().await;
    panics(value)
}

#[qtask(retry = 0)]
async fn panics_in_body() {
    panic!("no more than 0, not 1");
}

#[qtask(retry = 0)]
fn panics_in_fn_body() -> Vec<i64> {
    yield_!(0);
    std::panic::panic_any(format!("no more than 0, not {}", 1));
}

#[qtask(retry = 0, generate_handler = panics)]
async fn panics_in_handler() -> Vec<i64> {
    yield_!(0);
    yield_!(1);
}

#[qtask(retry = 0, generate_handler = panics_later)]
fn panics_in_async_handler() -> Vec<i64> {
    yield_!(0);
    yield_!(1);
}

async fn a_panic_is_an_error_of_that_job_only(stage: Stage) {
    let app = &stage.app;
    let worker = app.worker().concurrency(1).start().await.unwrap();
    let ids = [
        (app.enqueue(panics_in_body()).await.unwrap().id(), 0),
        (app.enqueue(panics_in_fn_body()).await.unwrap().id(), 1),
        (app.enqueue(panics_in_handler()).await.unwrap().id(), 1),
        (app.enqueue(panics_in_async_handler()).await.unwrap().id(), 1),
    ];
    for (id, steps) in ids {
        let job = app.any_job(id).await.unwrap();
        let error = in_time(job.result()).await.unwrap_err().to_string();
        assert_eq!(error, format!("job {id} is dead: the task panicked: no more than 0, not 1"));
        assert_eq!(job.status().await.unwrap().steps, steps, "what was handled before is kept");
    }
    let after = app.enqueue(skips(2)).await.unwrap();
    assert_eq!(in_time(after.result()).await.unwrap(), [1], "the worker lives on");
    let error = app.run(panics_in_handler()).await.unwrap_err().to_string();
    assert_eq!(error, "the task `panics_in_handler` failed: the task panicked: no more than 0, not 1");
    worker.shutdown().await.unwrap();
}

#[derive(Debug, serde::Serialize)]
struct PanicsWhenRead;

impl<'de> serde::Deserialize<'de> for PanicsWhenRead {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        panic!("cannot be read");
    }
}

#[qtask(retry = 0)]
async fn takes_what_panics(_argument: PanicsWhenRead) {}

async fn arguments_whose_decoding_panics_are_an_error_of_that_job_only(stage: Stage) {
    let job = stage.app.enqueue(takes_what_panics(PanicsWhenRead)).await.unwrap();
    let error = end(&stage, &job).await;
    assert!(error.ends_with("is dead: the task panicked: cannot be read"), "{error}");
}
