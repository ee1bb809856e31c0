//! What a Postgres store has to itself: its schema, jobs from other clients, and servers that fail.

mod after;
mod coming;
mod counts;
mod enqueueing;
mod failover;
mod lines;
mod lives;
mod marks;
mod notes;
mod opening;
mod pooler;
mod servers;
mod upgrading;

use std::sync::Arc;

use qtasks::{QueueTasks, postgres::Postgres};
use qtasks_tests::jobs::{NOW, ask, new_job};
use servers::Handled;

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

/// The URL with another schema.
fn with(url: &str, parameter: &str) -> String {
    format!("{url}{}{parameter}", if url.contains('?') { '&' } else { '?' })
}

fn schema(url: &str) -> &str {
    url.split_once("schema=").unwrap().1
}
