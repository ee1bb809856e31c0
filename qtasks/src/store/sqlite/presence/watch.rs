//! The locks of other stores' workers, and when one becomes free.

use std::{
    collections::{HashMap, HashSet},
    fs::File,
};

use super::folder::{Folder, LOCK, is_free};
use crate::model::job::WorkerId;

/// The locks of others, kept open so that a look costs next to nothing; nothing for those that were found free.
#[derive(Default)]
pub(super) struct Watched(HashMap<WorkerId, Option<File>>);

impl Watched {
    /// Learns which workers there are besides those of this store.
    pub(super) fn list(&mut self, folder: &Folder, others: &HashSet<WorkerId>) {
        self.0.retain(|worker, _| others.contains(worker));
        for &worker in others {
            let lock = || File::open(folder.file(worker, LOCK)).ok();
            // One that was free may be locked again, by a worker that came back.
            let watched = self.0.entry(worker).or_insert_with(lock);
            if watched.is_none() {
                *watched = lock().filter(|lock| !is_free(lock));
            }
        }
    }

    /// Whether a lock is free that was not so before.
    pub(super) fn one_is_free(&mut self) -> bool {
        let mut free = false;
        for lock in self.0.values_mut() {
            if lock.take_if(|file| is_free(file)).is_some() {
                free = true;
            }
        }
        free
    }
}
