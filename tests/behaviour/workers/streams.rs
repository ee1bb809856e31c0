//! The values of a job, live and afterwards.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use qtasks::{Count, Error, prelude::*, store::Memory};
use qtasks_tests::{
    Diary, Stage,
    edge::{Behind, CarryOut, Edge},
    in_time,
    ledger::Ledger,
    on_every_store,
};
use serde_json::Value;

on_every_store![
    a_stream_gives_each_value_before_the_job_ends,
    a_stream_gives_all_values_whenever_it_is_opened,
    a_stream_begins_where_it_is_told_to,
    a_neighbour_sees_the_values_live,
    a_stream_of_many_values_leaves_none_out,
    a_stream_of_a_dead_job_ends_in_its_error,
    a_stream_of_a_cancelled_job_ends_in_an_error,
    a_stream_of_a_plain_task_is_its_end,
    streams_give_the_items_of_the_collection,
    a_stream_of_no_job_is_an_error,
    a_result_that_is_waited_for_comes_when_the_job_ends,
];

async fn when_told(value: u32, diary: State<Diary>) -> u32 {
    diary.told(&format!("tell {value}")).await;
    value * 10
}

#[qtask(generate_handler = when_told)]
async fn tells(n: u32) -> Vec<u32> {
    for value in 0..n {
        yield_!(value);
    }
}

async fn next<T>(stream: &mut (impl futures::Stream<Item = qtasks::Result<T>> + Unpin)) -> Option<qtasks::Result<T>> {
    in_time(stream.next()).await
}

async fn all<T: std::fmt::Debug>(stream: impl futures::Stream<Item = qtasks::Result<T>>) -> Vec<T> {
    in_time(stream.map(Result::unwrap).collect()).await
}

async fn a_stream_gives_each_value_before_the_job_ends(stage: Stage) {
    let worker = stage.app.worker().start().await.unwrap();
    let job = stage.app.enqueue(tells(3)).await.unwrap();
    let (mut first, mut second) = (job.stream(), job.clone().stream());
    for value in 0..3 {
        stage.diary.note(format!("tell {value}"));
        assert_eq!(next(&mut first).await.unwrap().unwrap(), value * 10);
        assert_eq!(next(&mut second).await.unwrap().unwrap(), value * 10);
        if value < 2 {
            assert_eq!(job.status().await.unwrap().state.name(), "running");
        }
    }
    assert!(next(&mut first).await.is_none() && next(&mut first).await.is_none());
    assert!(next(&mut second).await.is_none());
    worker.shutdown().await.unwrap();
}

async fn a_stream_gives_all_values_whenever_it_is_opened(stage: Stage) {
    let job = stage.app.enqueue(tells(4)).await.unwrap();
    let before = job.stream();
    let worker = stage.app.worker().start().await.unwrap();
    for value in [0, 1] {
        stage.diary.note(format!("tell {value}"));
    }
    let mut first = job.stream();
    next(&mut first).await.unwrap().unwrap();
    next(&mut first).await.unwrap().unwrap();
    let between = job.stream();
    for value in [2, 3] {
        stage.diary.note(format!("tell {value}"));
    }
    assert_eq!(all(before).await, [0, 10, 20, 30]);
    assert_eq!(all(between).await, [0, 10, 20, 30]);
    assert_eq!(all(first).await, [20, 30]);
    assert_eq!(all(job.stream()).await, [0, 10, 20, 30], "after the end");
    worker.shutdown().await.unwrap();
}

async fn a_stream_begins_where_it_is_told_to(stage: Stage) {
    let job = stage.app.enqueue(tells(4)).await.unwrap();
    let (live, beyond) = (job.stream_from(2), job.stream_from(9));
    for value in 0..4 {
        stage.diary.note(format!("tell {value}"));
    }
    stage.work().await;
    assert_eq!(all(live).await, [20, 30]);
    assert_eq!(all(beyond).await, [0; 0]);
    assert_eq!(all(job.stream_from(3)).await, [30]);
    assert_eq!(all(job.stream_from(4)).await, [0; 0]);
}

async fn a_neighbour_sees_the_values_live(stage: Stage) {
    let neighbour = stage.neighbour().await;
    let worker = stage.app.worker().start().await.unwrap();
    let job = stage.app.enqueue(tells(3)).await.unwrap();
    let mut values = neighbour.job::<tells>(job.id()).await.unwrap().stream();
    for value in 0..3 {
        stage.diary.note(format!("tell {value}"));
        assert_eq!(next(&mut values).await.unwrap().unwrap(), value * 10);
    }
    assert!(next(&mut values).await.is_none());
    worker.shutdown().await.unwrap();
}

#[qtask]
async fn counts(n: u32) -> Vec<u32> {
    for value in 0..n {
        yield_!(value);
    }
}

async fn a_stream_of_many_values_leaves_none_out(stage: Stage) {
    let job = stage.app.enqueue(counts(10_000)).await.unwrap();
    let live = tokio::spawn(all(job.stream()));
    stage.work().await;
    let expected: Vec<_> = (0..10_000).collect();
    assert_eq!(in_time(live).await.unwrap(), expected);
    assert_eq!(all(job.stream()).await, expected);
    assert_eq!(job.result().await.unwrap(), expected);
}

#[qtask(retry = 0)]
fn fails_after(n: u32) -> Result<Vec<u32>, String> {
    for value in 0..n {
        yield_!(value);
    }
    Err("that was all".to_owned())
}

