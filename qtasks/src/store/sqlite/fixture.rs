//! What the tests of this store begin with.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use tempfile::TempDir;

use super::store::Sqlite;
use crate::{
    model::{
        job::{Job, JobCall, JobId, NewJob, WorkerId},
        json::Json,
    },
    store::{Ask, Store, Suspects},
};

pub(super) const NOW: Timestamp = Timestamp::constant(1_750_000_000, 0);

/// A folder of its own, and the URL of a file in it.
pub(super) fn temp_url(parameters: &str) -> (TempDir, String) {
    let folder = TempDir::new().unwrap();
    let url = format!("sqlite:{}{parameters}", folder.path().join("jobs.db").display());
    (folder, url)
}

pub(super) async fn store() -> (TempDir, Sqlite) {
    let (folder, url) = temp_url("");
    let store = Sqlite::open(&url).await.unwrap();
    (folder, store)
}

/// Another connection to the file of a store, as an application has its own.
pub(super) fn neighbour(folder: &TempDir) -> rusqlite::Connection {
    rusqlite::Connection::open(folder.path().join("jobs.db")).unwrap()
}

pub(super) fn new_job() -> NewJob {
    NewJob {
        call: JobCall {
            id: JobId::new(),
            task: "t".into(),
            queue: "default".into(),
            priority: 0,
            args: Json::from_stored("{}"),
            max_time: None,
            enqueued: NOW,
            expires: None,
            trace: None,
            key: None,
            after: None,
        },
        due: NOW,
        unique: None,
    }
}

pub(super) fn ask(limit: usize) -> Ask {
    let (queues, tasks) = (Arc::new(["default".to_owned()]), Arc::new(["t"]));
    Ask { worker: WorkerId::new(), queues, tasks, limit, suspects: Suspects::PassOver, now: NOW }
}

pub(super) async fn lease(store: &Sqlite, limit: usize) -> Vec<Job> {
    store.lease(ask(limit)).await.unwrap().jobs
}

/// Waits for what must come soon.
pub(super) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), what).await.expect("it comes soon")
}
