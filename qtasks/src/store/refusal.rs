//! Calls that are refused: another job holds their key, or a job that they are to wait for is not there.

use std::collections::{HashMap, HashSet};

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
    if !jobs.iter().any(|new| refuses(new) || new.call.after.is_some()) {
        return Ok(None);
    }
    let (mut is_new, mut earlier) = (Vec::with_capacity(jobs.len()), Earlier::default());
    for new in jobs {
        is_new.push(!is_there(new.call.id)?);
        if is_new.last() == Some(&false) {
            continue;
        }
        for parent in earlier.not_among(new) {
            if !is_there(parent)? {
                return Ok(Some(Error::no_parent(new, parent)));
            }
        }
        earlier.add(new);
    }
    // Of each key the first of the jobs, which has taken it when the others come.
    let mut first = HashMap::new();
    for (new, _) in jobs.iter().zip(is_new).filter(|(_, is_new)| *is_new) {
        let id = new.call.id;
        let Some((name @ (task, key), unique)) = new.keyed() else { continue };
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

/// The jobs of a call that those behind them may wait for. One that has a key is none of them, for it may join another.
#[derive(Default)]
pub(crate) struct Earlier(HashSet<JobId>);

impl Earlier {
    pub(crate) fn add(&mut self, new: &NewJob) {
        if new.keyed().is_none() {
            self.0.insert(new.call.id);
        }
    }

    /// The jobs that a job is to wait for and that are not among these.
    pub(crate) fn not_among(&self, new: &NewJob) -> Vec<JobId> {
        let parents = new.call.after.iter().flat_map(|after| &after.jobs);
        parents.filter(|parent| !self.0.contains(parent)).copied().collect()
    }
}
