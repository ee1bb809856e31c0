//! What it costs to look at a store with very many jobs: to count them, and to read a page of any list.

use std::time::Instant;

use anyhow::ensure;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use qtasks::{
    job::{JobCall, JobId, NewJob, NextState, Output, WorkerId},
    json::Json,
    lifecycle::Outcome,
    store::{self, Ask, Budget, Find, Hold, Settlement, Store, Suspects},
};

use super::raw;
use crate::{
    place::Place,
    row::{Floor, Round, Row, Scale, Unit},
};

pub(crate) const COUNTS: Row = Row {
    name: "counts",
    what: "counting the jobs of each lane, where there are 10,000,000; p99",
    unit: Unit::Milliseconds,
    floor: |_| Some(Floor::Below(10.0)),
    most_rounds: 1,
    measure: |scale| Box::pin(measure(scale, &[])),
    ..Row::PLAIN
};

pub(crate) const PAGE: Row = Row {
    name: "page",
    what: "the first page of any list, where there are 10,000,000 jobs; p99",
    floor: |_| Some(Floor::Below(50.0)),
    measure: |scale| Box::pin(measure(scale, LISTS)),
    ..COUNTS
};

pub(crate) const SEARCH: Row = Row {
    name: "search",
    what: "a search of 10,000,000 jobs that finds nothing and stops at 20,000; p99",
    floor: |_| Some(Floor::None),
    measure: |scale| Box::pin(measure(scale, SEARCHES)),
    ..COUNTS
};

/// The lists that an operator has.
const LISTS: &[&str] = &[
    "",
    "order:oldest",
    "state:dead",
    "state:dead task:looked-3",
    "state:done",
    "state:running",
    "queue:q7",
    "task:none",
    "state:cancelled",
];

/// For these each job is looked at.
const SEARCHES: &[&str] = &["args.text:none", "error:none", "after:1h queue:q3"];

/// How many jobs end in each way before it is looked.
const ENDED: usize = 1_000;
const TIMES: usize = 30;

async fn measure(scale: &Scale, searches: &[&str]) -> anyhow::Result<Round> {
    let place = Place::new(scale)?;
    let store = store::open(&place.url()).await?;
    fill(&*store, scale.of(10_000_000)).await?;
    let mut times = Vec::new();
    for _ in 0..TIMES {
        if searches.is_empty() {
            let start = Instant::now();
            ensure!(store.counts(Timestamp::now()).await?.len() >= 10);
            times.push(start.elapsed());
        }
        for search in searches {
            let find = Find::parse(search, Timestamp::now())?;
            let start = Instant::now();
            let page = store.find(find, None, Budget::PAGE).await?;
            times.push(start.elapsed());
            ensure!(page.looked <= Budget::PAGE.looks as u64, "{search}: {} looks", page.looked);
        }
    }
    Ok(Round::Times(times))
}

/// Fills a store with jobs in ten lanes: some have ended, some run, and all others wait.
async fn fill(store: &dyn Store, jobs: u64) -> anyhow::Result<()> {
    const BATCH: u64 = 4_000;
    let batches = stream::iter(0..jobs / BATCH).map(|batch| Ok(store.enqueue(calls(batch, BATCH))));
    batches.try_buffer_unordered(8).try_collect::<Vec<_>>().await?;
    let next: [fn() -> NextState; 3] = [
        || NextState::Dead { error: "it was not to be".into() },
        || NextState::Done { output: Output::Value(Json::from_stored("1")) },
        || NextState::Cancelled { reason: "enough".into() },
    ];
    for next in next {
        let settlements = lease(store).await?.into_iter().map(|lease| Settlement {
            hold: Hold::Lease(lease),
            outcome: Outcome { next: next(), failures: 0, suspect: None },
            steps: None,
            attempt: None,
            now: Timestamp::now(),
        });
        store.settle(settlements.collect()).await?;
    }
    lease(store).await?;
    Ok(())
}

async fn lease(store: &dyn Store) -> anyhow::Result<Vec<qtasks::job::Lease>> {
    let ask = Ask {
        worker: WorkerId::new(),
        queues: (0..10).map(|lane| format!("q{lane}")).collect(),
        tasks: NAMES.into(),
        limit: ENDED,
        suspects: Suspects::PassOver,
        now: Timestamp::now(),
    };
    Ok(store.lease(ask).await?.jobs.iter().filter_map(|job| job.lease()).collect())
}

const NAMES: [&str; 10] = [
    "looked-0", "looked-1", "looked-2", "looked-3", "looked-4", "looked-5", "looked-6", "looked-7", "looked-8",
    "looked-9",
];

fn calls(batch: u64, count: u64) -> Vec<NewJob> {
    let (now, args) = (Timestamp::now(), Json::from_stored(format!("{{\"text\":\"{}\"}}", raw::filling())));
    let lane = (batch % 10) as usize;
    let call = |_| JobCall {
        id: JobId::new(),
        task: NAMES[lane].into(),
        queue: format!("q{lane}"),
        priority: 0,
        args: args.clone(),
        max_time: None,
        enqueued: now,
        expires: None,
        trace: None,
        key: None,
        after: None,
    };
    (0..count).map(call).map(NewJob::from).collect()
}