async fn a_stream_of_a_dead_job_ends_in_its_error(stage: Stage) {
    let job = stage.app.enqueue(fails_after(2)).await.unwrap();
    let live = job.stream();
    stage.work().await;
    for mut values in [live, job.stream()] {
        assert_eq!(next(&mut values).await.unwrap().unwrap(), 0);
        assert_eq!(next(&mut values).await.unwrap().unwrap(), 1);
        let error = next(&mut values).await.unwrap().unwrap_err();
        assert!(matches!(&error, Error::Dead { error, .. } if error == "that was all"), "{error}");
        assert!(next(&mut values).await.is_none());
    }
}

async fn a_stream_of_a_cancelled_job_ends_in_an_error(stage: Stage) {
    let job = stage.app.enqueue(counts(2)).await.unwrap();
    let mut live = job.stream();
    job.cancel().await.unwrap();
    for values in [&mut live, &mut job.stream()] {
        assert!(matches!(next(values).await, Some(Err(Error::Cancelled { .. }))));
        assert!(next(values).await.is_none());
    }
}

#[qtask]
async fn returns_a_list() -> Vec<u32> {
    vec![1, 2]
}

#[qtask(retry = 0)]
async fn returns_no_list() -> Result<u32, String> {
    Err("none".to_owned())
}

async fn a_stream_of_a_plain_task_is_its_end(stage: Stage) {
    let list = stage.app.enqueue(returns_a_list()).await.unwrap();
    let none = stage.app.enqueue(returns_no_list()).await.unwrap();
    let live = list.stream();
    stage.work().await;
    assert_eq!(all(live).await, [0; 0]);
    assert_eq!(all(list.stream_as::<String>()).await, [""; 0]);
    assert_eq!(list.result().await.unwrap(), [1, 2]);
    let mut values = none.stream_as::<u32>();
    assert!(matches!(next(&mut values).await, Some(Err(Error::Dead { .. }))));
    assert!(next(&mut values).await.is_none());
}

fn named(value: u32) -> (u32, String) {
    (value, format!("no {value}"))
}

#[qtask(generate_handler = named)]
async fn names(n: u32) -> BTreeMap<u32, String> {
    for value in 0..n {
        yield_!(value);
    }
}

#[qtask(generate_handler = named)]
async fn counts_names(n: u32) -> Count {
    for value in 0..n {
        yield_!(value);
    }
}

async fn streams_give_the_items_of_the_collection(stage: Stage) {
    let map = stage.app.enqueue(names(2)).await.unwrap();
    let count = stage.app.enqueue(counts_names(2)).await.unwrap();
    stage.work().await;
    let pairs = [(0, "no 0".to_owned()), (1, "no 1".to_owned())];
    assert_eq!(all(map.stream()).await, pairs);
    assert_eq!(all(count.stream()).await, [serde_json::json!([0, "no 0"]), serde_json::json!([1, "no 1"])]);
    assert_eq!(all(count.stream_as::<(u32, String)>()).await, pairs);
    assert_eq!(all(count.stream_as::<Vec<Value>>()).await.len(), 2);
    let mut wrong = count.stream_as::<bool>();
    let error = next(&mut wrong).await.unwrap().unwrap_err().to_string();
    assert!(error.starts_with("step 0 of job") && error.contains("cannot be read as `bool`"), "{error}");
    assert!(next(&mut wrong).await.is_none(), "an error is the last item");
}

async fn a_stream_of_no_job_is_an_error(stage: Stage) {
    let job = stage.app.enqueue(counts(1)).await.unwrap();
    stage.work().await;
    let later = jiff::Timestamp::MAX;
    assert_eq!(stage.store.prune(later, later, 10).await.unwrap(), 1);
    let mut values = job.stream();
    assert!(matches!(next(&mut values).await, Some(Err(Error::NoSuchJob(id))) if id == job.id()));
    assert!(next(&mut values).await.is_none());
    assert!(matches!(job.cancel().await, Err(Error::NoSuchJob(_))));
    assert!(matches!(job.status().await, Err(Error::NoSuchJob(_))));
}

async fn a_result_that_is_waited_for_comes_when_the_job_ends(stage: Stage) {
    let job = stage.app.enqueue(tells(1)).await.unwrap();
    let waiting = tokio::spawn({
        let job = job.clone();
        async move { job.result().await }
    });
    let worker = stage.app.worker().start().await.unwrap();
    stage.diary.note("tell 0");
    assert_eq!(in_time(waiting).await.unwrap().unwrap(), [0]);
    worker.shutdown().await.unwrap();
}

/// Counts the calls of a store by their names.
#[derive(Debug, Default)]
struct Counting(Mutex<BTreeMap<&'static str, usize>>);

impl Edge for Counting {
    async fn pass<T: Send + 'static>(&self, call: &'static str, carry_out: CarryOut<T>) -> qtasks::Result<T> {
        *self.0.lock().unwrap().entry(call).or_default() += 1;
        carry_out().await
    }
}

/// They may be large, and are the same each time.
#[tokio::test]
async fn who_waits_for_a_job_does_not_read_its_arguments() {
    let store = Arc::new(Behind::new(Counting::default(), Arc::new(Memory::new()), &Ledger::default()));
    let stage = Stage::on(store.clone()).await;
    let job = stage.app.enqueue(tells(3)).await.unwrap();
    (0..3).for_each(|value| stage.diary.note(format!("tell {value}")));
    let (values, result, ()) = tokio::join!(all(job.stream()), job.result(), stage.work());
    assert_eq!((values, result.unwrap()), (vec![0, 10, 20], vec![0, 10, 20]));
    let calls = store.edge.0.lock().unwrap().clone();
    assert!(calls["standing"] >= 4, "both look before the end and after it: {calls:?}");
    assert_eq!(calls.get("job"), None, "{calls:?}");
}
