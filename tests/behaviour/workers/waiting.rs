//! Who waits looks again by itself, whatever rings; and what cannot be waited for any longer says so.

use std::{pin::pin, sync::Arc};

use futures::FutureExt as _;
use qtasks::{
    Result, Update,
    prelude::*,
    sqlite::rusqlite::Connection,
    store::{Budget, Find, Memory, Notifier},
};
use qtasks_tests::{
    Place, Stage,
    edge::{Behind, CarryOut, Edge},
    in_time,
    ledger::Ledger,
};

/// Hears nothing that the store rings for.
#[derive(Debug, Default)]
struct Deaf(Notifier);

impl Edge for Deaf {
    async fn pass<T: Send + 'static>(&self, _call: &'static str, carry_out: CarryOut<T>) -> Result<T> {
        carry_out().await
    }

    fn notifier<'a>(&'a self, _of_the_store: &'a Notifier) -> &'a Notifier {
        &self.0
    }
}

async fn deaf() -> (Stage, Stage) {
    let memory = Arc::new(Memory::new());
    let deaf = Behind::new(Deaf::default(), memory.clone(), &Ledger::default());
    (Stage::on(Arc::new(deaf)).await, Stage::on(memory).await)
}

#[qtask]
async fn waited_for(n: u32) -> Vec<u32> {
    for value in 0..n {
        yield_!(value);
    }
}

#[tokio::test]
async fn a_result_a_stream_and_a_watcher_end_although_nothing_rings() {
    let (deaf, stage) = deaf().await;
    let job = stage.app.enqueue(waited_for(3)).await.unwrap();
    let job = deaf.app.job::<waited_for>(job.id()).await.unwrap();
    let mut values = job.stream();
    let updates = job.watch().collect::<Vec<_>>();
    let mut waiting = pin!(async { tokio::join!(job.result(), values.by_ref().collect::<Vec<_>>(), updates) });
    assert!(futures::poll!(&mut waiting).is_pending());
    stage.work().await;
    let (result, values, updates) = in_time(waiting).await;
    assert_eq!(result.unwrap(), [0, 1, 2]);
    assert!(
        matches!(updates.last(), Some(Ok(Update::Status(standing))) if standing.state.name() == "done"),
        "{updates:?}"
    );
    assert_eq!(values.into_iter().collect::<Result<Vec<_>>>().unwrap(), [0, 1, 2]);
}

#[tokio::test]
async fn a_worker_finds_jobs_although_nothing_rings() {
    let (deaf, stage) = deaf().await;
    let worker = deaf.app.worker().start().await.unwrap();
    // It has looked for jobs by the time that it has done one.
    in_time(deaf.app.enqueue(waited_for(1)).await.unwrap().result()).await.unwrap();
    let job = stage.app.enqueue(waited_for(3)).await.unwrap();
    assert_eq!(in_time(job.result()).await.unwrap(), [0, 1, 2]);
    worker.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_stream_without_a_runtime_ends_although_nothing_rings() {
    let (deaf, stage) = deaf().await;
    let job = stage.app.enqueue(waited_for(2)).await.unwrap();
    let mut values = deaf.app.job::<waited_for>(job.id()).await.unwrap().stream();
    assert!(values.next().now_or_never().is_none(), "it waits");
    let read = tokio::task::spawn_blocking(|| futures::executor::block_on(values.collect::<Vec<_>>()));
    stage.work().await;
    let values = in_time(read).await.unwrap();
    assert_eq!(values.into_iter().collect::<Result<Vec<_>>>().unwrap(), [0, 1]);
}

#[tokio::test]
async fn an_enqueue_into_a_file_that_stays_locked_says_which_job_it_may_have_made() {
    let stage = Stage::open(Place::sqlite()).await;
    let url = format!("sqlite:{}?busy=1", stage.file().display());
    let app = QueueTasks::open(&url).await.unwrap();
    let locked = Connection::open(stage.file()).unwrap();
    locked.execute_batch("BEGIN IMMEDIATE").unwrap();
    let id = JobId::new();
    let error = in_time(app.enqueue(waited_for(1).id(id))).await.unwrap_err();
    assert_eq!(error.jobs_in_doubt(), [id]);
    let said = error.to_string();
    assert!(said.contains("makes no second one: the store could not enqueue jobs: "), "{said}");
    assert!(said.contains("the database is locked by another process") && said.contains("waited 1s for it"), "{said}");
    let (enqueued, ()) = tokio::join!(stage.app.enqueue(waited_for(1).id(id)), async {
        locked.execute_batch("COMMIT").unwrap();
    });
    assert_eq!(enqueued.unwrap().id(), id);
    in_time(app.enqueue(waited_for(1).id(id))).await.unwrap();
    assert_eq!(app.find(Find::default().oldest_first()).budget(Budget::jobs(9)).await.unwrap().jobs.len(), 1);
}
