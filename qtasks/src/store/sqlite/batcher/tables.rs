//! The tables as the writer sees them: statements, lanes by name, one transaction at a time.

use std::{borrow::Borrow, collections::HashMap, sync::Arc, time::Instant};

use rusqlite::{Connection, ErrorCode, Statement, TransactionBehavior};

use crate::store::sqlite::{
    after, encoding,
    ends::Ends,
    error::Fault,
    insert::{Inserts, intern},
    presence::Workers,
    sql::Statements,
    steps::{New, NewStepCount},
    tally::{LeasedLanes, Tally},
    transaction::{BROKEN, Transaction},
};
use crate::{
    error::Result,
    model::job::{Job, JobId, NewJob, StateKind, WorkerId},
    store::{Changes, waiters::Waiters},
};

/// The tables, and what the writer knows of them.
pub(crate) struct Tables<'c> {
    pub(crate) connection: &'c Connection,
    pub(crate) sql: Statements<'c>,
    /// The transaction for handlers that is open, if one is.
    transaction: Option<Transaction<'c>>,
    /// When the latest transaction began.
    pub(crate) begun: Instant,
    pub(crate) workers: Arc<Workers>,
    lanes: Lanes,
    /// The latest time by which some job was known to be due.
    reached: i64,
    /// The jobs that were enqueued in this transaction and are not inserted yet. `None` where no worker leases jobs in it.
    pub(crate) fresh: Option<Vec<Fresh>>,
    new_steps: NewStepCount,
    /// The jobs that end in this transaction.
    pub(crate) ends: Ends,
    /// What this transaction changes of the numbers of jobs.
    pub(crate) tally: Tally,
    leased_lanes: LeasedLanes,
    /// What listeners are to be notified of once the transaction is committed.
    pub(crate) changes: Changes,
}

/// A pair of queue and task.
#[derive(Clone, Copy)]
pub(crate) struct Lane<'n> {
    pub(crate) id: i64,
    pub(crate) queue: &'n str,
    pub(crate) task: &'n str,
}

/// The numbers of the pairs of queue and task.
#[derive(Default)]
struct Lanes {
    by_name: HashMap<String, HashMap<String, i64>>,
    newest: i64,
}

impl<'c> Tables<'c> {
    pub(crate) fn new(connection: &'c Connection, workers: Arc<Workers>) -> rusqlite::Result<Self> {
        let mut sql = Statements::prepare(connection)?;
        let new_steps = NewStepCount::count(&mut sql)?;
        let (lanes, changes) = (Lanes::default(), Changes::default());
        let begun = Instant::now();
        Ok(Self {
            connection,
            sql,
            transaction: None,
            begun,
            workers,
            lanes,
            reached: i64::MIN,
            fresh: None,
            new_steps,
            ends: Ends::default(),
            tally: Tally::default(),
            leased_lanes: LeasedLanes::default(),
            changes,
        })
    }

    /// Begins a transaction, to which handlers have access or not.
    pub(crate) fn begin(&mut self, for_handlers: bool) -> rusqlite::Result<()> {
        if for_handlers {
            let begun = rusqlite::Transaction::new_unchecked(self.connection, TransactionBehavior::Immediate)?;
            self.transaction = Some(Transaction(begun));
        } else {
            // This statement need not be compiled each time.
            self.sql.begin.execute([])?;
        }
        self.begun = Instant::now();
        Ok(())
    }

