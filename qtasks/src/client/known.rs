//! Which workers and tasks are known in the store, whatever program they belong to.

use std::sync::Arc;

use super::app::QueueTasks;
use crate::{
    environment::{App, notes::kind, patience::patiently},
    error::Result,
    model::{
        card::{TaskCard, WorkerCard},
        job::WorkerId,
        json::Json,
    },
};

/// A worker that the store knows.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerInfo {
    /// Its id.
    pub id: WorkerId,
    /// What it says of itself. There is none of a worker that has left, or that belongs to an older qtasks.
    pub card: Option<WorkerCard>,
    /// Whether it holds jobs.
    pub holds: bool,
    /// Whether it is known to be gone; others take its jobs over. One that was killed may be known as gone only seconds later.
    pub gone: bool,
}

impl QueueTasks {
    /// All workers that the store knows, those that started first in front.
    ///
    /// # Errors
    ///
    /// [`Error::Store`](crate::Error::Store) when the store cannot be read.
    pub async fn workers(&self) -> Result<Vec<WorkerInfo>> {
        workers(&self.app()).await
    }

    /// The cards of all tasks that a worker has known which was started on this store, by name.
    ///
    /// # Errors
    ///
    /// [`Error::Store`](crate::Error::Store) when the store cannot be read.
    pub async fn tasks_known(&self) -> Result<Vec<TaskCard>> {
        let notes = self.app().notes(kind::TASK).await?;
        let card = |(name, value): (String, Json)| {
            let card: TaskCard = value.decode().ok()?;
            Some(TaskCard { name, ..card })
        };
        let mut cards: Vec<_> = notes.into_iter().map(|note| (note.name, note.value)).filter_map(card).collect();
        cards.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        Ok(cards)
    }
}

/// All workers that the store knows.
pub(crate) async fn workers(app: &Arc<App>) -> Result<Vec<WorkerInfo>> {
    let cards = app.notes(kind::WORKER).await?;
    let store = &*app.store;
    let known = patiently(store, || store.workers()).await?;
    let card = |id: WorkerId| {
        let name = id.to_string();
        cards.iter().find(|note| note.name == name).and_then(|note| note.value.decode().ok())
    };
    let info = |worker: &crate::store::Presence| WorkerInfo {
        id: worker.worker,
        card: card(worker.worker),
        holds: worker.holds,
        gone: worker.gone,
    };
    let mut workers: Vec<_> = known.iter().map(info).collect();
    workers.sort_unstable_by_key(|worker| worker.id);
    Ok(workers)
}
