//! What a Postgres store has to itself: its schema, jobs from other clients, and servers that fail.

mod coming;
mod enqueueing;
mod failover;
mod lines;
mod lives;
mod opening;
mod pooler;
mod servers;
mod upgrading;

use std::sync::Arc;

use jiff::Timestamp;
use qtasks::{
    QueueTasks,
    job::{JobId, NewJob, WorkerId},
    json::Json,
    postgres::Postgres,
    store::{Ask, Suspects},
};
use servers::Handled;

const NOW: Timestamp = Timestamp::constant(1_700_000_000, 0);

async fn open(url: &str) -> Arc<Postgres> {
    Arc::new(Postgres::open(url).await.unwrap())
}

/// An application with all that the tasks here take.
async fn app(url: &str) -> QueueTasks {
    QueueTasks::builder().store(url).state(Handled::default()).build().await.unwrap()
}

async fn refused(url: &str) -> String {
    qtasks_tests::whole(&Postgres::open(url).await.unwrap_err())
}

fn new_job() -> NewJob {
    NewJob {
        id: JobId::new(),
        task: "task".into(),
        queue: "default".into(),
        priority: 0,
        args: Json::from_stored("{}"),
        due: NOW,
        max_time: None,
        enqueued: NOW,
    }
}

fn ask(limit: usize) -> Ask {
    let worker = WorkerId::new();
    Ask {
        worker,
        queues: ["default".into()].into(),
        tasks: ["task"].into(),
        limit,
        suspects: Suspects::PassOver,
        now: NOW,
    }
}

/// The URL with another schema.
fn with(url: &str, parameter: &str) -> String {
    format!("{url}{}{parameter}", if url.contains('?') { '&' } else { '?' })
}

fn schema(url: &str) -> &str {
    url.split_once("schema=").unwrap().1
}
