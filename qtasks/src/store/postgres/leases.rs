//! Which rows of `leases` are still needed: those that name a job that runs.
//!
//! A row names the jobs that were leased together. When a worker is lost its jobs are found by these rows, and each renewal
//! looks at them. So rows of which few jobs run any more are deleted or written anew, many at a time.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::sleep};
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::{
    encoding,
    error::Fault,
    pool::{Database, Parameter},
};
use crate::model::job::{JobId, Lease, WorkerId};

/// The rows of `leases` that belong to workers of this process.
#[derive(Default)]
pub(super) struct Leases {
    known: Mutex<Known>,
    many_stale: Notify,
}

#[derive(Default)]
struct Known {
    row_of: HashMap<Lease, i64>,
    rows: HashMap<i64, LeaseRow>,
    /// The numbers of rows that name too many jobs that have ended.
    stale: Vec<i64>,
    /// How many jobs the stale rows name.
    stale_names: usize,
}

/// A row of the table `leases`.
struct LeaseRow {
    worker: WorkerId,
    names: usize,
    running: HashSet<Lease>,
    is_stale: bool,
}

/// A row to delete, and its leases that still run, which need another row.
#[derive(Debug, PartialEq, Eq)]
struct Stale {
    number: i64,
    worker: WorkerId,
    running: Vec<Lease>,
}

/// Stale rows are deleted when together they name this many jobs.
const MANY: usize = 256;
/// A row is stale when it names this many times as many jobs as still run.
const TOO_MANY: usize = 4;

impl Leases {
    /// Notes that a worker has these leases, which the row of this number names.
    pub(super) fn add(&self, worker: WorkerId, number: i64, leases: impl IntoIterator<Item = Lease>) {
        self.known().add(worker, number, leases.into_iter().collect());
    }

    /// Notes that these leases do not hold any more.
    pub(super) fn ended(&self, leases: impl IntoIterator<Item = Lease>) {
        let mut known = self.known();
        leases.into_iter().for_each(|lease| known.end(lease));
        if known.stale_names >= MANY {
            self.many_stale.notify_one();
        }
    }

    /// Forgets the rows of a worker that has left.
    pub(super) fn forget(&self, worker: WorkerId) {
        let Known { row_of, rows, stale, .. } = &mut *self.known();
        rows.retain(|_, row| row.worker != worker);
        row_of.retain(|_, number| rows.contains_key(number));
        stale.retain(|number| rows.contains_key(number));
    }

