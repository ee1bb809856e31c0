//! How soon an idle worker starts what is enqueued.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use qtasks::prelude::*;
use tokio::sync::oneshot;

use crate::{
    place::Place,
    row::{Floor, Round, Row, Scale, Unit},
};

pub(crate) const ROW: Row = Row {
    name: "start",
    what: "from before an enqueue to the start on an idle worker",
    unit: Unit::Milliseconds,
    floor: |_| Some(Floor::Below(5.0)),
    measure: |scale| Box::pin(measure(scale)),
    ..Row::PLAIN
};

/// Who is told of the next start.
static TELL: Mutex<Option<oneshot::Sender<Instant>>> = Mutex::new(None);

fn tell() -> MutexGuard<'static, Option<oneshot::Sender<Instant>>> {
    TELL.lock().unwrap_or_else(PoisonError::into_inner)
}

#[qtask]
async fn tells_its_start() {
    let started = Instant::now();
    if let Some(tell) = tell().take() {
        tell.send(started).expect("whoever asked waits for the answer");
    }
}

async fn measure(scale: &Scale) -> anyhow::Result<Round> {
    let place = Place::new(scale)?;
    let app = place.app().await?;
    let worker = app.worker().start().await?;
    let mut times = Vec::new();
    for _ in 0..scale.of(500) {
        let (sender, started) = oneshot::channel();
        *tell() = Some(sender);
        let asked = Instant::now();
        app.enqueue(tells_its_start()).await?;
        times.push(started.await?.duration_since(asked));
        // The worker settles, and is idle again.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    worker.shutdown().await?;
    Ok(Round::Times(times))
}
