//! What a running task can ask of its surroundings.

use qtasks::{job::Progress, prelude::*};
use qtasks_tests::{Diary, Stage, eventually, on_every_store};

on_every_store![
    a_task_and_its_handler_see_the_same_context,
    the_current_context_is_that_of_the_task_everywhere,
    the_key_of_a_value_is_the_same_whenever_it_is_handled,
    progress_is_seen_while_the_task_runs,
    progress_of_a_plain_task_outlives_it,
    a_state_is_shared_and_not_cloned,
];

async fn tells(value: i64, ctx: TaskContext, diary: State<Diary>) -> i64 {
    diary.note(format!("handler {} {} {}", ctx.job_id(), ctx.attempt(), ctx.idempotency_key()));
    value
}

#[qtask(generate_handler = tells, echo = true, tags = ["a", "b"], description = "Tells of itself.")]
async fn tells_of_itself(ctx: TaskContext, diary: State<Diary>) -> Vec<i64> {
    let schema = ctx.task();
    diary.note(format!("body {} {} {}", ctx.job_id(), ctx.attempt(), schema.name));
    assert!(schema.echo && schema.awaiting && schema.generating.is_some());
    assert_eq!(
        (schema.tags, schema.description, schema.handler),
        (&["a", "b"][..], Some("Tells of itself."), Some("tells"))
    );
    assert!(!ctx.is_shutting_down());
    yield_!(1);
    yield_!(2);
}

async fn a_task_and_its_handler_see_the_same_context(stage: Stage) {
    let job = stage.app.enqueue(tells_of_itself()).await.unwrap();
    stage.work().await;
    let id = job.id();
    assert_eq!(
        stage.diary.lines(),
        [format!("body {id} 1 tells_of_itself"), format!("handler {id} 1 {id}:0"), format!("handler {id} 1 {id}:1"),]
    );
}

fn current(_: i64) -> String {
    TaskContext::current().task().name.to_owned()
}

async fn current_later(_: i64) -> String {
    tokio::task::yield_now().await;
    TaskContext::current().task().name.to_owned()
}

macro_rules! currents {
    ($($polled:ident $called:ident: $handler:ident;)*) => {
        $(#[qtask(generate_handler = $handler)]
        async fn $polled() -> Vec<String> {
            tokio::task::yield_now().await;
            assert_eq!(TaskContext::current().task().name, stringify!($polled));
            yield_!(1);
        }

        #[qtask(generate_handler = $handler)]
        fn $called() -> Vec<String> {
            assert_eq!(TaskContext::current().task().name, stringify!($called));
            yield_!(1);
        })*

        async fn the_current_context_is_that_of_the_task_everywhere(stage: Stage) {
            $(
                let (polled, called) = ($polled(), $called());
                let (polled, called) = (stage.app.enqueue(polled).await.unwrap(), stage.app.enqueue(called).await.unwrap());
                stage.work().await;
                assert_eq!(polled.result().await.unwrap(), [stringify!($polled)]);
                assert_eq!(called.result().await.unwrap(), [stringify!($called)]);
                assert_eq!(stage.app.run($called()).await.unwrap(), [stringify!($called)]);
            )*
            assert!(TaskContext::try_current().is_none());
        }
    };
}

currents! {
    polled_current called_current: current;
    polled_current_later called_current_later: current_later;
}

async fn fails_once_at_two(value: i64, ctx: TaskContext, diary: State<Diary>) -> Result<i64, String> {
    diary.note(format!("value {value} is {}", ctx.idempotency_key().split(':').next_back().unwrap()));
    if value == 2 && ctx.attempt() == 1 { Err("once".to_owned()) } else { Ok(value) }
}

#[qtask(generate_handler = fails_once_at_two, backoff = "1ms..1ms", echo = true)]
async fn keeps_its_keys(ctx: TaskContext, diary: State<Diary>) -> Vec<i64> {
    for value in 0..4 {
        let key = ctx.idempotency_key();
        diary.note(key.strip_prefix(&format!("{}:", ctx.job_id())).unwrap());
        yield_!(value);
    }
}

async fn the_key_of_a_value_is_the_same_whenever_it_is_handled(stage: Stage) {
    let worker = stage.app.worker().start().await.unwrap();
    let job = stage.app.enqueue(keeps_its_keys()).await.unwrap();
    assert_eq!(job.result().await.unwrap(), [0, 1, 2, 3]);
    assert_eq!(stage.diary.count("value 2 is 2"), 2);
    for (value, times) in [(0, 2), (1, 2), (2, 2), (3, 1)] {
        assert_eq!(stage.diary.count(&format!("before:{value}")), times, "{:?}", stage.diary);
    }
    worker.shutdown().await.unwrap();
}

#[qtask(echo = true)]
async fn makes_progress(ctx: TaskContext, diary: State<Diary>) -> Vec<i64> {
    ctx.progress(1, 3);
    diary.told("more").await;
    ctx.progress(2, 3);
    yield_!(0);
    diary.told("end").await;
    ctx.progress(3, 3);
}

async fn progress_is_seen_while_the_task_runs(stage: Stage) {
    let worker = stage.app.worker().start().await.unwrap();
    let job = stage.app.enqueue(makes_progress()).await.unwrap();
    let at = async |done| {
        eventually("progress", async || job.status().await.unwrap().progress == Some(Progress { done, total: 3 }))
            .await;
    };
    at(1).await;
    stage.diary.note("more");
    at(2).await;
    stage.diary.note("end");
    job.result().await.unwrap();
    at(3).await;
    worker.shutdown().await.unwrap();
}

#[qtask]
fn ends_with_progress() {
    TaskContext::current().progress(7, 9);
}

async fn progress_of_a_plain_task_outlives_it(stage: Stage) {
    let job = stage.app.enqueue(ends_with_progress()).await.unwrap();
    stage.work().await;
    assert_eq!(job.status().await.unwrap().progress, Some(Progress { done: 7, total: 9 }));
}

#[qtask]
fn notes_through_its_state(line: String, diary: State<Diary>) {
    diary.note(line);
}

async fn a_state_is_shared_and_not_cloned(stage: Stage) {
    stage.app.run(notes_through_its_state("run".into())).await.unwrap();
    stage.app.enqueue(notes_through_its_state("job".into())).await.unwrap();
    stage.work().await;
    assert_eq!(stage.diary.lines(), ["run", "job"]);
}
