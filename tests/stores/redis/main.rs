//! What a Redis store has to itself.

mod calls;
mod formats;
mod mixed;
mod old;
mod presence;
mod searches;
mod servers;

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use qtasks::{
    job::{Job, JobCall, NewJob, NextState, StateKind, WorkerId},
    json::Json,
    lifecycle::Outcome,
    prelude::*,
    store::{Ask, Hold, Settlement, Store, Suspects},
};
use qtasks_tests::{in_time, servers::redis};

/// A server that keeps all that it has acknowledged.
pub(crate) fn lasting() -> redis::Redis {
    redis::Redis::start(&["--appendonly", "yes", "--appendfsync", "always"])
}

pub(crate) async fn open(url: &str) -> Arc<dyn Store> {
    qtasks::store::open(url).await.unwrap()
}

pub(crate) fn new_job() -> NewJob {
    NewJob {
        call: JobCall {
            id: JobId::new(),
            task: "task".into(),
            queue: "default".into(),
            priority: 0,
            args: Json::from_stored("{}"),
            max_time: None,
            enqueued: Timestamp::UNIX_EPOCH,
            expires: None,
            trace: None,
            key: None,
            after: None,
        },
        due: Timestamp::UNIX_EPOCH,
        unique: None,
    }
}

pub(crate) fn ask() -> Ask {
    Ask {
        worker: WorkerId::new(),
        queues: ["default".to_owned()].into(),
        tasks: ["task"].into(),
        limit: 100,
        suspects: Suspects::OneAlone,
        now: Timestamp::now(),
    }
}

/// What becomes of a job that runs.
pub(crate) fn settlement(job: &Job, next: NextState, now: Timestamp) -> Settlement {
    let hold = Hold::Seen { job: job.call.id, state: StateKind::Running, attempt: job.standing.attempt };
    Settlement { hold, outcome: Outcome { next, failures: 0, suspect: None }, steps: None, attempt: None, now }
}

/// Makes a call until the server is there to carry it out.
pub(crate) async fn insist<T>(call: impl AsyncFn() -> qtasks::Result<T>) -> T {
    in_time(async {
        loop {
            match call().await {
                Err(error) if error.is_store_trouble() => tokio::time::sleep(Duration::from_millis(5)).await,
                answer => return answer.unwrap(),
            }
        }
    })
    .await
}
