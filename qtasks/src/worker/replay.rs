//! What earlier attempts recorded, read as the body comes to it.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::shared::Floor;
use crate::{
    error::Result,
    execution::journal::{Journal, Numbered, Recorded, memo::Memos},
    model::job::{Job, Step},
    schema::{Resume, TaskExecSchema},
    store::PAGE,
};

/// The steps of earlier attempts, which the body has to yield again.
pub(super) fn steps(floor: &Arc<Floor>, job: &Job, schema: &TaskExecSchema) -> Recorded<Step> {
    let (floor, id) = (floor.clone(), job.call.id);
    let replays = schema.generating.is_some_and(|generating| generating.resume == Resume::Replay);
    let recorded = if replays { job.counts.steps } else { 0 };
    read_back(recorded, move |from| {
        let floor = floor.clone();
        async move { floor.store.persist("read recorded steps", || floor.app.store.steps(id, from, PAGE)).await }
    })
}

/// What earlier attempts did once: for the body, and for the step that comes next.
pub(super) fn memos(floor: &Arc<Floor>, job: &Job, schema: &TaskExecSchema, journal: &Arc<Journal>) -> Memos {
    let first = if schema.generating.is_some() { job.counts.steps } else { 0 };
    let recorded = |step: Option<u64>| {
        let (floor, id) = (floor.clone(), job.call.id);
        let page = move |from| {
            let floor = floor.clone();
            async move { floor.store.persist("read memos", || floor.app.store.memos(id, step, from, PAGE)).await }
        };
        (job.counts.memos > 0).then(|| read_back(job.counts.memos, page))
    };
    Memos::new(journal.clone(), floor.app.limits, first, recorded(None), recorded(Some(first)))
}

/// Reads what earlier attempts recorded, page after page, as the body comes to it: all whose number is below `end`.
fn read_back<T: Numbered + Send + 'static, F>(end: u64, page_from: impl Fn(u64) -> F + Send + 'static) -> Recorded<T>
where
    F: Future<Output = Result<Vec<T>>> + Send,
{
    if end == 0 {
        return Recorded::none();
    }
    let (pages, read) = mpsc::channel(2);
    tokio::spawn(async move {
        let mut from = 0;
        while from < end {
            let page = tokio::select! {
                page = page_from(from) => page,
                () = pages.closed() => return,
            };
            let last = page.as_ref().ok().and_then(|page| page.last()).map(T::number);
            if pages.send(page).await.is_err() {
                return;
            }
            // An error ends the attempt, and an empty page is the last one.
            let Some(last) = last else { return };
            from = last.saturating_add(1);
        }
        // The body may have ended.
        let _ = pages.send(Ok(Vec::new())).await;
    });
    Recorded::new(read, end)
}
