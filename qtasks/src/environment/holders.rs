//! The running workers that have a schedule in their code.

use std::collections::HashMap;

use super::{App, notes::kind, patience::patiently};
use crate::{
    error::Result,
    model::{card::WorkerCard, job::WorkerId},
    store::Note,
};

/// The running workers, each with the schedules in its code.
pub(crate) struct Holders(Vec<(WorkerId, Vec<String>)>);

impl Holders {
    /// Reads the cards of the workers that run.
    pub(crate) async fn read(app: &App) -> Result<Self> {
        let workers = patiently(&*app.store, || app.store.workers()).await?;
        let running = workers.iter().filter(|worker| !worker.gone);
        let mut running: HashMap<_, _> = running.map(|worker| (worker.worker.to_string(), worker.worker)).collect();
        let cards = app.notes(kind::WORKER).await?;
        let card = |note: &Note| {
            let worker = running.remove(&note.name)?;
            let card: WorkerCard = note.value.decode().ok()?;
            Some((worker, card.schedules))
        };
        Ok(Self(cards.iter().filter_map(card).collect()))
    }

    /// The worker that started last of those that have the schedule in their code.
    pub(crate) fn last_started(&self, schedule: &str) -> Option<WorkerId> {
        let has = |names: &[String]| names.iter().any(|name| name == schedule);
        self.0.iter().filter(|(_, names)| has(names)).map(|(worker, _)| *worker).max()
    }
}