    /// The transaction that has begun for handlers.
    pub(crate) fn transaction(&self) -> Result<&Transaction<'c>, Fault> {
        self.transaction.as_ref().ok_or(Fault::Gone)
    }

    pub(crate) fn commit(&mut self) -> Result<Changes, Fault> {
        self.write_sums()?;
        let committed = match self.transaction.take() {
            Some(Transaction(transaction)) => transaction.commit(),
            None => self.sql.commit.execute([]).map(drop),
        };
        committed.map_err(|error| match error.sqlite_error_code() {
            Some(ErrorCode::ConstraintViolation) => Fault::Misuse(BROKEN),
            _ => error.into(),
        })?;
        Ok(std::mem::take(&mut self.changes))
    }

    /// Writes what the transaction has added up so far.
    pub(crate) fn write_sums(&mut self) -> rusqlite::Result<()> {
        self.release()?;
        self.ends.write(&mut self.sql)?;
        self.tally.write(&mut self.sql.count)
    }

    pub(crate) fn rollback(&mut self) {
        self.fresh = None;
        self.ends = Ends::default();
        self.tally = Tally::default();
        self.leased_lanes = LeasedLanes::default();
        self.changes = Changes::default();
        self.new_steps.forget();
        // Lanes that were added in the transaction are gone with it.
        self.lanes = Lanes::default();
        drop(self.transaction.take());
        if !self.connection.is_autocommit() && self.sql.rollback.execute([]).is_err() {
            tracing::error!("a transaction could not be rolled back");
        }
    }

    /// A number that changes when another connection commits something.
    pub(crate) fn data_version(&mut self) -> rusqlite::Result<i64> {
        self.sql.data_version.query_row([], |row| row.get(0))
    }

    /// Writes new steps, and moves all new steps once they are many.
    pub(crate) fn add_steps(&mut self, new: New) -> rusqlite::Result<()> {
        let more = new.write(&mut self.sql)?;
        self.new_steps.more(&mut self.sql, more)
    }

    /// Moves all new steps to the segments of their jobs.
    pub(crate) fn move_steps(&mut self) -> rusqlite::Result<()> {
        self.new_steps.shift(&mut self.sql)
    }

    /// Inserts a job that waits.
    pub(crate) fn insert(&mut self, lane: i64, job: &NewJob) -> rusqlite::Result<()> {
        self.changes.add(Changes::enqueued());
        if !Inserts::of(&mut self.sql).insert(lane, job, None)? {
            return Ok(());
        }
        if after::hold(self.connection, job)? {
            self.tally.add(lane, StateKind::Cancelled, 1);
            self.ends.add(encoding::CANCELLED, encoding::millis(job.call.enqueued), job.call.id);
        } else {
            self.tally.add(lane, StateKind::Waiting, 1);
        }
        Ok(())
    }

    /// Counts a job that waited in this lane and was leased.
    pub(crate) fn count_leased(&mut self, lane: i64, job: JobId) {
        self.tally.change(lane, StateKind::Waiting, StateKind::Running);
        self.leased_lanes.remember(job, lane);
    }

    /// Counts a job that came from one state into another.
    pub(crate) fn count_settled(&mut self, job: JobId, from: StateKind, to: StateKind) -> rusqlite::Result<()> {
        if let Some(lane) = self.leased_lanes.take(&mut self.sql, job)? {
            self.tally.change(lane, from, to);
        }
        Ok(())
    }

    /// Leases new jobs to the workers that wait for them.
    pub(crate) fn assign_fresh(&mut self, waiters: &mut Waiters) -> rusqlite::Result<()> {
        let Some(mut fresh) = self.fresh.take() else { return Ok(()) };
        waiters.assign(&mut fresh, |fresh: Fresh, worker| {
            let job = fresh.run(self, worker)?;
            self.changes.add(Changes::progressed(job.iter().map(|job| job.call.id)));
            Ok::<_, rusqlite::Error>(job)
        })?;
        self.fresh = Some(fresh);
        Ok(())
    }

    /// Inserts the jobs that no worker has leased in this transaction.
    pub(crate) fn insert_fresh(&mut self) -> rusqlite::Result<()> {
        let fresh = self.fresh.take().unwrap_or_default();
        fresh.iter().try_for_each(|fresh| self.insert(fresh.lane, &fresh.job))
    }

    /// Inserts the jobs that were enqueued in this transaction so far.
    pub(crate) fn flush_fresh(&mut self) -> rusqlite::Result<()> {
        let Some(fresh) = &mut self.fresh else { return Ok(()) };
        let fresh = std::mem::take(fresh);
        fresh.iter().try_for_each(|fresh| self.insert(fresh.lane, &fresh.job))
    }

    /// Takes note that jobs that are due by `time` may stand with those known to be due; gives whether that is the latest
    /// such time.
    pub(crate) fn reach(&mut self, time: i64) -> bool {
        let first = time >= self.reached;
        self.reached = self.reached.max(time);
        first
    }

    /// The number of a pair of queue and task; a new one if need be.
    pub(crate) fn lane(&mut self, queue: &str, task: &str) -> rusqlite::Result<i64> {
        if let Some(lane) = self.lanes.get(queue, task) {
            return Ok(lane);
        }
        let lane = intern(&mut self.sql.insert_lane, queue, task)?;
        self.lanes.read(&mut self.sql.new_lanes)?;
        Ok(lane)
    }

    /// The numbers of all pairs of these queues and tasks of which there are jobs, each once.
    pub(crate) fn lanes<'n>(&mut self, queues: &'n [String], tasks: &[&'n str]) -> rusqlite::Result<Vec<Lane<'n>>> {
        self.lanes.read(&mut self.sql.new_lanes)?;
        let pairs = queues.iter().flat_map(|queue| tasks.iter().map(move |task| (queue.as_str(), *task)));
        let lane = |(queue, task): (&'n str, &'n str)| Some(Lane { id: self.lanes.get(queue, task)?, queue, task });
        let mut lanes: Vec<_> = pairs.filter_map(lane).collect();
        lanes.sort_unstable_by_key(|lane| lane.id);
        lanes.dedup_by_key(|lane| lane.id);
        Ok(lanes)
    }
}

impl Lanes {
    fn get(&self, queue: &str, task: &str) -> Option<i64> {
        self.by_name.get(queue)?.get(task).copied()
    }

    /// Reads those that others have added.
    fn read(&mut self, new_lanes: &mut Statement<'_>) -> rusqlite::Result<()> {
        let mut rows = new_lanes.query([self.newest])?;
        while let Some(row) = rows.next()? {
            self.newest = row.get(0)?;
            self.by_name.entry(row.get(1)?).or_default().insert(row.get(2)?, self.newest);
        }
        Ok(())
    }
}

/// A job that was enqueued in this transaction and is not in the tables yet.
pub(crate) struct Fresh {
    pub(crate) lane: i64,
    pub(crate) job: NewJob,
}

impl Borrow<NewJob> for Fresh {
    fn borrow(&self) -> &NewJob {
        &self.job
    }
}

impl Fresh {
    /// The job with the least urgency value is leased first.
    pub(crate) fn urgency(&self) -> (i16, JobId) {
        (!self.job.call.priority, self.job.call.id)
    }

    /// Takes the new jobs of these lanes, the most urgent last. Those of other lanes stay.
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
        if !Inserts::of(&mut tables.sql).insert(lane, &job, Some(worker))? {
            return Ok(None);
        }
        tables.tally.add(lane, StateKind::Waiting, 1);
        tables.count_leased(lane, job.call.id);
        Ok(Some(job.leased_to(worker)))
    }
}
