//! Notes between processes.

use qtasks::{
    job::Version,
    json::Json,
    store::{Note, NoteChange, Store, Written},
};
use qtasks_tests::{in_time, servers::postgres::url};

use crate::{new_job, open};

fn note(value: &str) -> Note {
    let (kind, name) = ("pause".to_owned(), "all".to_owned());
    Note { kind, name, version: Version::new(), value: Json::from_stored(value), until: None }
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test]
async fn another_process_learns_of_a_note_that_has_changed() {
    let url = url();
    let (store, other) = (open(&url).await, open(&url).await);
    let first = note("1");
    let mut listener = other.notifier().notes();
    let change = NoteChange::Write { note: first.clone(), seen: None };
    assert_eq!(store.note(vec![change], vec![]).await.unwrap(), Written::Yes);
    in_time(listener.notification()).await;
    assert_eq!(other.notes("pause").await.unwrap(), [first]);
}

/// Of processes that have seen the same, and enqueue a job with what they make of it, one does.
#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test(flavor = "multi_thread")]
async fn one_of_many_processes_changes_a_note_and_its_job_alone_is_there() {
    let url = url();
    let stores = futures::future::join_all((0..4).map(|_| open(&url))).await;
    let mut seen = None;
    for round in 1..=10 {
        let tries = stores.iter().cloned().map(|store| {
            tokio::spawn(async move {
                let note = note("1");
                let change = NoteChange::Write { note: note.clone(), seen };
                let written = store.note(vec![change], vec![new_job()]).await.unwrap();
                (written == Written::Yes).then_some(note.version)
            })
        });
        let came = futures::future::join_all(tries).await;
        let versions: Vec<_> = came.into_iter().filter_map(|came| came.unwrap()).collect();
        assert_eq!(versions.len(), 1);
        seen = Some(versions[0]);
        let counts = stores[0].counts(crate::NOW).await.unwrap();
        assert_eq!(counts[0].jobs.total(), round);
    }
}
