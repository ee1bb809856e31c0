//! Values whose handler fails under `on_error = "skip"`.

use qtasks::prelude::*;
use qtasks_tests::{Diary, Stage, in_time, on_every_store};

on_every_store![
    a_skipped_value_is_an_error_in_the_stream_and_missing_in_the_result,
    a_skipped_value_is_not_handled_again,
    a_status_names_the_job_counts_what_was_skipped_and_has_a_json_form,
    a_body_under_skip_sees_the_error,
];

fn odd_only(value: i64, diary: State<Diary>) -> Result<i64, String> {
    diary.note(format!("handle {value}"));
    if value % 2 == 1 { Ok(value) } else { Err(format!("{value} is even")) }
}

#[qtask(generate_handler = odd_only, on_error = "skip")]
pub(super) async fn skips(n: i64) -> Vec<i64> {
    for value in 0..n {
        yield_!(value);
    }
}

#[qtask(generate_handler = odd_only, on_error = "skip")]
fn skips_and_counts(n: i64) -> qtasks::Count {
    for value in 0..n {
        yield_!(value);
    }
}

#[qtask(generate_handler = odd_only, on_error = "skip")]
fn skips_and_keeps_the_last(n: i64) -> qtasks::Last<i64> {
    for value in 0..n {
        yield_!(value);
    }
}

async fn a_skipped_value_is_an_error_in_the_stream_and_missing_in_the_result(stage: Stage) {
    let job = stage.app.enqueue(skips(5)).await.unwrap();
    let count = stage.app.enqueue(skips_and_counts(5)).await.unwrap();
    let last = stage.app.enqueue(skips_and_keeps_the_last(5)).await.unwrap();
    stage.work().await;
    let items: Vec<_> = in_time(job.stream().collect()).await;
    let read = |item: &qtasks::Result<i64>| match item {
        Ok(value) => Ok(*value),
        Err(error) => Err((error.is_skipped(), error.seq(), error.to_string())),
    };
    let skipped = |seq: u64| Err((true, Some(seq), format!("step {seq} was skipped: {seq} is even")));
    let items: Vec<_> = items.iter().map(read).collect();
    assert_eq!(items, [skipped(0), Ok(1), skipped(2), Ok(3), skipped(4)]);
    assert_eq!(job.result().await.unwrap(), [1, 3]);
    assert_eq!(count.result().await.unwrap(), 2);
    assert_eq!(last.result().await.unwrap().0, Some(3));
    assert_eq!(stage.app.run(skips(5)).await.unwrap(), [1, 3]);
    assert_eq!(stage.app.run(skips_and_counts(5)).await.unwrap(), 2);
}

async fn a_status_names_the_job_counts_what_was_skipped_and_has_a_json_form(stage: Stage) {
    let job = stage.app.enqueue(skips(3).queue("elsewhere")).await.unwrap();
    let before = job.status().await.unwrap();
    assert_eq!((before.task.as_str(), before.queue.as_str(), before.skipped), ("skips", "elsewhere", 0));
    stage.app.worker().queues(["elsewhere"]).run_until_idle().await.unwrap();
    let after = job.status().await.unwrap();
    assert_eq!((after.steps, after.skipped, after.enqueued), (3, 2, before.enqueued));
    let json = serde_json::to_value(&after).unwrap();
    assert_eq!([&json["task"], &json["queue"]], ["skips", "elsewhere"]);
    assert_eq!([&json["steps"], &json["skipped"]], [3, 2]);
    assert_eq!(json["enqueued"], after.enqueued.to_string());
    assert!(json.get("args").is_none(), "{json}");
}

#[qtask(generate_handler = odd_only, on_error = "skip", echo = true, backoff = "1ms..1ms")]
async fn skips_and_fails(ctx: TaskContext, n: i64) -> Result<Vec<i64>, String> {
    for value in 0..n {
        yield_!(value);
    }
    if ctx.attempt() == 1 { Err("once".to_owned()) } else { Ok(()) }
}

async fn a_skipped_value_is_not_handled_again(stage: Stage) {
    let job = stage.app.enqueue(skips_and_fails(4)).await.unwrap();
    let worker = stage.app.worker().start().await.unwrap();
    assert_eq!(in_time(job.result()).await.unwrap(), [1, 3]);
    assert_eq!(stage.diary.lines(), ["handle 0", "handle 1", "handle 2", "handle 3"]);
    worker.shutdown().await.unwrap();
}

#[qtask(generate_handler = odd_only, on_error = "skip", backoff = "1ms..1ms")]
async fn asks_what_was_skipped(co: Co<i64, qtasks::Result<i64>>, diary: State<Diary>) -> Result<Vec<i64>, String> {
    for value in 0..3 {
        match co.yield_(value).await {
            Ok(reply) => diary.note(format!("replied {reply}")),
            Err(error) => diary.note(format!("{error} ({:?})", error.seq())),
        }
    }
    if TaskContext::current().attempt() == 1 { Err("once".to_owned()) } else { Ok(()) }
}

async fn a_body_under_skip_sees_the_error(stage: Stage) {
    let job = stage.app.enqueue(asks_what_was_skipped()).await.unwrap();
    let worker = stage.app.worker().start().await.unwrap();
    assert_eq!(in_time(job.result()).await.unwrap(), [1]);
    for line in ["step 0 was skipped: 0 is even (Some(0))", "replied 1", "step 2 was skipped: 2 is even (Some(2))"] {
        assert_eq!(stage.diary.count(line), 2, "{line}, from the handler and from the record");
    }
    worker.shutdown().await.unwrap();
}
