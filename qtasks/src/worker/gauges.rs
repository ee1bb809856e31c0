//! Tells whoever counts how many jobs the whole store has in each lane, and what is paused.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::shared::WorkerShared;
use crate::{
    environment::App,
    error::{Result, chain},
    model::pause::Pause,
    store::{JobCounts, Lane, LaneCounts},
    telemetry::numbers::{self, Event, OTHER, note},
};

/// How often the store is asked.
const EVERY: Duration = Duration::from_secs(10);

/// Asks the store again and again until the worker has ended, where anybody counts.
pub(crate) async fn keep_telling(shared: Arc<WorkerShared>, finished: CancellationToken) {
    if !numbers::COUNTS_LANES {
        return;
    }
    let mut told = Told::default();
    let mut pauses = shared.pauses.changes();
    while !finished.is_cancelled() {
        let holding = pauses.borrow_and_update().holding(shared.app.clock.now());
        if let Err(error) = told.tell(&shared.app, &holding).await {
            tracing::debug!(error = chain(&error), "the jobs of the store were not counted this time");
        }
        tokio::select! {
            () = sleep(EVERY) => {}
            () = finished.cancelled() => {}
        }
    }
}

/// What was told last: it is told anew as 0 when it is there no more.
#[derive(Default)]
struct Told {
    lanes: BTreeSet<Lane>,
    pauses: BTreeSet<String>,
}

impl Told {
    async fn tell(&mut self, app: &Arc<App>, pauses: &[Pause]) -> Result<()> {
        let now = app.now();
        let counts = app.store.counts(now).await?;
        let lanes = self.lanes(app, counts);
        for lane in std::mem::replace(&mut self.lanes, lanes.iter().map(|lane| lane.lane.clone()).collect()) {
            if !self.lanes.contains(&lane) {
                note_lane(&lane, &JobCounts::default(), Duration::ZERO);
            }
        }
        for LaneCounts { lane, jobs, oldest_due } in &lanes {
            note_lane(lane, jobs, oldest_due.map_or(Duration::ZERO, |due| waited(due, now)));
        }
        let scopes = pauses.iter().map(|pause| pause.scope().to_string()).collect();
        for scope in std::mem::replace(&mut self.pauses, scopes).difference(&self.pauses) {
            note(&Event::Paused { scope, is_paused: false });
        }
        self.pauses.iter().for_each(|scope| note(&Event::Paused { scope, is_paused: true }));
        Ok(())
    }

    /// The counts by lane, where all tasks that the program does not know are one.
    fn lanes(&self, app: &App, counts: Vec<LaneCounts>) -> Vec<LaneCounts> {
        let mut lanes: Vec<LaneCounts> = Vec::new();
        for mut counts in counts {
            if app.registry.get(&counts.lane.task).is_none() {
                OTHER.clone_into(&mut counts.lane.task);
            }
            match lanes.iter_mut().find(|lane| lane.lane == counts.lane) {
                Some(lane) => {
                    lane.jobs += counts.jobs;
                    lane.oldest_due = lane.oldest_due.into_iter().chain(counts.oldest_due).min();
                }
                None => lanes.push(counts),
            }
        }
        lanes
    }
}

/// How long a job has waited that was due at this time.
fn waited(due: Timestamp, now: Timestamp) -> Duration {
    now.duration_since(due).try_into().unwrap_or_default()
}

fn note_lane(Lane { queue, task }: &Lane, jobs: &JobCounts, oldest: Duration) {
    let lane = numbers::Lane { queue, task };
    note(&Event::Stored(
        lane,
        numbers::Stored { waiting: jobs.waiting, running: jobs.running, dead: jobs.dead, oldest },
    ));
}
