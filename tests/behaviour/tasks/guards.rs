//! Code of a task's own that misbehaves where its errors are handled: each time that is one failure of its attempt.

use std::{error::Error as StdError, fmt};

use qtasks::{job::Ending, prelude::*};
use qtasks_tests::{Stage, in_time, on_every_store};
use serde::{Deserialize, Serialize};

on_every_store![
    an_error_that_misbehaves_is_one_failure_of_a_body,
    an_error_that_misbehaves_is_one_failure_of_a_body_on_a_thread,
    an_error_that_misbehaves_is_one_failure_of_a_handler,
    an_error_that_misbehaves_is_an_error_here_and_now,
    a_worker_whose_jobs_have_misbehaved_stops_gracefully,
    a_text_without_end_is_cut_and_says_so,
];

/// How an error misbehaves.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum Fault {
    Mute,
    DisplayPanics,
    SourcePanics,
    DropPanics,
    PayloadDropPanics,
    OwnSource,
}

use Fault::*;

const FAULTS: [(Fault, &str); 6] = [
    (Mute, "an error that cannot tell its text"),
    (DisplayPanics, "the task panicked: no text"),
    (SourcePanics, "the task panicked: no source"),
    (DropPanics, "the task panicked: no drop"),
    (PayloadDropPanics, "the task panicked: with something that is not text"),
    (OwnSource, "bad"),
];

#[derive(Debug)]
struct Bad(Fault);

impl Bad {
    fn raise(fault: Fault) -> Self {
        if fault == PayloadDropPanics {
            std::panic::panic_any(Self(DropPanics));
        }
        Self(fault)
    }
}

impl fmt::Display for Bad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Mute => Err(fmt::Error),
            DisplayPanics => panic!("no text"),
            _ => f.write_str("bad"),
        }
    }
}

impl StdError for Bad {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self.0 {
            SourcePanics => panic!("no source"),
            OwnSource => Some(self),
            _ => None,
        }
    }
}

impl Drop for Bad {
    fn drop(&mut self) {
        if self.0 == DropPanics && !std::thread::panicking() {
            panic!("no drop");
        }
    }
}

#[qtask(retry = 0)]
async fn misbehaves(fault: Fault) -> Result<(), Bad> {
    Err(Bad::raise(fault))
}

#[qtask(retry = 0)]
fn misbehaves_on_a_thread(fault: Fault) -> Result<(), Bad> {
    Err(Bad::raise(fault))
}

fn refuses(fault: Fault) -> Result<(), Bad> {
    Err(Bad::raise(fault))
}

#[qtask(generate_handler = refuses, retry = 0)]
async fn is_refused(fault: Fault) -> Vec<()> {
    yield_!(fault);
}

/// That each fault is one failure, and what is said of it.
async fn are_one_failure<C: serde::de::DeserializeOwned + fmt::Debug>(
    stage: &Stage,
    enqueue: impl AsyncFn(&QueueTasks, Fault) -> JobHandle<C>,
) {
    let worker = stage.app.worker().start().await.unwrap();
    for (fault, said) in FAULTS {
        let job = enqueue(&stage.app, fault).await;
        let error = in_time(job.result()).await.unwrap_err().to_string();
        assert!(error.ends_with(&format!("is dead: {said}")), "{fault:?}: {error}");
        let status = job.status().await.unwrap();
        let endings: Vec<_> = status.attempts.iter().map(|attempt| &attempt.ending).collect();
        assert_eq!((endings, status.failures), (vec![&Ending::Failed { error: said.to_owned() }], 1), "{fault:?}");
    }
    in_time(worker.shutdown()).await.unwrap();
}

async fn an_error_that_misbehaves_is_one_failure_of_a_body(stage: Stage) {
    are_one_failure(&stage, async |app, fault| app.enqueue(misbehaves(fault)).await.unwrap()).await;
}

async fn an_error_that_misbehaves_is_one_failure_of_a_body_on_a_thread(stage: Stage) {
    are_one_failure(&stage, async |app, fault| app.enqueue(misbehaves_on_a_thread(fault)).await.unwrap()).await;
}

async fn an_error_that_misbehaves_is_one_failure_of_a_handler(stage: Stage) {
    are_one_failure(&stage, async |app, fault| app.enqueue(is_refused(fault)).await.unwrap()).await;
}

async fn an_error_that_misbehaves_is_an_error_here_and_now(stage: Stage) {
    for (fault, said) in FAULTS {
        for error in [
            stage.app.run(misbehaves(fault)).await.unwrap_err(),
            stage.app.run(misbehaves_on_a_thread(fault)).await.unwrap_err(),
            stage.app.run(is_refused(fault)).await.unwrap_err(),
        ] {
            assert!(error.to_string().ends_with(said), "{fault:?}: {error}");
        }
    }
}

async fn a_worker_whose_jobs_have_misbehaved_stops_gracefully(stage: Stage) {
    let jobs = stage.app.enqueue_all(FAULTS.map(|(fault, _)| misbehaves(fault))).await.unwrap();
    in_time(stage.app.worker().run_until_idle()).await.unwrap();
    for job in jobs {
        assert_eq!(job.status().await.unwrap().state.name(), "dead");
    }
}

#[qtask(retry = 0)]
async fn says(how: u8) -> Result<(), TaskError> {
    let long = "ж".repeat(10 << 20);
    match how {
        0 => panic!("{long}"),
        1 => Err(TaskError::discard(long)),
        _ => Err(TaskError::cancel(long)),
    }
}

#[qtask(retry = 0)]
async fn errs() -> Result<(), String> {
    Err("ж".repeat(10 << 20))
}

async fn a_text_without_end_is_cut_and_says_so(stage: Stage) {
    let mut ids: Vec<_> = Vec::new();
    for how in 0..3 {
        ids.push(stage.app.enqueue(says(how)).await.unwrap().id());
    }
    ids.push(stage.app.enqueue(errs()).await.unwrap().id());
    in_time(stage.app.worker().run_until_idle()).await.unwrap();
    for id in ids {
        let error = stage.app.any_job(id).await.unwrap().result().await.unwrap_err().to_string();
        assert!(error.len() < 17 << 10 && error.ends_with("ж… (cut after 16 KiB)"), "{} bytes", error.len());
    }
}
