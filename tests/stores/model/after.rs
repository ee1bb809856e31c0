//! Jobs of the model that wait for others.

use std::collections::BTreeSet;

use jiff::Timestamp;
use qtasks::job::{Beginning, Job, JobId, NewJob, State};

use crate::model::Known;

impl Known {
    /// The job that a call is to wait for and that is not there, with the name of its task. It may come before it in `jobs`, without a key.
    pub(crate) fn missing_parent(&mut self, jobs: &[NewJob]) -> Option<(String, JobId)> {
        for (index, new) in jobs.iter().enumerate() {
            if self.find(new.call.id).is_some() {
                continue;
            }
            for parent in new.call.after.iter().flat_map(|after| &after.jobs) {
                let is_before = jobs[..index].iter().any(|other| other.call.id == *parent && other.call.key.is_none());
                if !is_before && self.find(*parent).is_none() {
                    return Some((new.call.task.clone(), *parent));
                }
            }
        }
        None
    }

    /// The job that a call makes.
    pub(crate) fn begin(&mut self, new: NewJob) -> Job {
        let mut job = Job::from(new);
        let Some(after) = job.call.after.clone() else { return job };
        let states: Vec<_> =
            after.jobs.iter().map(|parent| (*parent, self.find(*parent).unwrap().job.standing.state.kind())).collect();
        match after.begin(|parent| states.iter().find(|(id, _)| *id == parent).unwrap().1) {
            Beginning::Waits(live) => set_parents(&mut job, live.len()),
            Beginning::Cancelled(reason) => {
                job.standing.state = State::Cancelled { reason };
                job.ended = Some(job.call.enqueued);
            }
            Beginning::Free => {}
        }
        job
    }

    /// What the end of a job means for all others.
    pub(crate) fn let_on(&mut self, parent: JobId, now: Timestamp) {
        let state = self.find(parent).unwrap().job.standing.state.kind();
        let live: BTreeSet<_> =
            self.jobs.iter().filter(|entry| entry.job.ended.is_none()).map(|entry| entry.job.call.id).collect();
        let mut over = Vec::new();
        for entry in &mut self.jobs {
            let job = &mut entry.job;
            let State::Waiting { due, parents: 1.. } = job.standing.state else { continue };
            let after = job.call.after.clone().unwrap();
            if !after.jobs.contains(&parent) {
                continue;
            }
            if let Some(reason) = after.on_failure.cancels(parent, state) {
                job.standing.state = State::Cancelled { reason };
                job.ended = Some(now);
                over.push(job.call.id);
                continue;
            }
            let left: BTreeSet<_> = after.jobs.iter().filter(|id| live.contains(id)).collect();
            set_parents(job, left.len());
            if left.is_empty() {
                job.standing.state = State::waiting(due.max(now));
            }
        }
        over.into_iter().for_each(|child| self.let_on(child, now));
    }
}

fn set_parents(job: &mut Job, number: usize) {
    if let State::Waiting { parents, .. } = &mut job.standing.state {
        *parents = number.try_into().unwrap();
    }
}
