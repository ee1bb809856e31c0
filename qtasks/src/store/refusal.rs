//! Calls that are refused, for another job holds their key.

use std::collections::HashMap;

use crate::{
    error::Error,
    model::{
        job::{JobId, NewJob},
        unique::{Claim, Duplicate, Holder},
    },
};

/// Why one of the jobs cannot be added, if it is refused: then none is. `is_there` says whether there is a job of an id, `holder` which
/// job has taken the key of a task last.
pub(crate) fn refusal<E>(
    jobs: &[NewJob],
    mut is_there: impl FnMut(JobId) -> Result<bool, E>,
    mut holder: impl FnMut(&str, &str) -> Result<Option<Holder>, E>,
) -> Result<Option<Error>, E> {
    let refuses = |new: &NewJob| new.keyed().is_some_and(|(_, unique)| unique.on_duplicate == Duplicate::Refuse);
    if !jobs.iter().any(refuses) {
        return Ok(None);
    }
    // Of each key the first of the jobs, which has taken it when the others come.
    let mut first = HashMap::new();
    for new in jobs {
        let id = new.call.id;
        let Some((name @ (task, key), unique)) = new.keyed() else { continue };
        if is_there(id)? {
            continue;
        }
        let before = *first.entry(name).or_insert(id);
        if !refuses(new) {
            continue;
        }
        let is_refused = |holder: &Holder| unique.claim(new, holder) == Claim::Refused;
        let found = holder(task, key)?.filter(is_refused).map(|holder| holder.job);
        if let Some(job) = found.or((before != id).then_some(before)) {
            return Ok(Some(Error::duplicate(new, job)));
        }
    }
    Ok(None)
}
