//! The first examples of the page, which give the results that are printed there.

use qtasks::prelude::*;
use qtasks_tests::{Stage, on_every_store};

on_every_store![the_first_example_gives_what_the_page_prints, the_second_example_gives_what_the_page_prints];

async fn yield_func(result: i64) -> i64 {
    result + 2
}

#[qtask(generate_handler = yield_func, echo = true)]
#[allow(clippy::mut_range_bound)]
async fn test_yield(mut n: i64) -> Vec<i64> {
    for _ in 0..n {
        n += 1;
        yield_!(n);
    }
}

fn double(value: i64) -> i64 {
    value * 2
}

#[qtask(generate_handler = double)]
fn sync_generator(n: i64) -> Vec<i64> {
    for i in 0..n {
        yield_!(i + 1);
    }
}

async fn the_first_example_gives_what_the_page_prints(stage: Stage) {
    let job = stage.app.enqueue(test_yield(5)).await.unwrap();
    stage.work().await;
    assert_eq!(job.result().await.unwrap(), [8, 9, 10, 11, 12]);
    assert_eq!(stage.app.run(test_yield(5)).await.unwrap(), [8, 9, 10, 11, 12]);
}

async fn the_second_example_gives_what_the_page_prints(stage: Stage) {
    let job = stage.app.enqueue(sync_generator(5)).await.unwrap();
    stage.work().await;
    assert_eq!(job.result().await.unwrap(), [2, 4, 6, 8, 10]);
    assert_eq!(stage.app.run(sync_generator(5)).await.unwrap(), [2, 4, 6, 8, 10]);
}
