//! Jobs that wait for others.

use jiff::Timestamp;

use super::{
    contents::Contents,
    entry::{Entry, to_millisecond},
};
use crate::{
    model::job::{Beginning, JobId, State, StateKind},
    store::Changes,
};

impl Contents {
    /// Has a new job wait for those that it comes after.
    pub(super) fn hold(&mut self, entry: &mut Entry) {
        let Some(after) = &entry.job.call.after else { return };
        let state = |parent| self.jobs.get(&parent).map_or(StateKind::Done, |entry| entry.job.standing.state.kind());
        match after.begin(state) {
            Beginning::Free => {}
            Beginning::Waits(live) => {
                self.waits.add(entry.job.call.id, &live);
                entry.set_parents(live.len());
            }
            Beginning::Cancelled(reason) => {
                entry.job.standing.state = State::Cancelled { reason };
                entry.job.ended = Some(entry.job.call.enqueued);
            }
        }
    }

    /// What the end of a job means for those that wait for it, and for those that wait for these.
    pub(super) fn release(&mut self, ended: JobId, now: Timestamp) {
        let now = to_millisecond(now);
        let mut over = vec![ended];
        while let Some(parent) = over.pop() {
            let state = self.jobs[&parent].job.standing.state.kind();
            for child in self.waits.take_children(parent) {
                let left = self.waits.forget_one(child, parent);
                let entry = self.jobs.get_mut(&child).expect("a job that waits for others is there");
                self.index.remove(entry);
                let after = entry.job.call.after.as_deref().expect("it waits for another");
                match after.on_failure.cancels(parent, state) {
                    Some(reason) => {
                        entry.job.standing.state = State::Cancelled { reason };
                        entry.job.ended = Some(now);
                        self.released.add(Changes::ended(child));
                        over.push(child);
                    }
                    None => {
                        entry.set_parents(left);
                        if left == 0 {
                            entry.due_at_least(now);
                        }
                        self.released.add(Changes::placed(child));
                    }
                }
                self.index.add(entry);
                if entry.job.ended.is_some() {
                    self.waits.forget(child);
                }
            }
        }
    }
}

impl Entry {
    /// Says for how many other jobs it waits.
    fn set_parents(&mut self, number: usize) {
        if let State::Waiting { parents, .. } = &mut self.job.standing.state {
            *parents = u32::try_from(number).unwrap_or(u32::MAX);
        }
    }

    fn due_at_least(&mut self, now: Timestamp) {
        if let State::Waiting { due, .. } = &mut self.job.standing.state {
            *due = now.max(*due);
        }
    }
}
