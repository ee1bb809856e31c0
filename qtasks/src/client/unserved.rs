//! A caller that waits for a job although no worker runs says so in the log: otherwise it would wait in silence.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{
    environment::App,
    model::job::{JobId, Standing, State},
    telemetry,
};

/// After this time a worker that is starting has started.
const SOON: Duration = Duration::from_secs(3);

/// One wait for a job.
pub(crate) struct UnservedWait {
    since: Instant,
    is_over: bool,
}

impl UnservedWait {
    pub(crate) fn begin() -> Self {
        Self { since: Instant::now(), is_over: false }
    }

    /// Looks for workers, once the job has been due for a while; warns if there are none.
    ///
    /// On tokio's clock it does not look: a test that pauses that clock passes days in a moment.
    pub(crate) async fn look(&mut self, app: &Arc<App>, id: JobId, standing: &Standing) {
        let is_due = matches!(standing.state, State::Waiting { due, .. } if due <= app.now());
        if self.is_over || !is_due || self.since.elapsed() < SOON || app.clock.is_tokios() {
            return;
        }
        self.is_over = true;
        if app.store.workers().await.is_ok_and(|workers| workers.is_empty())
            && let Ok(Some(job)) = app.store.job(id).await
        {
            telemetry::no_worker(&job.call);
        }
    }
}
