//! Stores against a model: whatever is done to them, in whatever order, they answer as a list of jobs would that is
//! searched from end to end each time.
//!
//! The same sequences of calls are tried each time; `PROPTEST_CASES` tries so many others, which differ from run to run.

mod after;
mod calls;
mod keys;
mod model;
mod operations;

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, RngSeed, TestCaseError, TestRunner},
};
use qtasks::{
    Result,
    job::{Job, JobId, WorkerId},
    store::{Budget, Find, Memory, Store, postgres::Postgres, sqlite::Sqlite},
};
use qtasks_tests::{length::by_length, servers};
use tempfile::TempDir;

use self::{
    calls::Call,
    model::Model,
    operations::{Operation, operation},
};

#[test]
fn memory_agrees_with_the_model() {
    agrees_with_the_model(by_length(24, 96), async || ((), Arc::new(Memory::new()) as _));
}

#[test]
fn sqlite_agrees_with_the_model() {
    agrees_with_the_model(by_length(24, 96), async || {
        let folder = TempDir::new().unwrap();
        let url = format!("sqlite:{}?synchronous=off", folder.path().join("jobs.db").display());
        let store = Sqlite::open(&url).await.unwrap();
        (folder, Arc::new(store) as _)
    });
}

#[test]
#[cfg_attr(missing = "redis", ignore = "redis-server is not installed")]
fn redis_agrees_with_the_model() {
    agrees_with_the_model(by_length(24, 96), async || ((), qtasks::store::open(&servers::redis::url()).await.unwrap()));
}

#[test]
#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
fn postgres_agrees_with_the_model() {
    // Each on tables of its own.
    agrees_with_the_model(by_length(6, 24), async || {
        ((), Arc::new(Postgres::open(&servers::postgres::url()).await.unwrap()) as _)
    });
}

/// For the sequences that are always tried.
const SEED: u64 = 4;

/// Tries sequences of calls on stores that `make` gives, each with something to keep until the store is dropped.
fn agrees_with_the_model<G>(cases: u32, make: impl AsyncFn() -> (G, Arc<dyn Store>)) {
    let mut config = Config { failure_persistence: None, ..Config::default() };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = cases;
        config.rng_seed = RngSeed::Fixed(SEED);
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let tried = TestRunner::new(config).run(&vec(operation(), 1..80), |operations| {
        runtime.block_on(async {
            let (_guard, store) = make().await;
            agree(store, operations).await
        })
    });
    tried.unwrap_or_else(|error| panic!("{error}"));
}

async fn agree(store: Arc<dyn Store>, operations: Vec<Operation>) -> Result<(), TestCaseError> {
    let model = Model::default();
    let mut now = at(0);
    for operation in operations {
        if let Operation::Wait(milliseconds) = operation {
            now += SignedDuration::from_millis(milliseconds);
        }
        for call in operation.calls(&model, now).await {
            let expected = call.clone().make(&model).await;
            prop_assert_eq!(call.clone().make(&*store).await, expected, "{:#?}", call);
            prop_assert_eq!(all_jobs(&*store).await, all_jobs(&model).await, "all jobs after {:#?}", call);
            let counts = Call::Counts(now);
            let expected = counts.clone().make(&model).await;
            prop_assert_eq!(counts.make(&*store).await, expected, "the counts after {:#?}", call);
        }
    }
    for (task, key) in ["send", "crawl", "send.all"].iter().flat_map(|task| ["k0", "k1"].map(|key| (*task, key))) {
        let call = Call::Holder(task, key);
        prop_assert_eq!(call.clone().make(&*store).await, call.clone().make(&model).await, "{:#?}", call);
    }
    for job in all_jobs(&model).await {
        let memos = [None, Some(0), Some(1), Some(2)].map(|step| Call::Memos(job.call.id, step, 0));
        let rest = [
            Call::Standing(job.call.id),
            Call::Memos(job.call.id, None, 2),
            Call::Steps(job.call.id, 0, 1_000),
            Call::LastStep(job.call.id),
        ];
        for call in memos.into_iter().chain(rest).chain([Call::Attempts(job.call.id)]) {
            prop_assert_eq!(call.clone().make(&*store).await, call.clone().make(&model).await, "{:#?}", call);
        }
    }
    Ok(())
}

pub(crate) async fn all_jobs(store: &dyn Store) -> Vec<Job> {
    store.find(Find::default().oldest_first(), None, Budget::jobs(1_000)).await.unwrap().jobs
}

pub(crate) fn at(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(1_700_000_000_000 + milliseconds).unwrap()
}

pub(crate) fn id(number: u8) -> JobId {
    JobId::from_bytes([number; 16])
}

pub(crate) fn worker_id(number: u8) -> WorkerId {
    WorkerId::from_bytes([number; 16])
}
