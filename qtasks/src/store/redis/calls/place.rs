//! How jobs that wait are moved.

use std::sync::Arc;

use crate::store::{
    Changes, Placement, Written,
    redis::{batcher::Batcher, encoding, error::Fault},
};

pub(crate) async fn place(batcher: &Arc<Batcher>, placement: Placement) -> Result<Written, Fault> {
    let Placement { job, queue, priority, due } = placement;
    let mut call = batcher.link.call(|scripts| &scripts.place);
    call.arg(&job.to_bytes());
    call.arg(queue.map(|queue| format!("={queue}")).unwrap_or_default());
    call.arg(priority.map(|priority| encoding::rank(priority).to_string()).unwrap_or_default());
    call.arg(due.map(|due| encoding::millis(due).to_string()).unwrap_or_default());
    if !batcher.ask::<bool>(call).await? {
        return Ok(Written::Fenced);
    }
    batcher.link.notifier.notify(&Changes::placed(job));
    Ok(Written::Yes)
}
