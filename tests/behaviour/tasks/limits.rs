//! What is too much, and is said so.

use qtasks::{Budget, Error, Find, Limits, job::Reply, prelude::*};
use qtasks_tests::{Stage, in_time, on_every_store};
use serde_json::Value;

on_every_store![
    arguments_that_are_too_large_are_refused_at_enqueue,
    what_is_as_deep_as_it_may_be_is_read_back,
    a_reply_that_is_too_large_ends_the_attempt,
    a_returned_value_that_is_too_large_ends_the_attempt,
    a_name_that_is_none_is_refused_at_enqueue,
    a_task_that_is_unknown_here_is_left_alone,
];

#[qtask]
async fn takes(value: Value) -> Value {
    value
}

fn nested(depth: usize) -> Value {
    (0..depth).fold(Value::Null, |inner, _| Value::Array(vec![inner]))
}

async fn arguments_that_are_too_large_are_refused_at_enqueue(stage: Stage) {
    let error = stage.app.enqueue(takes("x".repeat(1 << 20).into())).await.unwrap_err();
    assert!(matches!(error, Error::OverLimit(_)));
    assert_eq!(
        error.to_string(),
        "the arguments: 1048588 bytes of JSON are more than the limit of 1048576; store the data elsewhere and pass its key"
    );
    let error = stage.app.enqueue(takes(nested(128))).await.unwrap_err().to_string();
    assert_eq!(error, "the arguments: arrays and objects 129 deep are more than the limit of 128");
    let calls = [takes(1.into()), takes(nested(128))];
    stage.app.enqueue_all(calls).await.unwrap_err();
    assert_eq!(
        stage.app.find(Find::default().oldest_first()).budget(Budget::jobs(10)).await.unwrap().jobs,
        [],
        "all or none"
    );
}

#[qtask]
async fn replies(value: Value) -> Vec<Value> {
    yield_!(value);
}

async fn what_is_as_deep_as_it_may_be_is_read_back(stage: Stage) {
    let taken = stage.app.enqueue(takes(nested(127))).await.unwrap();
    let replied = stage.app.enqueue(replies(nested(127))).await.unwrap();
    stage.work().await;
    assert_eq!(in_time(taken.result()).await.unwrap(), nested(127));
    assert_eq!(replied.result().await.unwrap(), [nested(127)]);
    let streamed: Vec<_> = replied.stream().map(Result::unwrap).collect().await;
    assert_eq!(streamed, [nested(127)]);
}

fn grow(size: usize) -> String {
    "x".repeat(size)
}

#[qtask(generate_handler = grow, retry = 0)]
async fn grows(sizes: Vec<usize>) -> Vec<String> {
    for size in sizes {
        yield_!(size);
    }
}

#[qtask(retry = 0)]
async fn returns_much(size: usize) -> String {
    "x".repeat(size)
}

async fn a_reply_that_is_too_large_ends_the_attempt(stage: Stage) {
    let job = stage.app.enqueue(grows(vec![1, 256 << 10, 2])).await.unwrap();
    let fits = stage.app.enqueue(grows(vec![(256 << 10) - 2])).await.unwrap();
    stage.work().await;
    let error = job.result().await.unwrap_err().to_string();
    assert!(error.contains("the handler's reply: 262146 bytes of JSON are more than the limit of 262144"), "{error}");
    assert_eq!(job.status().await.unwrap().steps, 1);
    assert_eq!(fits.result().await.unwrap()[0].len(), (256 << 10) - 2);
}

async fn a_returned_value_that_is_too_large_ends_the_attempt(stage: Stage) {
    let job = stage.app.enqueue(returns_much(1 << 20)).await.unwrap();
    stage.work().await;
    let error = job.result().await.unwrap_err().to_string();
    assert!(error.contains("the returned value") && error.contains("more than the limit of 1048576"), "{error}");
}

async fn a_name_that_is_none_is_refused_at_enqueue(stage: Stage) {
    for queue in ["", "a b", "é"] {
        let error = stage.app.enqueue(returns_much(1).queue(queue)).await.unwrap_err().to_string();
        assert!(error.starts_with(&format!("`{queue}` cannot name a queue")), "{error}");
    }
    let error = stage.app.enqueue_json("no task!", &serde_json::json!({})).await.unwrap_err().to_string();
    assert!(error.starts_with("`no task!` cannot name a task"), "{error}");
    let error = stage.app.worker().queues(["a/b"]).start().await.unwrap_err().to_string();
    assert!(error.starts_with("`a/b` cannot name a queue"), "{error}");
}

