//! New jobs, on their way into the tables or straight to a worker.

use rusqlite::{Statement, params};

use crate::{
    model::job::{Job, JobId, NewJob, State, WorkerId},
    store::sqlite::{
        encoding,
        error::Fault,
        writer::{
            queue::Write,
            tables::{Lane, Tables},
        },
    },
};

pub(crate) struct Enqueue(pub(crate) Vec<NewJob>);

impl Write for Enqueue {
    type Outcome = ();
    const DOING: &'static str = "enqueue jobs";

    fn weight(&self) -> usize {
        self.0.len()
    }

    fn is_new(&self) -> bool {
        true
    }

    fn apply(&self, tables: &mut Tables<'_>) -> Result<(), Fault> {
        Ok(enqueue(tables, &self.0)?)
    }
}

/// Inserts the jobs, or keeps them for the leases that come last in this transaction.
pub(crate) fn enqueue(tables: &mut Tables<'_>, jobs: &[NewJob]) -> rusqlite::Result<()> {
    for job in jobs {
        let lane = tables.lane(&job.queue, &job.task)?;
        tables.reach(encoding::millis(job.enqueued));
        match &mut tables.fresh {
            Some(fresh) => fresh.push(Fresh { lane, job: job.clone() }),
            None => tables.insert(lane, job)?,
        }
    }
    Ok(())
}

/// A job that was enqueued in this transaction and is not in the tables yet.
pub(crate) struct Fresh {
    pub(crate) lane: i64,
    pub(crate) job: NewJob,
}

impl Fresh {
    /// The least is leased first.
    pub(crate) fn urgency(&self) -> (i16, JobId) {
        (!self.job.priority, self.job.id)
    }

    /// Those of these lanes, the most urgent last; the others stay.
    pub(crate) fn take(tables: &mut Tables<'_>, lanes: &[Lane<'_>]) -> Vec<Self> {
        let Some(fresh) = &mut tables.fresh else { return Vec::new() };
        let ours = |fresh: &mut Self| lanes.binary_search_by_key(&fresh.lane, |lane| lane.id).is_ok();
        let mut taken: Vec<_> = fresh.extract_if(.., ours).collect();
        taken.sort_unstable_by_key(|fresh| std::cmp::Reverse(fresh.urgency()));
        taken
    }

    /// Inserts it as a job that `worker` runs, unless its id is there already.
    pub(crate) fn run(self, tables: &mut Tables<'_>, worker: WorkerId) -> rusqlite::Result<Option<Job>> {
        let Self { lane, job } = self;
        let (insert_job, insert_args) = (&mut tables.sql.insert_job, &mut tables.sql.insert_args);
        let inserted = insert_job_of(insert_job, insert_args, lane, &job, Some(worker))?;
        Ok(inserted.then(|| Job { state: State::Running { worker }, attempt: 1, ..job.into() }))
    }
}

/// Arguments of more bytes than this stand in a table of their own.
const LARGE: usize = 1024;

/// Inserts a job that waits; gives whether it was not there before.
pub(crate) fn insert_job(
    insert_job: &mut Statement<'_>,
    insert_args: &mut Statement<'_>,
    lane: i64,
    job: &NewJob,
) -> rusqlite::Result<bool> {
    insert_job_of(insert_job, insert_args, lane, job, None)
}

/// Inserts a job that waits, or runs its first attempt at `worker`; gives whether it was not there before.
fn insert_job_of(
    insert_job: &mut Statement<'_>,
    insert_args: &mut Statement<'_>,
    lane: i64,
    job: &NewJob,
    worker: Option<WorkerId>,
) -> rusqlite::Result<bool> {
    let id = job.id.to_bytes();
    let (due, enqueued) = (encoding::millis(job.due), encoding::millis(job.enqueued));
    let state = match worker {
        Some(_) => encoding::RUNNING,
        None if due <= enqueued => encoding::READY,
        None => encoding::LATER,
    };
    let args = job.args.as_str();
    let large = args.len() > LARGE;
    let inserted = insert_job.execute(params![
        id,
        lane,
        -i64::from(job.priority),
        state,
        due,
        job.max_time.map(encoding::limit_millis),
        enqueued,
        (!large).then_some(args),
        worker.map(WorkerId::to_bytes),
        u32::from(worker.is_some()),
    ])?;
    if large && inserted == 1 {
        insert_args.execute(params![id, args])?;
    }
    Ok(inserted == 1)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::store::{
        Ask, Leased, Store as _,
        sqlite::{
            fixture::{NOW, ask, lease, neighbour, new_job, store},
            presence::Workers,
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
        tables.commit().unwrap();
        (leased, store.jobs(Default::default(), None, 100).await.unwrap())
    }

    fn urgent(priority: i16) -> NewJob {
        NewJob { priority, ..new_job() }
    }

    fn ids(jobs: &[Job]) -> Vec<JobId> {
        jobs.iter().map(|job| job.id).collect()
    }

    #[tokio::test]
    async fn a_job_that_is_leased_as_it_comes_is_as_if_it_had_waited() {
        let large =
            NewJob { args: crate::model::json::Json::from_stored(format!("\"{}\"", "x".repeat(LARGE))), ..new_job() };
        for job in [urgent(7), large] {
            let (leased, stored) = at_once(&[], std::slice::from_ref(&job), ask(9)).await;
            assert_eq!(leased.jobs, stored);
            let (_folder, store) = store().await;
            store.enqueue(vec![job]).await.unwrap();
            let usual = lease(&store, 9).await.remove(0);
            let State::Running { worker } = stored[0].state else { panic!("{stored:?} does not run") };
            assert_eq!(stored[0], Job { state: State::Running { worker }, ..usual });
        }
    }

    #[tokio::test]
    async fn new_jobs_and_old_ones_are_leased_by_their_urgency() {
        let (old, new) = ([urgent(0), urgent(5), urgent(-5)], [urgent(1), urgent(0), urgent(9)]);
        let (leased, stored) = at_once(&old, &new, ask(4)).await;
        assert_eq!(ids(&leased.jobs), [new[2].id, old[1].id, new[0].id, old[0].id]);
        let waiting = stored.iter().filter(|job| matches!(job.state, State::Waiting { .. }) && job.attempt == 0);
        assert_eq!(waiting.map(|job| job.id).collect::<Vec<_>>(), [old[2].id, new[1].id]);
    }

    #[tokio::test]
    async fn a_new_job_is_left_to_those_who_know_it_and_to_its_time() {
        let later = NOW + std::time::Duration::from_secs(5);
        let (stranger, delayed) = (NewJob { task: "u".into(), ..new_job() }, NewJob { due: later, ..new_job() });
        let (leased, stored) = at_once(&[], &[stranger, delayed], ask(9)).await;
        assert_eq!((leased.jobs, leased.next_due), (Vec::new(), Some(later)));
        assert!(stored.iter().all(|job| matches!(job.state, State::Waiting { .. })) && stored.len() == 2, "{stored:?}");
    }

    #[tokio::test]
    async fn a_job_that_is_there_already_is_neither_changed_nor_leased_twice() {
        let job = new_job();
        let again = NewJob { priority: 3, ..job.clone() };
        let (leased, stored) = at_once(std::slice::from_ref(&job), &[again], ask(9)).await;
        assert_eq!((ids(&leased.jobs), leased.jobs[0].priority), (vec![job.id], 0));
        assert_eq!(stored, leased.jobs);
    }
}
