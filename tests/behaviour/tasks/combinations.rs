//! `async fn` and `fn` tasks with every form of handler.

use qtasks::prelude::*;
use qtasks_tests::{Diary, Stage, on_every_store};

on_every_store![every_form_of_task_and_handler_gives_the_same_result];

fn plain(value: i64) -> i64 {
    value * 10
}

async fn later(value: i64) -> i64 {
    tokio::task::yield_now().await;
    value * 10
}

fn plain_try(value: i64) -> Result<i64, String> {
    Ok(value * 10)
}

async fn later_try(value: i64) -> anyhow::Result<i64> {
    tokio::task::yield_now().await;
    Ok(value * 10)
}

fn plain_more(value: i64, diary: State<Diary>, ctx: TaskContext) -> i64 {
    diary.note(format!("{} {value}", ctx.task().name));
    value * 10
}

async fn later_more(value: i64, ctx: TaskContext, diary: State<Diary>) -> Result<i64, TaskError> {
    tokio::task::yield_now().await;
    diary.note(format!("{} {value}", ctx.task().name));
    Ok(value * 10)
}

fn plain_state(value: i64, diary: State<Diary>) -> Result<i64, std::io::Error> {
    diary.note(format!("state {value}"));
    Ok(value * 10)
}

async fn later_context(value: i64, ctx: TaskContext) -> i64 {
    assert_eq!(ctx.attempt(), 1);
    value * 10
}

macro_rules! combinations {
    ($($polled:ident $called:ident: $handler:ident;)*) => {
        $(#[qtask(generate_handler = $handler)]
        async fn $polled(n: i64) -> Vec<i64> {
            for i in 0..n {
                yield_!(i);
                tokio::task::yield_now().await;
            }
        }

        #[qtask(generate_handler = $handler)]
        fn $called(n: i64) -> Vec<i64> {
            for i in 0..n {
                yield_!(i);
            }
        })*

        async fn every_form_of_task_and_handler_gives_the_same_result(stage: Stage) {
            let app = &stage.app;
            let jobs = [$(
                app.enqueue($polled(3)).await.unwrap(),
                app.enqueue($called(3)).await.unwrap(),
            )*];
            stage.work().await;
            for job in jobs {
                assert_eq!(job.result().await.unwrap(), [0, 10, 20]);
            }
            $(
                assert_eq!(app.run($polled(3)).await.unwrap(), [0, 10, 20]);
                assert_eq!(app.run($called(3)).await.unwrap(), [0, 10, 20]);
            )*
            assert_eq!(stage.diary.count("polled_plain_more 2"), 2);
            assert_eq!(stage.diary.count("called_later_more 2"), 2);
        }
    };
}

combinations! {
    polled_plain called_plain: plain;
    polled_later called_later: later;
    polled_plain_try called_plain_try: plain_try;
    polled_later_try called_later_try: later_try;
    polled_plain_more called_plain_more: plain_more;
    polled_later_more called_later_more: later_more;
    polled_plain_state called_plain_state: plain_state;
    polled_later_context called_later_context: later_context;
}

/// A handle that cannot go to another thread, as a database cursor may be.
struct Cursor(std::rc::Rc<i64>);

#[qtask(generate_handler = later)]
fn holds_a_cursor_across_yields() -> Vec<i64> {
    let cursor = Cursor(std::rc::Rc::new(4));
    yield_!(*cursor.0);
    yield_!(*cursor.0 + 1);
}

#[qtask]
fn blocks_on_a_runtime_of_its_own() -> i64 {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async { 5 })
}

#[tokio::test]
async fn the_body_of_a_fn_stays_on_its_thread_and_may_block() {
    let stage = Stage::in_memory(|builder| builder).await;
    let cursor = stage.app.enqueue(holds_a_cursor_across_yields()).await.unwrap();
    let blocks = stage.app.enqueue(blocks_on_a_runtime_of_its_own()).await.unwrap();
    stage.work().await;
    assert_eq!(cursor.result().await.unwrap(), [40, 50]);
    assert_eq!(blocks.result().await.unwrap(), 5);
}
