//! How one job comes into the tables, for the writer and for transactions of the application.

use rusqlite::{Statement, params};

use super::encoding;
use crate::model::job::{NewJob, WorkerId};

/// Arguments of more bytes than this stand in a table of their own.
pub(super) const LARGE: usize = 1024;

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
pub(super) fn insert_job_of(
    insert_job: &mut Statement<'_>,
    insert_args: &mut Statement<'_>,
    lane: i64,
    job: &NewJob,
    worker: Option<WorkerId>,
) -> rusqlite::Result<bool> {
    let id = job.call.id.to_bytes();
    let (due, enqueued) = (encoding::millis(job.due), encoding::millis(job.call.enqueued));
    let state = match worker {
        Some(_) => encoding::RUNNING,
        None if due <= enqueued => encoding::READY,
        None => encoding::LATER,
    };
    let args = job.call.args.as_str();
    let large = args.len() > LARGE;
    let inserted = insert_job.execute(params![
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
        job.call.trace,
    ])?;
    if large && inserted == 1 {
        insert_args.execute(params![id, args])?;
    }
    Ok(inserted == 1)
}

/// The number of a pair of queue and task, by [`INSERT_LANE`](super::sql::INSERT_LANE).
pub(crate) fn intern(insert_lane: &mut Statement<'_>, queue: &str, task: &str) -> rusqlite::Result<i64> {
    insert_lane.query_row(params![queue, task], |row| row.get(0))
}
