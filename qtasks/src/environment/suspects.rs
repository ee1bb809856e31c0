//! Whose turn it is among the suspects of an application: one is started at a time, so that it is known which of them was
//! to blame when the process is killed.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::store::Suspects;

/// The one turn of the suspects of an application, whatever number of workers it has.
#[derive(Debug)]
pub(crate) struct SuspectTurn {
    turn: Arc<Semaphore>,
    /// How many suspects run, those included that have had their turn.
    running: Arc<AtomicUsize>,
}

impl Default for SuspectTurn {
    fn default() -> Self {
        Self { turn: Arc::new(Semaphore::new(1)), running: Arc::default() }
    }
}

impl SuspectTurn {
    /// The turn, if no other suspect has it.
    pub(crate) fn try_take(&self) -> Option<SuspectPermit> {
        self.turn.clone().try_acquire_owned().ok().map(|turn| self.permit(turn))
    }

    /// The turn, when no other suspect has it.
    ///
    /// # Cancel safety
    ///
    /// Dropping it gives up the place in line.
    pub(crate) async fn take(&self) -> SuspectPermit {
        let turn = self.turn.clone().acquire_owned().await;
        self.permit(turn.expect("the semaphore is never closed"))
    }

    fn permit(&self, turn: OwnedSemaphorePermit) -> SuspectPermit {
        SuspectPermit { turn: Some(turn), running: Running::new(&self.running) }
    }
}

/// The right to run one suspect, with the turn until it has passed.
#[derive(Debug)]
pub(crate) struct SuspectPermit {
    turn: Option<OwnedSemaphorePermit>,
    running: Running,
}

/// Stands for a suspect that runs.
#[derive(Debug)]
pub(crate) struct Running(Arc<AtomicUsize>);

impl Running {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, SeqCst);
        Self(count.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

impl SuspectPermit {
    /// How to ask for the suspect: others may run still that have had their turn, and none can come to run meanwhile.
    pub(crate) fn ask(&self) -> Suspects {
        if self.running.0.load(SeqCst) > 1 { Suspects::OneBesideOthers } else { Suspects::OneAlone }
    }

    /// For the body: one that cannot be stopped runs on when its attempt is over and this is gone.
    pub(crate) fn of_body(&self) -> Running {
        Running::new(&self.running.0)
    }

    /// Passes the turn on. The suspect goes on to run.
    pub(crate) fn pass(&mut self) {
        self.turn = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suspect_is_alone_until_another_one_that_runs_has_passed_its_turn() {
        let suspects = SuspectTurn::default();
        let mut first = suspects.try_take().unwrap();
        assert_eq!(first.ask(), Suspects::OneAlone);
        assert!(suspects.try_take().is_none());
        first.pass();
        let second = suspects.try_take().unwrap();
        assert_eq!(second.ask(), Suspects::OneBesideOthers);
        drop((first, second));
        assert_eq!(suspects.try_take().unwrap().ask(), Suspects::OneAlone);
    }

    #[test]
    fn a_suspect_is_not_alone_while_a_body_runs_on_whose_attempt_is_over() {
        let suspects = SuspectTurn::default();
        let first = suspects.try_take().unwrap();
        let body = first.of_body();
        drop(first);
        assert_eq!(suspects.try_take().unwrap().ask(), Suspects::OneBesideOthers);
        drop(body);
        assert_eq!(suspects.try_take().unwrap().ask(), Suspects::OneAlone);
    }
}
