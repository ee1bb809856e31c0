//! The turn of the suspects of an application. One suspect starts at a time, so that it is known which of them was to blame
//! when the process is killed.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::store::Suspects;

/// The one turn of an application's suspects, however many workers it has.
#[derive(Debug)]
pub(crate) struct SuspectTurn {
    turn: Arc<Semaphore>,
    /// How many suspects run, including those that have passed the turn.
    running: Arc<AtomicUsize>,
}

impl Default for SuspectTurn {
    fn default() -> Self {
        Self { turn: Arc::new(Semaphore::new(1)), running: Arc::default() }
    }
}

impl SuspectTurn {
    /// The permit to start a suspect, if no other suspect has the turn.
    pub(crate) fn try_take(&self) -> Option<SuspectPermit> {
        self.turn.clone().try_acquire_owned().ok().map(|turn| self.permit(turn))
    }

    /// Waits until no other suspect has the turn, and gives the permit to start one.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses the place in the queue, and no permit.
    pub(crate) async fn take(&self) -> SuspectPermit {
        let turn = self.turn.clone().acquire_owned().await;
        self.permit(turn.expect("the semaphore is never closed"))
    }

    fn permit(&self, turn: OwnedSemaphorePermit) -> SuspectPermit {
        SuspectPermit { turn: Some(turn), running: RunningSuspect::new(&self.running) }
    }
}

/// The right to run one suspect. It holds the turn until the suspect has passed it.
#[derive(Debug)]
pub(crate) struct SuspectPermit {
    turn: Option<OwnedSemaphorePermit>,
    running: RunningSuspect,
}

/// Counts a suspect among those that run, until this is dropped.
#[derive(Debug)]
pub(crate) struct RunningSuspect(Arc<AtomicUsize>);

impl RunningSuspect {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, SeqCst);
        Self(count.clone())
    }
}

impl Drop for RunningSuspect {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

impl SuspectPermit {
    /// How to ask the store for a suspect: alone, or beside others that have passed the turn and still run. No other suspect
    /// can start meanwhile.
    pub(crate) fn ask(&self) -> Suspects {
        if self.running.0.load(SeqCst) > 1 { Suspects::OneBesideOthers } else { Suspects::OneAlone }
    }

    /// Counts the body by itself: one that cannot be stopped runs on after its attempt, and after this permit.
    pub(crate) fn for_body(&self) -> RunningSuspect {
        RunningSuspect::new(&self.running.0)
    }

    /// Passes the turn on to the next suspect. This one goes on running.
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
        let body = first.for_body();
        drop(first);
        assert_eq!(suspects.try_take().unwrap().ask(), Suspects::OneBesideOthers);
        drop(body);
        assert_eq!(suspects.try_take().unwrap().ask(), Suspects::OneAlone);
    }
}
