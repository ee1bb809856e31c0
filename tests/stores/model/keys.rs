//! How jobs come into the model, and which of them hold keys.

use qtasks::{
    job::{Job, JobCall, JobId, NewJob, State},
    store::Joined,
    unique::{Claim, Holder, HolderState},
};

use crate::model::{Entry, Known};

/// The name of a task, and a key.
pub(crate) type Key = (String, String);

impl Known {
    /// Gives the job that is that of the call, if it is another one; or the holder of the key of a call that is refused.
    pub(crate) fn enqueue(&mut self, new: NewJob) -> Result<Option<Joined>, JobId> {
        let id = new.call.id;
        if self.find(id).is_some() {
            return Ok(None);
        }
        if let (Some(unique), Some(key)) = (&new.unique, key_of(&new.call)) {
            let holder = self.holder(&key);
            match holder.as_ref().map_or(Claim::Takes, |holder| unique.claim(&new, holder)) {
                Claim::Takes => {
                    self.keys.retain(|(known, ..)| *known != key);
                    self.keys.push((key, id, unique.until));
                }
                Claim::Refused => return Err(holder.unwrap().job),
                claim => {
                    let holder = holder.unwrap().job;
                    if let Claim::Replaces(due) = claim {
                        let job = &mut self.find(holder).unwrap().job;
                        let JobCall { queue, enqueued, after, .. } = job.call.clone();
                        job.call = JobCall { id: holder, queue, enqueued, after, ..new.call };
                        if let State::Waiting { due: was, .. } = &mut job.standing.state {
                            *was = due;
                        }
                    }
                    return Ok(Some(Joined { job: id, holder }));
                }
            }
        }
        let job = self.begin(new);
        self.jobs.push(Entry { job, steps: vec![], memos: vec![], attempts: vec![] });
        Ok(None)
    }

    pub(crate) fn holder(&mut self, key: &Key) -> Option<Holder> {
        let (_, job, until) = self.keys.iter().find(|(known, ..)| known == key)?.clone();
        let there = self.find(job).map(|entry| HolderState {
            state: entry.job.standing.state.kind(),
            attempt: entry.job.standing.attempt,
            enqueued: entry.job.call.enqueued,
        });
        Some(Holder { job, until, there })
    }

    /// Whether a job that had ended may live again, by its key, which it takes then.
    pub(crate) fn may_live_again(&mut self, job: &Job) -> bool {
        let Some(key) = key_of(&job.call) else { return true };
        let holder = self.holder(&key);
        let lives = |holder: &Holder| holder.there.is_some_and(|there| !there.state.is_ended());
        if holder.as_ref().is_some_and(|holder| holder.job != job.call.id && lives(holder)) {
            return false;
        }
        self.keys.retain(|(known, ..)| *known != key);
        self.keys.push((key, job.call.id, holder.and_then(|holder| holder.until)));
        true
    }
}

pub(crate) fn key_of(call: &JobCall) -> Option<Key> {
    Some((call.task.clone(), call.key.clone()?))
}
