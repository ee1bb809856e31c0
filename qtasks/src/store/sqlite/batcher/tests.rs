//! The writer as a whole.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
        mpsc,
    },
};

use futures::{TryFutureExt as _, future::join_all};

use super::{command::Write, tables::Tables};
use crate::{
    error::{Result, chain},
    model::{
        job::{Job, Lease, Reply},
        json::Json,
    },
    store::{
        Budget, Find, PendingStep, Store, Transacted,
        sqlite::{
            Sqlite,
            error::Fault,
            fixture::{lease, neighbour, new_job, soon, store, temp_url},
            transaction::InTransaction,
        },
    },
};

/// Holds the writer until the gate is opened.
struct Gate {
    reached: mpsc::Sender<()>,
    open: mpsc::Receiver<()>,
}

impl Write for Gate {
    type Outcome = ();
    const DOING: &'static str = "wait";

    fn apply(&self, _tables: &mut Tables<'_>) -> Result<(), Fault> {
        self.reached.send(()).unwrap();
        // Once open it stays so.
        _ = self.open.recv();
        Ok(())
    }
}

/// A change that is some SQL.
struct Sql(String);

impl Write for Sql {
    type Outcome = ();
    const DOING: &'static str = "run some SQL";

    fn apply(&self, tables: &mut Tables<'_>) -> Result<(), Fault> {
        Ok(tables.connection.execute_batch(&self.0)?)
    }
}

struct Panic;

impl Write for Panic {
    type Outcome = ();
    const DOING: &'static str = "panic";

    fn apply(&self, _tables: &mut Tables<'_>) -> Result<(), Fault> {
        panic!("on purpose")
    }
}

/// Makes the changes while the writer is held, so that they reach it together.
async fn together<T>(store: &Sqlite, changes: impl IntoIterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let ((reached, has_reached), (opening, open)) = (mpsc::channel(), mpsc::channel());
    let mut gate = Box::pin(store.writer.queue.ask(Gate { reached, open }));
    _ = futures::poll!(&mut gate);
    has_reached.recv().unwrap();
    let mut changes: Vec<_> = changes.into_iter().map(Box::pin).collect();
    for change in &mut changes {
        assert!(futures::poll!(change).is_pending());
    }
    drop(opening);
    gate.await.unwrap();
    join_all(changes).await
}

/// How many transactions the log holds, by <https://www.sqlite.org/fileformat2.html#the_write_ahead_log>.
fn commits(log: &Path) -> usize {
    let log = fs::read(log).unwrap();
    let page = u32::from_be_bytes(log[8..12].try_into().unwrap()) as usize;
    let frames = log[32..].chunks_exact(24 + page).take_while(|frame| frame[8..16] == log[16..24]);
    frames.filter(|frame| frame[4..8] != [0; 4]).count()
}

#[tokio::test]
async fn commands_that_wait_together_share_a_transaction() {
    let (_folder, store) = store().await;
    store.enqueue(vec![new_job()]).await.unwrap();
    let before = commits(&store.writer.files.url.log());
    let answers = together(&store, (0..100).map(|_| store.enqueue(vec![new_job()]).map_ok(drop))).await;
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(commits(&store.writer.files.url.log()) - before, 1);
    assert_eq!(lease(&store, 200).await.len(), 101);
}

#[tokio::test]
async fn a_lease_waits_for_what_is_enqueued_in_its_transaction() {
    let (_folder, store) = store().await;
    let leases = AtomicUsize::new(0);
    let change = async |enqueues| match enqueues {
        true => drop(store.enqueue(vec![new_job()]).await.unwrap()),
        false => _ = leases.fetch_add(lease(&store, 9).await.len(), Relaxed),
    };
    together(&store, [false, true, true].map(change)).await;
    assert_eq!(leases.load(Relaxed), 2);
}

