//! Ends the jobs that have expired. Those that a worker leases it ends by itself; these are the others, for which none has come in time.

use tokio_util::sync::CancellationToken;

use crate::{
    environment::App,
    error::Result,
    model::{
        job::{Job, State, StateKind},
        lifecycle::{cancel, expire},
    },
    store::{Expired, Hold, Settlement, Written},
    telemetry,
};

/// How many jobs one look is at.
const BATCH: usize = 500;

/// Ends all jobs that have expired by now.
pub(super) async fn end_expired(app: &App, stopping: &CancellationToken) -> Result<()> {
    let now = app.clock.now();
    while !stopping.is_cancelled() {
        let Expired { jobs, more } = app.store.expired(now, BATCH).await?;
        let to_end = jobs.into_iter().filter_map(|job| settlement(&job, now).map(|settlement| (job, settlement)));
        let (jobs, settlements): (Vec<_>, Vec<_>) = to_end.unzip();
        if !settlements.is_empty() {
            let written = app.store.settle(settlements.into()).await?;
            let ended = jobs.iter().zip(written).filter(|(_, written)| *written == Written::Yes);
            ended.for_each(|(job, _)| telemetry::expired(job));
        }
        if !more {
            return Ok(());
        }
    }
    Ok(())
}

fn settlement(job: &Job, now: jiff::Timestamp) -> Option<Settlement> {
    let State::Waiting { due, .. } = job.standing.state else { return None };
    let (outcome, _) = cancel(&job.standing, &expire(job.call.expires, due, now)?)?;
    let hold = Hold::Seen { job: job.call.id, state: StateKind::Waiting, attempt: job.standing.attempt };
    Some(Settlement { hold, outcome, steps: None, attempt: None, now })
}
