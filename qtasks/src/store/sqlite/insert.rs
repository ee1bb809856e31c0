//! How one job comes into the tables, for the writer and for transactions of the application.

use rusqlite::{Statement, params};

use super::{encoding, sql::Statements};
use crate::{
    model::job::{NewJob, WorkerId},
    store::more::more,
};

/// Arguments of more bytes than this stand in a table of their own.
pub(super) const LARGE: usize = 1024;

/// The statements that insert a job with all that is its own.
pub(super) struct Inserts<'s, 'c> {
    /// [`INSERT_JOB`](super::sql::INSERT_JOB)
    pub(super) job: &'s mut Statement<'c>,
    /// [`INSERT_ARGS`](super::sql::INSERT_ARGS)
    pub(super) args: &'s mut Statement<'c>,
    /// [`INSERT_EXPIRING`](super::sql::INSERT_EXPIRING)
    pub(super) expiring: &'s mut Statement<'c>,
}

impl<'s, 'c> Inserts<'s, 'c> {
    pub(super) fn of(sql: &'s mut Statements<'c>) -> Self {
        Self { job: &mut sql.insert_job, args: &mut sql.insert_args, expiring: &mut sql.insert_expiring }
    }

    /// Inserts a job that waits, or runs its first attempt at `worker`; gives whether it was not there before.
    pub(super) fn insert(self, lane: i64, job: &NewJob, worker: Option<WorkerId>) -> rusqlite::Result<bool> {
        let id = job.call.id.to_bytes();
        let (due, enqueued) = (encoding::millis(job.due), encoding::millis(job.call.enqueued));
        let state = match worker {
            Some(_) => encoding::RUNNING,
            None if due <= enqueued => encoding::READY,
            None => encoding::LATER,
        };
        let args = job.call.args.as_str();
        let large = args.len() > LARGE;
        let inserted = self.job.execute(params![
            id,
            lane,
            -i64::from(job.call.priority),
            state,
            due,
            job.call.max_time.map(encoding::limit_millis),
            enqueued,
            (!large).then_some(args),
            worker.map(WorkerId::to_bytes),
            u32::from(worker.is_some()),
            more(&job.call),
        ])?;
        if inserted == 0 {
            return Ok(false);
        }
        if large {
            self.args.execute(params![id, args])?;
        }
        if let Some(expires) = job.call.expires {
            self.expiring.execute(params![due.saturating_add(encoding::limit_millis(expires)), id])?;
        }
        Ok(true)
    }
}

/// The number of a pair of queue and task, by [`INSERT_LANE`](super::sql::INSERT_LANE).
pub(crate) fn intern(insert_lane: &mut Statement<'_>, queue: &str, task: &str) -> rusqlite::Result<i64> {
    insert_lane.query_row(params![queue, task], |row| row.get(0))
}
