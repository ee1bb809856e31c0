//! Enqueues jobs so that each call makes its jobs once, even where the store is away meanwhile.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
};

use tracing::Instrument as _;

use crate::{
    environment::patience::Patience,
    error::{Error, Result},
    model::{job::JobId, json::Json},
    store::{Joined, Store, same_call::is_of_call},
    task::prepared::Prepared,
    telemetry::{
        numbers::{Called, Event, IS_ON, Lane, OTHER, Operation, Timer, note},
        spans::{self, Sent},
    },
};

/// Enqueues the jobs, all of them or none, and waits for a store that is away. The jobs have their ids before the first try, so
/// that no further try makes a second job. Gives those that were not added, for another one is the job of their call.
///
/// # Errors
///
/// [`Error::InDoubt`] when the store did not answer in time; [`Error::Duplicate`] and [`Error::NoParent`] when a job is refused;
/// [`Error::OtherTask`] and [`Error::OtherArguments`] when a caller has given the id of another job.
pub(crate) async fn enqueue(store: &dyn Store, jobs: &[Prepared]) -> Result<Vec<Joined>> {
    let (span, timer) = (spans::send(jobs.iter().map(Prepared::sent)), Timer::start());
    let enqueued = enqueue_patiently(store, jobs).instrument(span.clone()).await;
    let error_type = enqueued.as_ref().err().map(|error| spans::call_failed(&span, error));
    note_sent(jobs, enqueued.as_deref().unwrap_or_default(), timer, error_type);
    enqueued
}

/// Counts jobs that are enqueued, or could not be. Those that have joined another are none.
fn note_sent(jobs: &[Prepared], joined: &[Joined], timer: Timer, error_type: Option<&'static str>) {
    if !IS_ON {
        return;
    }
    let queue = jobs.first().map(|job| &*job.queue).filter(|queue| jobs.iter().all(|job| job.queue == *queue));
    let called = Called { took: timer.elapsed(), jobs: jobs.len(), queue, error_type };
    note(&Event::Called(Operation::Send, called));
    if error_type.is_none() {
        let joined: HashSet<_> = joined.iter().map(|joined| joined.job).collect();
        let new = jobs.iter().filter(|job| !joined.contains(&job.id));
        new.for_each(|job| note(&Event::Enqueued(job.lane())));
    }
}

async fn enqueue_patiently(store: &dyn Store, jobs: &[Prepared]) -> Result<Vec<Joined>> {
    let mut patience = Patience::new(store);
    if jobs.len() > 1 {
        // Before the call, so that none is enqueued where one cannot be.
        agree(jobs)?;
        check(&mut patience, store, jobs).await?;
    }
    match enqueue_within(&mut patience, store, jobs).await {
        Err(error) if is_in_doubt(&error, &patience) => {
            Err(Error::InDoubt { jobs: jobs.iter().map(|job| job.id).collect(), source: Box::new(error) })
        }
        enqueued => enqueued,
    }
}

/// Checks that the job may be enqueued in a later write: its id, where the caller has given it, is not that of another job.
///
/// # Errors
///
/// Those of [`enqueue`], and [`Error::Store`] when the store did not answer in time.
pub(crate) async fn may_enqueue(store: &dyn Store, job: &Prepared) -> Result<()> {
    check(&mut Patience::new(store), store, std::slice::from_ref(job)).await
}

async fn enqueue_within(patience: &mut Patience<'_>, store: &dyn Store, jobs: &[Prepared]) -> Result<Vec<Joined>> {
    let joined = patience.call(|| store.enqueue(jobs.iter().map(Prepared::job).collect())).await?;
    // After the call, since only then no other caller can come between.
    check(patience, store, jobs).await?;
    Ok(joined)
}

/// Whether jobs may be there although their call ended in this error. An error that no repetition mends is that of the last
/// try: the store may have carried out an earlier one.
fn is_in_doubt(error: &Error, patience: &Patience<'_>) -> bool {
    let is_known = matches!(
        error,
        Error::Duplicate { .. } | Error::NoParent { .. } | Error::OtherTask { .. } | Error::OtherArguments { .. }
    );
    !is_known && (error.is_store_trouble() || patience.has_tried_again())
}

/// The jobs whose ids the caller has given.
fn named(jobs: &[Prepared]) -> impl Iterator<Item = &Prepared> {
    jobs.iter().filter(|job| job.has_own_id)
}

/// Checks that jobs of one id are of one call.
fn agree(jobs: &[Prepared]) -> Result<()> {
    let mut known = HashMap::new();
    for job in named(jobs) {
        let first: &Prepared = known.entry(job.id).or_insert(job);
        job.is_that(&first.task, &first.args)?;
    }
    Ok(())
}

/// Checks that the store has, under the ids that the caller has given, the jobs of these calls.
async fn check(patience: &mut Patience<'_>, store: &dyn Store, jobs: &[Prepared]) -> Result<()> {
    for job in named(jobs) {
        // A job that has been pruned since was the one of this call.
        if let Some(found) = Box::pin(patience.call(|| store.job(job.id))).await? {
            job.is_that(&found.call.task, &found.call.args)?;
        }
    }
    Ok(())
}

impl Prepared {
    /// The id of the job that is that of the call.
    pub(crate) fn found(&self, joined: &[Joined]) -> JobId {
        joined.iter().find(|joined| joined.job == self.id).map_or(self.id, |joined| joined.holder)
    }

    fn sent(&self) -> Sent<'_> {
        Sent { id: self.id, queue: &self.queue, task: &self.task }
    }

    /// The lane of the job, for what is counted.
    pub(crate) fn lane(&self) -> Lane<'_> {
        // The name of a task that the program does not know is not one of the program's.
        let task = if matches!(self.task, Cow::Borrowed(_)) { &*self.task } else { OTHER };
        Lane { queue: &self.queue, task }
    }

    fn is_that(&self, task: &str, args: &Json) -> Result<()> {
        is_of_call(self.id, (task, args), (&self.task, &self.args))
    }
}
