//! New jobs, on their way into the tables or straight to a worker.

use super::keys::{self, Claimed};
use crate::store::sqlite::{
    batcher::{
        command::Write,
        tables::{Fresh, Tables},
    },
    encoding,
    error::Fault,
};
use crate::{
    error::Result,
    model::job::NewJob,
    store::{Changes, Joined},
};

pub(crate) struct Enqueue(pub(crate) Vec<NewJob>);

impl Write for Enqueue {
    /// The error where a job is refused.
    type Outcome = Result<Vec<Joined>>;
    const DOING: &'static str = "enqueue jobs";

    fn weight(&self) -> usize {
        self.0.len()
    }

    fn is_new(&self) -> bool {
        true
    }

    fn apply(&self, tables: &mut Tables<'_>) -> Result<Self::Outcome, Fault> {
        if self.0.iter().any(|new| new.call.after.is_some()) {
            // Otherwise a job that others may come after is not in the tables yet.
            tables.flush_fresh()?;
        }
        Ok(match keys::refusal(tables.connection, &self.0)? {
            Some(refused) => Err(refused),
            None => Ok(enqueue(tables, &self.0)?),
        })
    }
}

/// Inserts the jobs, or keeps them for the leases that come last in this transaction. Gives those that were not, for another one holds
/// their key.
pub(crate) fn enqueue(tables: &mut Tables<'_>, jobs: &[NewJob]) -> rusqlite::Result<Vec<Joined>> {
    let mut joined = Vec::new();
    for job in jobs {
        let lane = tables.lane(&job.call.queue, &job.call.task)?;
        tables.reach(encoding::millis(job.call.enqueued));
        if job.keyed().is_some() || job.call.after.is_some() {
            joined.extend(enqueue_or_join(tables, lane, job)?);
            continue;
        }
        match &mut tables.fresh {
            Some(fresh) => fresh.push(Fresh { lane, job: job.clone() }),
            None => tables.insert(lane, job)?,
        }
    }
    Ok(joined)
}

/// Inserts a job, unless another one holds its key: then gives that. It goes into the tables at once, for the next may have the same key,
/// or come after it.
fn enqueue_or_join(tables: &mut Tables<'_>, lane: i64, job: &NewJob) -> rusqlite::Result<Option<Joined>> {
    match keys::claim(tables.connection, job)? {
        Claimed::New => {
            tables.flush_fresh()?;
            tables.insert(lane, job).map(|()| None)
        }
        Claimed::Joined(holder) | Claimed::Refused(holder) => {
            // It may have been replaced.
            tables.changes.add(Changes::placed(holder));
            Ok(Some(Joined { job: job.call.id, holder }))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        model::job::{Job, JobCall, JobId, Standing, State},
        store::{
            Ask, Budget, Find, Leased, Store as _,
            sqlite::{
                fixture::{NOW, ask, lease, neighbour, new_job, store},
                insert::LARGE,
                presence::Workers,
            },
        },
    };

    /// Enqueues and leases in one transaction, as a writer does that finds both.
    async fn at_once(before: &[NewJob], jobs: &[NewJob], ask: Ask) -> (Leased, Vec<Job>) {
        let (folder, store) = store().await;
        store.enqueue(before.to_vec()).await.unwrap();
        let connection = neighbour(&folder);
        let workers = Arc::new(Workers::new(folder.path().join("workers")));
        let mut tables = Tables::new(&connection, workers).unwrap();
        tables.begin(false).unwrap();
        tables.fresh = Some(Vec::new());
        enqueue(&mut tables, jobs).unwrap();
        let leased = ask.apply(&mut tables).unwrap();
        tables.insert_fresh().unwrap();
        _ = tables.commit().unwrap();
        (leased, store.find(Find::default().oldest_first(), None, Budget::jobs(100)).await.unwrap().jobs)
    }

    fn urgent(priority: i16) -> NewJob {
        NewJob::from(JobCall { priority, ..new_job().call })
    }

    fn ids(jobs: &[Job]) -> Vec<JobId> {
        jobs.iter().map(|job| job.call.id).collect()
    }

    #[tokio::test]
    async fn a_job_that_is_leased_as_it_comes_is_as_if_it_had_waited() {
        let large = NewJob::from(JobCall {
            args: crate::model::json::Json::from_stored(format!("\"{}\"", "x".repeat(LARGE))),
            ..new_job().call
        });
        for job in [urgent(7), large] {
            let (leased, stored) = at_once(&[], std::slice::from_ref(&job), ask(9)).await;
            assert_eq!(leased.jobs, stored);
            let (_folder, store) = store().await;
            let job_due = job.due;
            store.enqueue(vec![job]).await.unwrap();
            let usual = lease(&store, 9).await.remove(0);
            let worker = stored[0].standing.state.worker().expect("it runs");
            let state = State::Running { worker, due: job_due };
            assert_eq!(stored[0], Job { standing: Standing { state, ..usual.standing }, ..usual });
        }
    }

    #[tokio::test]
    async fn new_jobs_and_old_ones_are_leased_by_their_urgency() {
        let (old, new) = ([urgent(0), urgent(5), urgent(-5)], [urgent(1), urgent(0), urgent(9)]);
        let (leased, stored) = at_once(&old, &new, ask(4)).await;
        assert_eq!(ids(&leased.jobs), [new[2].call.id, old[1].call.id, new[0].call.id, old[0].call.id]);
        let waiting = stored
            .iter()
            .filter(|job| matches!(job.standing.state, State::Waiting { .. }) && job.standing.attempt == 0);
        assert_eq!(waiting.map(|job| job.call.id).collect::<Vec<_>>(), [old[2].call.id, new[1].call.id]);
    }

    #[tokio::test]
    async fn a_new_job_is_left_to_those_who_know_it_and_to_its_time() {
        let later = NOW + std::time::Duration::from_secs(5);
        let (stranger, delayed) =
            (NewJob::from(JobCall { task: "u".into(), ..new_job().call }), NewJob { due: later, ..new_job() });
        let (leased, stored) = at_once(&[], &[stranger, delayed], ask(9)).await;
        assert_eq!((leased.jobs, leased.next_due), (Vec::new(), Some(later)));
        assert!(
            stored.iter().all(|job| matches!(job.standing.state, State::Waiting { .. })) && stored.len() == 2,
            "{stored:?}"
        );
    }

    #[tokio::test]
    async fn a_job_that_is_there_already_is_neither_changed_nor_leased_twice() {
        let job = new_job();
        let again = NewJob::from(JobCall { priority: 3, ..job.call.clone() });
        let (leased, stored) = at_once(std::slice::from_ref(&job), &[again], ask(9)).await;
        assert_eq!((ids(&leased.jobs), leased.jobs[0].call.priority), (vec![job.call.id], 0));
        assert_eq!(stored, leased.jobs);
    }
}