#[tokio::test]
async fn limits_can_be_set() {
    let mut limits = Limits::DEFAULT;
    limits.step = 10;
    limits.args = 20;
    limits.depth = 1;
    let stage = Stage::in_memory(|builder| builder.limits(limits)).await;
    stage.app.enqueue(takes("x".repeat(20).into())).await.unwrap_err();
    stage.app.enqueue(takes(nested(1))).await.unwrap_err();
    let job = stage.app.enqueue_json("grows", &serde_json::json!({ "n": 1 })).await.unwrap();
    stage.work().await;
    job.result().await.unwrap_err();
}

fn refuses_at_length(text: String) -> Result<String, String> {
    Err(text)
}

#[qtask(generate_handler = refuses_at_length, on_error = "skip", retry = 0)]
async fn skips_at_length(texts: Vec<String>) -> Vec<String> {
    for text in texts {
        yield_!(text);
    }
}

#[qtask(generate_handler = refuses_at_length, on_error = "skip", retry = 0)]
async fn says_what_was_skipped(text: String, co: Co<String, qtasks::Result<String>>) -> qtasks::Result<Vec<String>> {
    let said = co.yield_(text).await.unwrap_err().to_string();
    Err(qtasks::Error::Encode { what: said, source: "asked".into() })
}

/// The texts of what a job has skipped.
async fn skipped(stage: &Stage, id: JobId) -> Vec<String> {
    let steps = stage.store.steps(id, 0, 99).await.unwrap();
    let text = |step: qtasks::job::Step| match step.reply {
        Reply::Skipped(error) => error,
        Reply::Value(value) => panic!("{value} was not skipped"),
    };
    steps.into_iter().map(text).collect()
}

#[tokio::test]
async fn what_is_kept_of_a_skipped_value_is_held_to_the_limit_of_a_step() {
    let mut limits = Limits::DEFAULT;
    limits.step = 100;
    let stage = Stage::in_memory(|builder| builder.limits(limits)).await;
    let texts = [
        "x".repeat(98),
        "x".repeat(99),
        "ж".repeat(1000),
        "\"\n".repeat(1000),
        "\0".repeat(1000),
        "x".repeat(500 << 10),
    ];
    let job = stage.app.enqueue(skips_at_length(texts.to_vec())).await.unwrap();
    stage.work().await;
    assert_eq!(in_time(job.result()).await.unwrap(), [""; 0], "a long text fails no attempt");
    let kept = skipped(&stage, job.id()).await;
    assert_eq!(kept[0], texts[0], "as JSON it is as long as it may be");
    for (kept, text) in kept[1..].iter().zip(&texts[1..]) {
        let start = kept.strip_suffix("… (cut to the limit of 100 bytes)").unwrap_or_else(|| panic!("{kept}"));
        assert!(text.starts_with(start) && !start.is_empty());
        let bytes = serde_json::to_string(kept).unwrap().len();
        assert!((92..=100).contains(&bytes), "{bytes} bytes: {kept}");
    }
    // The stream, and whoever runs it here and now, are told the same.
    let streamed: Vec<_> = job.stream().map(|item| item.unwrap_err().to_string()).collect().await;
    assert_eq!(streamed[1], format!("step 1 was skipped: {}", kept[1]));
    let error = stage.app.run(says_what_was_skipped(texts[1].clone())).await.unwrap_err().to_string();
    assert!(error.contains(&kept[1]), "{error}");
}

#[tokio::test]
async fn a_limit_too_low_for_a_note_is_held_all_the_same() {
    for limit in [0, 1, 2, 3, 9, 40] {
        let mut limits = Limits::DEFAULT;
        limits.step = limit;
        let stage = Stage::in_memory(|builder| builder.limits(limits)).await;
        let job = stage.app.enqueue(skips_at_length(vec!["ж".repeat(99)])).await.unwrap();
        stage.work().await;
        in_time(job.result()).await.unwrap();
        let kept = skipped(&stage, job.id()).await.remove(0);
        assert!(serde_json::to_string(&kept).unwrap().len() <= limit.max(2), "{limit}: {kept}");
    }
}

async fn a_task_that_is_unknown_here_is_left_alone(stage: Stage) {
    let unknown = stage.app.enqueue_json("of.another.program", &serde_json::json!({})).await.unwrap();
    let known = stage.app.enqueue(returns_much(1)).await.unwrap();
    stage.work().await;
    assert_eq!(known.result().await.unwrap(), "x");
    let status = unknown.status().await.unwrap();
    assert_eq!((status.state.name(), status.attempt, status.failures), ("waiting", 0, 0));
    assert_eq!(status.attempts, []);
}
