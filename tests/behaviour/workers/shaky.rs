//! A store whose calls go wrong as a test says.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use qtasks::{Error, Result, store::Memory};
use qtasks_tests::{
    Stage,
    edge::{Behind, CarryOut, Edge},
    ledger::Ledger,
};
use tokio::sync::Notify;

/// How a call goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It is not carried out.
    Refused,
    /// It is carried out, and its answer is lost.
    AnswerLost,
    /// It is on its way until the test lets it through.
    Late,
}

/// The next calls of a store go wrong as the test says.
#[derive(Debug, Default)]
pub(super) struct Shaky {
    pub(super) faults: Mutex<HashMap<&'static str, Vec<Fault>>>,
    pub(super) let_through: Notify,
    /// Callers wait for nothing.
    pub(super) hurries: AtomicBool,
}

impl Shaky {
    pub(super) fn fail(&self, call: &'static str, faults: impl IntoIterator<Item = Fault>) {
        self.faults.lock().unwrap().entry(call).or_default().extend(faults);
    }

    /// Whether all that was to go wrong did.
    pub(super) fn is_well(&self) -> bool {
        self.faults.lock().unwrap().values().all(Vec::is_empty)
    }

    /// How many more of these calls go wrong.
    pub(super) fn left(&self, call: &'static str) -> usize {
        self.faults.lock().unwrap().get(call).map_or(0, Vec::len)
    }
}

impl Edge for Shaky {
    async fn pass<T: Send + 'static>(&self, call: &'static str, carry_out: CarryOut<T>) -> Result<T> {
        let fault = self.faults.lock().unwrap().get_mut(call).and_then(Vec::pop);
        match fault {
            None => carry_out().await,
            Some(Fault::Refused) => Err(trouble()),
            Some(Fault::AnswerLost) => carry_out().await.and(Err(trouble())),
            Some(Fault::Late) => {
                self.let_through.notified().await;
                carry_out().await
            }
        }
    }

    fn patience(&self, of_the_store: Duration) -> Duration {
        if self.hurries.load(Relaxed) { Duration::ZERO } else { of_the_store }
    }
}

fn trouble() -> Error {
    Error::Store { doing: "hear us", source: "the cable is out".into() }
}

pub(super) async fn shaky() -> (Stage, Arc<Behind<Shaky>>) {
    let store = Arc::new(Behind::new(Shaky::default(), Arc::new(Memory::new()), &Ledger::default()));
    (Stage::on(store.clone()).await, store)
}
