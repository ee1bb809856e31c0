//! Ends jobs that have expired, and deletes those that ended long enough ago, the cards of workers that are gone, schedules that left the code, and old statistics.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{declaring::sort_out_left, expiring::end_expired};
use crate::{
    environment::App,
    error::{Result, chain},
    worker::{card, rates},
};

const EVERY: Duration = Duration::from_secs(60);
/// How many jobs one call deletes: few enough that no other write waits long for it.
const BATCH: usize = 500;

/// Prunes once a minute until `stopping`.
pub(crate) async fn run(app: Arc<App>, stopping: CancellationToken) {
    let mut every = tokio::time::interval(EVERY);
    loop {
        tokio::select! {
            () = stopping.cancelled() => return,
            _ = every.tick() => {}
        }
        let pruned = prune(&app, &stopping)
            .await
            .and(end_expired(&app, &stopping).await)
            .and(card::remove_left(&app).await)
            .and(rates::prune(&app).await)
            .and(sort_out_left(&app).await);
        if let Err(error) = pruned {
            if app.outage.is_under_way() {
                continue;
            }
            tracing::warn!(error = chain(&error), "old jobs were not sorted out; the next try comes in a minute");
        }
    }
}

async fn prune(app: &App, stopping: &CancellationToken) -> Result<()> {
    let now = app.clock.now();
    let before = |age: Duration| now.checked_sub(age).unwrap_or(jiff::Timestamp::MIN);
    let (finished, dead) = (before(app.retention.finished), before(app.retention.dead));
    while !stopping.is_cancelled() && app.store.prune(finished, dead, BATCH).await? == BATCH {
        tokio::task::yield_now().await;
    }
    Ok(())
}
