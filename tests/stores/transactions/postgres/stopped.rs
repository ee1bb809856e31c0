//! Handlers that never end, and those that unwind: they hold up no worker, and leave nothing behind.

use std::time::Duration;

use qtasks::{Count, postgres::Transaction, prelude::*};
use qtasks_tests::{Diary, in_time, servers::postgres::url};

use crate::{
    Sql, insert, make_shared_tables,
    rules::saving::{polled, save},
    saved_values, stage,
};

/// Never ends at value 2.
async fn never_ends(tx: &mut Transaction<'_>, value: i64, diary: State<Diary>) -> Sql<i64> {
    save(tx, value).await?;
    if value == 2 && diary.count("let go") == 0 {
        diary.note("stuck");
        std::future::pending::<()>().await;
    }
    Ok(value)
}

macro_rules! gets_stuck {
    ($($task:ident: [$($kind:tt)*] $($option:ident = $text:literal),*;)*) => {
        $(#[qtask(generate_handler = never_ends, retry = 0 $(, $option = $text)*)]
        $($kind)* $task() -> Vec<i64> {
            for value in 0..4 {
                yield_!(value);
            }
        })*
    };
}

gets_stuck! {
    gets_stuck: [async fn] max_time = "2s";
    gets_stuck_called: [fn] max_time = "2s";
    gets_stuck_each: [async fn] max_time = "2s", checkpoint = "each";
    gets_stuck_for_ever: [async fn] queue = "default";
    gets_stuck_for_ever_each: [async fn] checkpoint = "each";
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_never_ends_is_stopped_when_the_time_of_its_attempt_is_up() {
    let stage = stage().await;
    let jobs = [
        stage.app.enqueue(gets_stuck()).await.unwrap(),
        stage.app.enqueue(gets_stuck_called()).await.unwrap(),
        stage.app.enqueue(gets_stuck_each()).await.unwrap(),
    ];
    let worker = stage.app.worker().start().await.unwrap();
    for job in jobs {
        let error = in_time(job.result()).await.unwrap_err().to_string();
        assert!(error.ends_with("is dead: the attempt took longer than its max_time of 2s"), "{error}");
        assert_eq!(saved_values(job.id()), [0, 1], "what was handled before is durable");
        assert_eq!(job.status().await.unwrap().steps, 2);
    }
    worker.shutdown().await.unwrap();
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_never_ends_does_not_hold_up_the_end_of_its_worker() {
    let stage = stage().await;
    let jobs = [
        stage.app.enqueue(gets_stuck_for_ever()).await.unwrap(),
        stage.app.enqueue(gets_stuck_for_ever_each()).await.unwrap(),
    ];
    let worker = stage.app.worker().grace(Duration::from_millis(10)).start().await.unwrap();
    stage.diary.until_times("stuck", 2).await;
    in_time(worker.shutdown()).await.unwrap();
    for job in &jobs {
        let status = job.status().await.unwrap();
        assert_eq!((status.state.name(), status.failures, status.steps), ("waiting", 0, 2));
        assert_eq!(saved_values(job.id()), [0, 1]);
    }
    stage.diary.note("let go");
    stage.work().await;
    for job in &jobs {
        assert_eq!(job.result().await.unwrap(), [0, 1, 2, 3]);
        assert_eq!(saved_values(job.id()), [0, 1, 2, 3]);
    }
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_cancelled_leaves_nothing_of_the_handler_that_runs() {
    let stage = stage().await;
    let worker = stage.app.worker().start().await.unwrap();
    let job = stage.app.enqueue(gets_stuck_for_ever_each()).await.unwrap();
    stage.diary.until("stuck").await;
    job.cancel().await.unwrap();
    let error = in_time(job.result()).await.unwrap_err().to_string();
    assert!(error.contains("was cancelled"), "{error}");
    in_time(worker.shutdown()).await.unwrap();
    assert_eq!(saved_values(job.id()), [0, 1]);
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_takes_longer_than_the_store_gives_it_fails() {
    make_shared_tables();
    let diary = Diary::default();
    let app = QueueTasks::builder().store(format!("{}&timeout=1", url())).state(diary.clone()).build().await.unwrap();
    let worker = app.worker().start().await.unwrap();
    let job = app.enqueue(gets_stuck_for_ever()).await.unwrap();
    let error = in_time(job.result()).await.unwrap_err().to_string();
    assert!(
        error.ends_with("is dead: a handler in a transaction took longer than 1 s, which is the store's `timeout`"),
        "{error}"
    );
    assert_eq!(saved_values(job.id()), [0, 1]);
    worker.shutdown().await.unwrap();
}

/// Unwinds when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "dropped half way");
    }
}

async fn is_stopped_with_a_bomb(tx: &mut Transaction<'_>, value: i64) -> Sql<i64> {
    let _bomb = Bomb;
    insert(tx, value, &TaskContext::current()).await?;
    std::future::pending().await
}

#[qtask(generate_handler = is_stopped_with_a_bomb, retry = 0, max_time = "1s")]
async fn holds_a_bomb() -> Count {
    yield_!(1);
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_unwinds_when_it_is_stopped_holds_up_no_worker() {
    let stage = stage().await;
    let worker = stage.app.worker().start().await.unwrap();
    let job = stage.app.enqueue(holds_a_bomb()).await.unwrap();
    let error = in_time(job.result()).await.unwrap_err().to_string();
    assert!(error.ends_with("is dead: the attempt took longer than its max_time of 1s"), "{error}");
    assert_eq!((saved_values(job.id()), job.status().await.unwrap().failures), (vec![], 1));
    let job = stage.app.enqueue(polled(3)).await.unwrap();
    assert_eq!(in_time(job.result()).await.unwrap(), [0, 10, 20]);
    in_time(worker.shutdown()).await.unwrap();
}
