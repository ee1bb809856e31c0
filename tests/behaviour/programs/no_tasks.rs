//! A program into which no task is linked.

use qtasks::{Error, QueueTasks};

#[tokio::test]
async fn a_worker_without_tasks_does_not_start_and_says_how_to_link_them() {
    let app = QueueTasks::open("memory:").await.unwrap();
    assert_eq!(app.tasks().count(), 0);
    let error = app.worker().start().await.unwrap_err();
    assert!(matches!(error, Error::EmptyRegistry), "{error}");
    assert!(error.to_string().contains("`use your_crate as _;`"), "{error}");
}

#[tokio::test]
async fn a_program_without_tasks_can_enqueue_for_others() {
    let app = QueueTasks::open("memory:").await.unwrap();
    let job = app.enqueue_json("mails.send", &serde_json::json!({ "to": "Ada" })).await.unwrap();
    assert_eq!(job.status().await.unwrap().state.name(), "waiting");
}
