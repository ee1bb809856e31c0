//! The store of the example keeps the rules of every store, and what it adds: it finds in its file what it wrote there.

#[path = "../log_store/draft.rs"]
mod draft;
#[path = "../log_store/log.rs"]
mod log;
#[path = "../log_store/store.rs"]
mod store;
#[path = "../log_store/table.rs"]
mod table;

use std::{fs, sync::Arc};

use qtasks::{prelude::*, store::Store as _};

use crate::store::LogStore;

#[qtask]
async fn squares(up_to: u64) -> Vec<u64> {
    for n in 1..=up_to {
        yield_!(n * n);
    }
}

qtasks::store_conformance!(async || {
    let folder = tempfile::tempdir().unwrap();
    let store = LogStore::open(folder.path().join("jobs.log")).unwrap();
    (folder, Arc::new(store) as _)
});

#[tokio::test]
async fn what_was_written_is_there_when_the_log_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let open = async || {
        let store = Arc::new(LogStore::open(folder.path().join("jobs.log")).unwrap());
        QueueTasks::builder().store_at(store).build().await.unwrap()
    };
    let app = open().await;
    let (done, waits) = (app.enqueue(squares(3)).await.unwrap().id(), app.enqueue(squares(4)).await.unwrap().id());
    app.worker().run_until_idle().await.unwrap();
    drop(app);
    let app = open().await;
    let done = app.job::<squares>(done).await.unwrap();
    assert_eq!(done.result().await.unwrap(), [1, 4, 9]);
    assert_eq!(done.status().await.unwrap().attempts.len(), 1);
    assert_eq!(app.job::<squares>(waits).await.unwrap().result().await.unwrap(), [1, 4, 9, 16]);
}

#[tokio::test]
async fn a_call_that_was_cut_short_has_changed_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.log");
    let app = QueueTasks::builder().store_at(Arc::new(LogStore::open(path.clone()).unwrap())).build().await.unwrap();
    let first = app.enqueue(squares(1)).await.unwrap().id();
    let length = fs::metadata(&path).unwrap().len() as usize;
    let second = app.enqueue(squares(2)).await.unwrap().id();
    drop(app);
    let log = fs::read(&path).unwrap();
    for cut in length..log.len() - 1 {
        fs::write(&path, &log[..cut]).unwrap();
        let store = LogStore::open(path.clone()).unwrap();
        assert!(store.job(first).await.unwrap().is_some());
        assert!(store.job(second).await.unwrap().is_none(), "after {cut} bytes of {}", log.len());
    }
}

#[test]
fn one_process_has_the_log_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.log");
    let _first = LogStore::open(path.clone()).unwrap();
    let second = format!("{:?}", LogStore::open(path).unwrap_err());
    assert!(second.starts_with("the store could not open its log: "), "{second}");
}
