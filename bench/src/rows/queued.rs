//! What a lease costs where very many jobs wait.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use qtasks::{
    job::{JobCall, JobId, NewJob, WorkerId},
    json::Json,
    store::{self, Ask, Suspects},
};

use super::raw;
use crate::{
    place::Place,
    row::{Floor, Round, Row, Scale, Unit, nanoseconds},
};

pub(crate) const ROW: Row = Row {
    name: "queued",
    what: "leasing 100 of 1,000,000 jobs, per job; over 100 of 100",
    unit: Unit::Nanoseconds,
    floor: |_| Some(Floor::Times(2.0)),
    measure: |scale| Box::pin(measure(scale)),
    ..Row::PLAIN
};

const LEASES: u64 = 200;
const JOBS: u64 = 100;

async fn measure(scale: &Scale) -> anyhow::Result<Round> {
    let many = leasing(scale, scale.of(1_000_000)).await?;
    let few = leasing(scale, 0).await?;
    Ok(Round::Figure { this: many, baseline: Some(few), processor: None })
}

/// The nanoseconds that a job's lease costs where so many others wait.
async fn leasing(scale: &Scale, others: u64) -> anyhow::Result<f64> {
    let place = Place::new(scale)?;
    let store = store::open(&place.url()).await?;
    for _ in 0..others / 4_000 {
        store.enqueue(calls(4_000)).await?;
    }
    let (worker, mut spent) = (WorkerId::new(), Duration::ZERO);
    for _ in 0..LEASES {
        store.enqueue(calls(JOBS)).await?;
        let now = Timestamp::now();
        let ask = Ask {
            worker,
            queues: ["default".into()].into(),
            tasks: ["queued"].into(),
            limit: JOBS as usize,
            suspects: Suspects::PassOver,
            now,
        };
        let start = Instant::now();
        anyhow::ensure!(store.lease(ask).await?.jobs.len() == JOBS as usize);
        spent += start.elapsed();
    }
    Ok(nanoseconds(LEASES * JOBS, spent))
}

fn calls(count: u64) -> Vec<NewJob> {
    let (now, args) = (Timestamp::now(), Json::from_stored(format!("{{\"text\":\"{}\"}}", raw::filling())));
    let call = |_| NewJob {
        call: JobCall {
            id: JobId::new(),
            task: "queued".into(),
            queue: "default".into(),
            priority: 0,
            args: args.clone(),
            max_time: None,
            enqueued: now,
            expires: None,
            trace: None,
            key: None,
            after: None,
        },
        due: now,
        unique: None,
    };
    (0..count).map(call).collect()
}
