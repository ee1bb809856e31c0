//! How jobs come into memory, and which of them hold keys.

use std::convert::Infallible;

use jiff::Timestamp;

use super::{
    contents::{Contents, Key},
    entry::{Entry, to_millisecond},
};
use crate::{
    error::Result,
    model::{
        job::{JobCall, JobId, NewJob, State},
        unique::{Claim, Holder, HolderState},
    },
    store::{Joined, refusal::refusal},
};

impl Contents {
    /// Enqueues the jobs, or none of them where one is refused.
    pub(super) fn enqueue(&mut self, jobs: Vec<NewJob>) -> Result<Vec<Joined>> {
        let is_there = |id| Ok::<_, Infallible>(self.jobs.contains_key(&id));
        let holder = |task: &str, key: &str| Ok(self.holder(&(task.to_owned(), key.to_owned())));
        let Ok(refused) = refusal(&jobs, is_there, holder);
        refused.map_or_else(|| Ok(self.enqueue_or_join(jobs)), Err)
    }

    /// Enqueues the jobs whose keys are free.
    pub(super) fn enqueue_or_join(&mut self, jobs: impl IntoIterator<Item = NewJob>) -> Vec<Joined> {
        jobs.into_iter().filter_map(|new| self.enqueue_one(new)).collect()
    }

    fn enqueue_one(&mut self, new: NewJob) -> Option<Joined> {
        let id = new.call.id;
        if self.jobs.contains_key(&id) {
            return None;
        }
        if let (Some(unique), Some(key)) = (&new.unique, key_of(&new)) {
            let holder = self.holder(&key);
            match holder.as_ref().map_or(Claim::Takes, |holder| unique.claim(&new, holder)) {
                Claim::Takes => _ = self.keys.insert(key, (id, unique.until)),
                claim => {
                    let holder = holder.expect("there is one to join").job;
                    if let Claim::Replaces(due) = claim {
                        self.replace(holder, new, due);
                    }
                    return Some(Joined { job: id, holder });
                }
            }
        }
        let mut entry = Entry::new(new);
        self.hold(&mut entry);
        self.index.add(&entry);
        self.jobs.insert(id, entry);
        None
    }

    /// Gives a job that waits what a call says anew.
    fn replace(&mut self, id: JobId, new: NewJob, due: Timestamp) {
        let entry = self.jobs.get_mut(&id).expect("a job that is replaced is there");
        self.index.remove(entry);
        let JobCall { queue, enqueued, .. } = &entry.job.call;
        let (queue, enqueued, after) = (queue.clone(), *enqueued, entry.job.call.after.take());
        entry.job.call = JobCall { id, queue, enqueued, after, ..new.call };
        if let State::Waiting { due: at, .. } = &mut entry.job.standing.state {
            *at = to_millisecond(due);
        }
        self.index.add(entry);
    }

    /// The job that has taken a key last.
    pub(super) fn holder(&self, key: &Key) -> Option<Holder> {
        let (job, until) = *self.keys.get(key)?;
        let there = self.jobs.get(&job).map(|Entry { job, .. }| HolderState {
            state: job.standing.state.kind(),
            attempt: job.standing.attempt,
            enqueued: job.call.enqueued,
        });
        Some(Holder { job, until, there })
    }

    /// Whether a job that has ended may live again: no other one lives that has its key. It takes the key then.
    pub(super) fn may_live_again(&mut self, id: JobId) -> bool {
        let call = &self.jobs[&id].job.call;
        let Some(key) = call.key.clone().map(|key| (call.task.clone(), key)) else { return true };
        let lives = |there: HolderState| !there.state.is_ended();
        let is_taken = self.holder(&key).is_some_and(|holder| holder.job != id && holder.there.is_some_and(lives));
        if !is_taken {
            let until = self.keys.get(&key).and_then(|(_, until)| *until);
            self.keys.insert(key, (id, until));
        }
        !is_taken
    }
}

fn key_of(new: &NewJob) -> Option<Key> {
    Some((new.call.task.clone(), new.call.key.clone()?))
}
