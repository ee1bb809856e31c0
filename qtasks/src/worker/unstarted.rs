//! Jobs that the worker has leased and does not start: they have expired, or are given back.

use super::{
    settling::{AttemptEnd, Flushed, Leased},
    shared::WorkerShared,
};
use crate::model::{
    job::{JobId, State},
    lifecycle::{Verdict, expire},
    retry::Retry,
};

impl<'a> Leased<'a> {
    /// Why the job is not started any more, if it has waited for its start too long.
    pub(super) async fn expired(&self) -> Option<String> {
        let Self { shared, job, began, .. } = self;
        let State::Running { due, .. } = job.standing.state else { return None };
        let reason = expire(job.call.expires, due, *began)?;
        (job.standing.attempt == 1 || Box::pin(was_never_started(shared, job.call.id)).await).then_some(reason)
    }

    /// The end of an attempt that has not begun.
    pub(super) fn unstarted(self, verdict: Verdict, retry: Retry) -> Flushed<'a> {
        let end = AttemptEnd { leased: self, steps: 0, skipped: 0, error_type: None, retry, counts: false };
        Flushed { end, verdict }
    }
}

/// Whether each attempt at a job so far was given back before it began: none stands in the history then. Where that cannot be read,
/// the job counts as started.
async fn was_never_started(shared: &WorkerShared, job: JobId) -> bool {
    let attempts = shared.store.persist("read attempts", || shared.app.store.attempts(job)).await;
    attempts.is_ok_and(|attempts| attempts.is_empty())
}
