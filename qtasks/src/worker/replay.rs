//! What earlier attempts recorded, read as the body comes to it.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::shared::WorkerShared;
use crate::{
    error::Result,
    execution::journal::{Journal, Numbered, Recorded, memo::Memos},
    model::job::{Job, Step},
    schema::{Resume, TaskExecSchema},
    store::PAGE,
};

/// The steps of earlier attempts, which the body has to yield again; none for a task that resumes by a cursor.
pub(super) fn steps(shared: &Arc<WorkerShared>, job: &Job, schema: &TaskExecSchema) -> Recorded<Step> {
    let (shared, id) = (shared.clone(), job.call.id);
    let replays = schema.generating.is_some_and(|generating| generating.resume == Resume::Replay);
    let recorded = if replays { job.counts.steps } else { 0 };
    read_back(recorded, move |from| {
        let shared = shared.clone();
        async move { shared.store.persist("read recorded steps", || shared.app.store.steps(id, from, PAGE)).await }
    })
}

/// The memos of earlier attempts: those of the body, and those of the handler of the step that comes next.
pub(super) fn memos(shared: &Arc<WorkerShared>, job: &Job, schema: &TaskExecSchema, journal: &Arc<Journal>) -> Memos {
    let first = if schema.generating.is_some() { job.counts.steps } else { 0 };
    let recorded = |step: Option<u64>| {
        let (shared, id) = (shared.clone(), job.call.id);
        let page = move |from| {
            let shared = shared.clone();
            async move { shared.store.persist("read memos", || shared.app.store.memos(id, step, from, PAGE)).await }
        };
        (job.counts.memos > 0).then(|| read_back(job.counts.memos, page))
    };
    Memos::new(journal.clone(), shared.app.limits, first, recorded(None), recorded(Some(first)))
}

/// Reads what earlier attempts recorded, all whose number is below `end`: page after page, as the body comes to it.
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