    /// Deletes stale rows, for as long as the store is open.
    pub(super) async fn tidy(&self, database: &Database) {
        loop {
            self.many_stale.notified().await;
            let stale = self.known().take_stale();
            match replace(database, &stale).await {
                Ok(replaced) => self.known().replaced(&stale, &replaced),
                Err(fault) => {
                    tracing::debug!(%fault, "rows of leases were not tidied; trying again");
                    self.known().not_replaced(&stale);
                    sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn add(&mut self, worker: WorkerId, number: i64, running: HashSet<Lease>) {
        self.row_of.extend(running.iter().map(|lease| (*lease, number)));
        self.rows.insert(number, LeaseRow { worker, names: running.len(), running, is_stale: false });
    }

    fn end(&mut self, lease: Lease) {
        let Some(number) = self.row_of.remove(&lease) else { return };
        let Some(row) = self.rows.get_mut(&number) else { return };
        row.running.remove(&lease);
        if !row.is_stale && row.running.len() * TOO_MANY <= row.names {
            row.is_stale = true;
            self.stale.push(number);
            self.stale_names += row.names;
        }
    }

    fn take_stale(&mut self) -> Vec<Stale> {
        self.stale_names = 0;
        let numbers = std::mem::take(&mut self.stale);
        let stale = numbers.into_iter().filter_map(|number| {
            let row = self.rows.get(&number)?;
            Some(Stale { number, worker: row.worker, running: row.running.iter().copied().collect() })
        });
        stale.collect()
    }

    /// Notes that rows of these numbers name the jobs of the stale rows that still ran.
    fn replaced(&mut self, stale: &[Stale], by: &[(i64, JobId)]) {
        for old in stale {
            let Some(row) = self.rows.remove(&old.number) else { continue };
            let names = |job: &JobId| old.running.iter().any(|lease| lease.job == *job);
            let Some((number, _)) = by.iter().find(|(_, job)| names(job)) else { continue };
            // The new row also names jobs that have ended meanwhile.
            let running = row.running;
            running.iter().for_each(|lease| _ = self.row_of.insert(*lease, *number));
            let new = LeaseRow { worker: old.worker, names: old.running.len(), running, is_stale: false };
            self.rows.insert(*number, new);
        }
    }

    fn not_replaced(&mut self, stale: &[Stale]) {
        self.stale.extend(stale.iter().map(|stale| stale.number));
        self.stale_names += MANY;
    }
}

/// Gives the numbers of the new rows, each with a job that it names.
const REPLACE: &str = "
    WITH gone AS (
        DELETE FROM qtasks.leases l USING unnest($1::uuid[], $2::int8[]) AS s(worker, number)
        WHERE l.worker = s.worker AND l.number = s.number
    ), new AS (
        INSERT INTO qtasks.leases (worker, jobs)
        SELECT r.worker, array_agg(r.job) FROM unnest($3::uuid[], $4::int8[], $5::uuid[]) AS r(worker, number, job)
        GROUP BY r.worker, r.number
        RETURNING number, jobs
    ) SELECT n.number, n.jobs[1], set_config('synchronous_commit', 'off', true) FROM new n";

async fn replace(database: &Database, stale: &[Stale]) -> Result<Vec<(i64, JobId)>, Fault> {
    let (mut workers, mut numbers) = (Vec::new(), Vec::new());
    let (mut of_workers, mut of_rows, mut running) = (Vec::new(), Vec::new(), Vec::new());
    for row in stale {
        workers.push(encoding::worker_id(row.worker));
        numbers.push(row.number);
        for lease in &row.running {
            of_workers.push(encoding::worker_id(row.worker));
            of_rows.push(row.number);
            running.push(encoding::job_id(lease.job));
        }
    }
    let parameters: [Parameter<'_>; 5] = [
        (&workers, Type::UUID_ARRAY),
        (&numbers, Type::INT8_ARRAY),
        (&of_workers, Type::UUID_ARRAY),
        (&of_rows, Type::INT8_ARRAY),
        (&running, Type::UUID_ARRAY),
    ];
    let rows = database.query(REPLACE, &parameters).await?;
    rows.iter().map(|row| Ok((encoding::get(row, 0)?, named(encoding::get(row, 1)?)))).collect()
}

fn named(id: Uuid) -> JobId {
    JobId::from_bytes(id.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leases_of(worker: WorkerId, count: usize) -> Vec<Lease> {
        (0..count).map(|_| Lease { job: JobId::new(), attempt: 1, worker }).collect()
    }

    #[test]
    fn a_row_is_taken_away_when_all_that_it_names_has_ended() {
        let (known, worker) = (Leases::default(), WorkerId::new());
        let leases = leases_of(worker, 3);
        known.add(worker, 7, leases.clone());
        known.ended(leases[..2].iter().copied());
        assert_eq!(known.known().take_stale(), []);
        known.ended(leases);
        let stale = known.known().take_stale();
        assert_eq!(stale, [Stale { number: 7, worker, running: vec![] }]);
        known.known().replaced(&stale, &[]);
        assert!(known.known().rows.is_empty() && known.known().row_of.is_empty());
    }

    #[test]
    fn what_runs_for_long_gets_a_row_of_its_own() {
        let (known, worker) = (Leases::default(), WorkerId::new());
        let leases = leases_of(worker, 9);
        known.add(worker, 1, leases.clone());
        known.ended(leases[2..].iter().copied());
        let stale = known.known().take_stale();
        assert_eq!((stale.len(), stale[0].running.len()), (1, 2));
        // One of the two ends before the new row is there.
        known.ended([leases[0]]);
        known.known().replaced(&stale, &[(2, leases[0].job)]);
        assert_eq!(known.known().row_of, HashMap::from([(leases[1], 2)]));
        known.ended([leases[1]]);
        assert_eq!(known.known().take_stale(), [Stale { number: 2, worker, running: vec![] }]);
    }

    #[test]
    fn rows_that_could_not_be_taken_away_are_so_the_next_time() {
        let (known, worker) = (Leases::default(), WorkerId::new());
        let leases = leases_of(worker, 1);
        known.add(worker, 1, leases.clone());
        known.ended(leases);
        let stale = known.known().take_stale();
        known.known().not_replaced(&stale);
        assert_eq!(known.known().take_stale(), stale);
    }

    #[test]
    fn the_end_of_an_attempt_is_not_the_end_of_the_next() {
        let (known, worker) = (Leases::default(), WorkerId::new());
        let first = Lease { job: JobId::new(), attempt: 1, worker };
        let second = Lease { attempt: 2, ..first };
        known.add(worker, 1, [first]);
        known.add(worker, 2, [second]);
        known.ended([first]);
        assert_eq!(known.known().take_stale(), [Stale { number: 1, worker, running: vec![] }]);
        assert_eq!(known.known().row_of, HashMap::from([(second, 2)]));
        known.forget(worker);
        assert!(known.known().row_of.is_empty());
    }
}
