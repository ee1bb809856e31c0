//! A program that forgets to give its tasks what they need.

use std::sync::Arc;

use qtasks::{
    Error,
    prelude::*,
    store::{Memory, Store},
};

struct Database;
struct Mailer;

async fn store(value: i64, _database: State<Database>) -> i64 {
    value
}

#[qtask(generate_handler = store)]
async fn import(n: i64) -> Vec<i64> {
    yield_!(n);
}

#[qtask]
async fn notify(_mailer: State<Mailer>) {}

#[tokio::test]
async fn a_missing_state_is_found_when_the_worker_starts() {
    let app = QueueTasks::open("memory:").await.unwrap();
    let error = app.worker().start().await.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, Error::MissingState { task: "import", .. }), "{text}");
    assert!(text.contains("`import`") && text.contains("State<missing_state::Database>"), "{text}");
}

#[tokio::test]
async fn a_state_missing_for_a_parameter_is_found_too() {
    let app = QueueTasks::builder().store("memory:").state(Database).build().await.unwrap();
    let text = app.worker().start().await.unwrap_err().to_string();
    assert!(text.contains("`notify`") && text.contains("State<missing_state::Mailer>"), "{text}");
}

#[tokio::test]
async fn running_here_and_now_needs_the_states_of_that_task_only() {
    let app = QueueTasks::builder().store("memory:").state(Database).build().await.unwrap();
    assert_eq!(app.run(import(1)).await.unwrap(), [1]);
    assert!(matches!(app.run(notify()).await, Err(Error::MissingState { task: "notify", .. })));
}

#[tokio::test]
async fn enqueueing_needs_no_states() {
    let app = QueueTasks::open("memory:").await.unwrap();
    assert_eq!(app.enqueue(notify()).await.unwrap().status().await.unwrap().attempt, 0);
}

#[qtask(queue = "mail")]
async fn send(to: String) -> String {
    format!("sent to {to}")
}

#[tokio::test]
async fn a_worker_needs_the_states_only_of_tasks_whose_queues_it_listens_to() {
    let app = QueueTasks::open("memory:").await.unwrap();
    let job = app.enqueue(send("Ada".to_owned())).await.unwrap();
    app.worker().queues(["mail"]).run_until_idle().await.unwrap();
    assert_eq!(job.result().await.unwrap(), "sent to Ada");
    let error = app.worker().queues(["mail", "default"]).start().await.unwrap_err();
    assert!(matches!(error, Error::MissingState { .. }), "{error}");
}

#[tokio::test]
async fn a_job_whose_task_lacks_a_state_here_is_left_to_workers_that_have_it() {
    let store: Arc<dyn Store> = Arc::new(Memory::default());
    let builder = || QueueTasks::builder().store_at(store.clone());
    let job = builder().build().await.unwrap().enqueue(notify().queue("mail")).await.unwrap();
    builder().build().await.unwrap().worker().queues(["mail"]).run_until_idle().await.unwrap();
    assert_eq!(job.status().await.unwrap().attempt, 0);
    let equipped = builder().state(Mailer).state(Database).build().await.unwrap();
    equipped.worker().queues(["mail"]).run_until_idle().await.unwrap();
    assert_eq!(job.result().await.unwrap(), ());
}
