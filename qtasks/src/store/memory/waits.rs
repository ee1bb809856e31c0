//! Which jobs wait for which.

use std::collections::{BTreeSet, HashMap};

use crate::model::job::JobId;

/// Which jobs wait for which. Both have the same pairs.
#[derive(Default)]
pub(super) struct Waits {
    children: HashMap<JobId, BTreeSet<JobId>>,
    parents: HashMap<JobId, BTreeSet<JobId>>,
}

impl Waits {
    pub(super) fn add(&mut self, child: JobId, parents: &[JobId]) {
        for parent in parents {
            self.children.entry(*parent).or_default().insert(child);
        }
        self.parents.insert(child, parents.iter().copied().collect());
    }

    /// Forgets what a job waits for.
    pub(super) fn forget(&mut self, child: JobId) {
        for parent in self.parents.remove(&child).unwrap_or_default() {
            if let Some(children) = self.children.get_mut(&parent) {
                children.remove(&child);
                if children.is_empty() {
                    self.children.remove(&parent);
                }
            }
        }
    }

    /// Forgets who waits for a job, and gives them. They do not know yet.
    pub(super) fn take_children(&mut self, parent: JobId) -> BTreeSet<JobId> {
        self.children.remove(&parent).unwrap_or_default()
    }

    /// Forgets that a job waits for this one; gives for how many others it waits.
    pub(super) fn forget_one(&mut self, child: JobId, parent: JobId) -> usize {
        let Some(parents) = self.parents.get_mut(&child) else { return 0 };
        parents.remove(&parent);
        let left = parents.len();
        if left == 0 {
            self.parents.remove(&child);
        }
        left
    }
}