#[tokio::test]
async fn handlers_share_a_transaction_and_survive_a_neighbour_that_fails() {
    let (_folder, store) = store().await;
    store.enqueue((0..20).map(|_| new_job()).collect()).await.unwrap();
    let jobs = lease(&store, 20).await;
    let before = commits(&store.writer.files.url.log());
    let ran = Arc::new(AtomicUsize::new(0));
    let transact = async |job: &Job| {
        let ran = Arc::clone(&ran);
        let run: InTransaction = Box::new(move |_| {
            ran.fetch_add(1, Relaxed);
            Some(Reply::Value(Json::from_stored("1")))
        });
        let worker = job.standing.state.worker().expect("it runs");
        let lease = Lease { job: job.call.id, attempt: job.standing.attempt, worker };
        store.transact(Some(lease), vec![Arc::new(PendingStep::new(0, 0, 0, Box::new(run)))]).await
    };
    let transacted = together(&store, jobs[..10].iter().map(transact)).await;
    assert_eq!(commits(&store.writer.files.url.log()) - before, 1);
    // Enqueued behind them.
    let change = async |number: usize| match number {
        10 => _ = store.writer.queue.ask(Panic).await.unwrap_err(),
        _ => assert_eq!(transact(&jobs[10 + number]).await.unwrap(), Transacted::Upto(1)),
    };
    together(&store, (0..10).chain([10]).map(change)).await;
    assert!(transacted.into_iter().all(|each| each.unwrap() == Transacted::Upto(1)));
    assert_eq!(ran.load(Relaxed), 20);
}

#[tokio::test]
async fn a_change_that_fails_does_not_hurt_its_neighbours() {
    let (_folder, store) = store().await;
    let change = async |number| match number {
        3 => chain(&store.writer.queue.ask(Sql("INSERT INTO nowhere VALUES (1)".into())).await.unwrap_err()),
        5 => chain(&store.writer.queue.ask(Panic).await.unwrap_err()),
        _ => store.enqueue(vec![new_job()]).await.map(|_| "enqueued".to_owned()).unwrap(),
    };
    let said = together(&store, (0..8).map(change)).await;
    let enqueued = said.iter().filter(|said| *said == "enqueued").count();
    assert_eq!((enqueued, lease(&store, 20).await.len()), (6, 6));
    let path = store.writer.files.url.path.display();
    let no_table = format!("the store could not run some SQL: `{path}`: no such table: nowhere");
    assert!(said[3].starts_with(&no_table), "{}", said[3]);
    assert_eq!(said[5], format!("the store could not panic: `{path}`: the store panicked: on purpose"));
}

#[tokio::test]
async fn a_locked_database_is_waited_out() {
    let (folder, store) = store().await;
    let other = neighbour(&folder);
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut enqueueing = store.enqueue(vec![new_job()]);
    assert!(futures::poll!(&mut enqueueing).is_pending());
    assert_eq!(
        store.find(Find::default().oldest_first(), None, Budget::jobs(9)).await.unwrap().jobs,
        [],
        "reading goes on meanwhile"
    );
    other.execute_batch("COMMIT").unwrap();
    soon(enqueueing).await.unwrap();
}

#[tokio::test]
async fn a_database_that_stays_locked_is_reported_and_used_again_later() {
    let (folder, url) = temp_url("?busy=0");
    let store = Sqlite::open(&url).await.unwrap();
    let other = neighbour(&folder);
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    for answer in together_locked(&store, 3).await {
        let error = answer.unwrap_err();
        assert!(error.is_store_trouble());
        let path = store.writer.files.url.path.display();
        assert_eq!(
            chain(&error),
            format!(
                "the store could not enqueue jobs: `{path}`: the database is locked by another process, or by another \
                 connection of this one; waited 0ns for it; `?busy=SECONDS` lets it wait longer; a program that makes \
                 this call while a write transaction of its own is open waits for itself: let it end first, or \
                 enqueue in it (`enqueue_in`, `statement`)"
            )
        );
    }
    other.execute_batch("COMMIT").unwrap();
    store.enqueue(vec![new_job()]).await.unwrap();
    assert_eq!(lease(&store, 9).await.len(), 1);
}

async fn together_locked(store: &Sqlite, count: usize) -> Vec<Result<()>> {
    join_all((0..count).map(|_| store.enqueue(vec![new_job()]).map_ok(drop))).await
}

#[tokio::test]
async fn a_full_disk_is_reported_and_the_store_used_again_later() {
    let (_folder, store) = store().await;
    store.writer.queue.ask(Sql("PRAGMA max_page_count = 1".into())).await.unwrap();
    let many = || (0..1000).map(|_| new_job()).collect::<Vec<_>>();
    let error = store.enqueue(many()).await.unwrap_err();
    let path = store.writer.files.url.path.display();
    assert_eq!(
        chain(&error),
        format!(
            "the store could not enqueue jobs: `{path}`: database or disk is full: no room is left on its volume; \
             make room, and work goes on"
        )
    );
    assert_eq!(lease(&store, 1).await, []);
    store.writer.queue.ask(Sql("PRAGMA max_page_count = 100000".into())).await.unwrap();
    store.enqueue(many()).await.unwrap();
    assert_eq!(lease(&store, 2000).await.len(), 1000);
}
