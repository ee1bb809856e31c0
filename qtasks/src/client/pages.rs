//! The steps of a job, read in pages that are checked to be whole.

use crate::{
    environment::patience::patiently,
    error::{Error, Result},
    model::job::{JobId, Step},
    store::{PAGE, Store},
};

/// A page of the steps of a job from number `from` on, where it has more: `count` in all.
///
/// # Errors
///
/// Where steps are missing: [`Error::NoSuchJob`] when the job has been pruned meanwhile, and else [`Error::Store`].
pub(crate) async fn page(store: &dyn Store, id: JobId, count: u64, from: u64) -> Result<Vec<Step>> {
    let steps = patiently(store, || store.steps(id, from, PAGE)).await?;
    let least = (count - from).min(PAGE as u64);
    if steps.len() as u64 >= least && (from..).zip(&steps).all(|(seq, step)| seq == step.seq) {
        return Ok(steps);
    }
    Err(not_whole(store, id, count).await?)
}

/// Why some of the `count` steps of a job are missing, as an error.
pub(crate) async fn not_whole(store: &dyn Store, id: JobId, count: u64) -> Result<Error> {
    Ok(match patiently(store, || store.standing(id)).await? {
        None => Error::NoSuchJob(id),
        Some(_) => Error::store("read all steps", format!("some of the {count} steps of job {id} are not there")),
    })
}
