//! Enqueues jobs so that each call makes its jobs once, whatever becomes of the store meanwhile.

use std::collections::HashMap;

use crate::{
    environment::patience::Patience,
    error::{Error, Result},
    model::json::Json,
    store::{Store, same_call::is_of_call},
    task::call::Prepared,
};

/// Enqueues the jobs, all of them or none, and waits for a store that is away. The ids of the jobs are known from the first
/// try on, so that no try makes a second one.
///
/// # Errors
///
/// [`Error::InDoubt`] when the store did not answer in time; [`Error::OtherTask`] and [`Error::OtherArguments`] when the id
/// that a caller has given is that of another job.
pub(crate) async fn enqueue(store: &dyn Store, jobs: &[Prepared]) -> Result<()> {
    let mut patience = Patience::new(store);
    if jobs.len() > 1 {
        // Before, so that none is enqueued where one cannot be.
        agree(jobs)?;
        check(&mut patience, store, jobs).await?;
    }
    match enqueue_within(&mut patience, store, jobs).await {
        Err(error) if is_in_doubt(&error, &patience) => {
            Err(Error::InDoubt { jobs: jobs.iter().map(|job| job.id).collect(), source: Box::new(error) })
        }
        enqueued => enqueued,
    }
}

/// Whether the job may be enqueued with another write: not where its id comes from the caller and is that of another job.
///
/// # Errors
///
/// Those of [`enqueue`], and [`Error::Store`] when the store did not answer in time.
pub(crate) async fn may_enqueue(store: &dyn Store, job: &Prepared) -> Result<()> {
    check(&mut Patience::new(store), store, std::slice::from_ref(job)).await
}

async fn enqueue_within(patience: &mut Patience<'_>, store: &dyn Store, jobs: &[Prepared]) -> Result<()> {
    patience.call(|| store.enqueue(jobs.iter().map(Prepared::job).collect())).await?;
    // Afterwards, for only then nobody can come between.
    check(patience, store, jobs).await
}

/// Whether jobs may be there although their call ended in this error. One that no repetition mends says so of the last try,
/// and not of those before.
fn is_in_doubt(error: &Error, patience: &Patience<'_>) -> bool {
    let is_known = matches!(error, Error::OtherTask { .. } | Error::OtherArguments { .. });
    !is_known && (error.is_store_trouble() || patience.has_tried_again())
}

/// Those whose ids come from the caller, and not from us.
fn named(jobs: &[Prepared]) -> impl Iterator<Item = &Prepared> {
    jobs.iter().filter(|job| job.has_own_id)
}

/// Whether jobs of one id are of one call.
fn agree(jobs: &[Prepared]) -> Result<()> {
    let mut known = HashMap::new();
    for job in named(jobs) {
        let first: &Prepared = known.entry(job.id).or_insert(job);
        job.is_that(&first.task, &first.args)?;
    }
    Ok(())
}

/// Whether the jobs that the store has of ids from the caller are those of these calls.
async fn check(patience: &mut Patience<'_>, store: &dyn Store, jobs: &[Prepared]) -> Result<()> {
    for job in named(jobs) {
        // One that has been pruned since was no other.
        if let Some(found) = patience.call(|| store.job(job.id)).await? {
            job.is_that(&found.call.task, &found.call.args)?;
        }
    }
    Ok(())
}

impl Prepared {
    fn is_that(&self, task: &str, args: &Json) -> Result<()> {
        is_of_call(self.id, (task, args), (&self.task, &self.args))
    }
}
