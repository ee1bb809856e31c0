//! Jobs that are pruned while they are read.

use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use qtasks::{
    Error, Result,
    prelude::*,
    store::{Memory, Store},
};
use qtasks_tests::{
    Stage,
    edge::{Behind, CarryOut, Edge},
    in_time,
    ledger::Ledger,
};

/// Has all that has ended pruned before a call of this name, the second time that it is made.
#[derive(Debug)]
struct Pruning {
    store: Arc<Memory>,
    call: &'static str,
    calls: Mutex<usize>,
}

impl Edge for Pruning {
    async fn pass<T: Send + 'static>(&self, call: &'static str, carry_out: CarryOut<T>) -> Result<T> {
        let is_it = call == self.call && {
            let mut calls = self.calls.lock().unwrap();
            *calls += 1;
            *calls == 2
        };
        if is_it {
            self.store.prune(Timestamp::MAX, Timestamp::MAX, 9).await?;
        }
        carry_out().await
    }
}

#[qtask]
async fn counts_up(n: u32) -> Vec<u32> {
    for number in 0..n {
        yield_!(number);
    }
}

#[tokio::test]
async fn a_job_that_is_pruned_while_it_is_read_is_an_error_and_no_part_of_a_result() {
    for call in ["steps", "standing"] {
        let memory = Arc::new(Memory::new());
        let job = {
            let stage = Stage::on(memory.clone()).await;
            let job = stage.app.enqueue(counts_up(3_000)).await.unwrap();
            stage.work().await;
            job.id()
        };
        let pruning = || {
            let edge = Pruning { store: memory.clone(), call, calls: Mutex::new(0) };
            Behind::new(edge, memory.clone(), &Ledger::default())
        };
        let stage = Stage::on(Arc::new(pruning())).await;
        let mut values = stage.app.job::<counts_up>(job).await.unwrap().stream();
        let mut seen = 0;
        let end = loop {
            match in_time(values.next()).await {
                Some(Ok(value)) => {
                    assert_eq!(value, seen);
                    seen += 1;
                }
                end => break end,
            }
        };
        assert!(matches!(end, Some(Err(Error::NoSuchJob(_)))), "{call}: {end:?} after {seen} values");
    }
}

#[tokio::test]
async fn a_result_that_is_pruned_while_it_is_read_is_an_error() {
    let memory = Arc::new(Memory::new());
    let edge = Pruning { store: memory.clone(), call: "steps", calls: Mutex::new(0) };
    let stage = Stage::on(Arc::new(Behind::new(edge, memory.clone(), &Ledger::default()))).await;
    let job = stage.app.enqueue(counts_up(3_000)).await.unwrap();
    stage.work().await;
    let error = job.result().await.unwrap_err();
    assert!(matches!(error, Error::NoSuchJob(_)), "{error}");
}
