//! How jobs, steps and attempts stand in the tables.

use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Row, types::Type};

use super::error::Fault;
pub(super) use crate::store::codec::{limit_millis, millis, time};
use crate::{
    model::{
        job::{Attempt, Ending, Job, JobId, Lease, Memo, Output, Progress, Shape, State, Suspect, WorkerId},
        json::Json,
    },
    store::codec::limit,
};

/// The `state` column.
pub(super) const LATER: i64 = 0;
pub(super) const READY: i64 = 1;
pub(super) const RUNNING: i64 = 2;
pub(super) const DONE: i64 = 3;
pub(super) const DEAD: i64 = 4;
pub(super) const CANCELLED: i64 = 5;

/// The `state` columns, first and last, of the state of this name.
pub(super) fn codes(name: &str) -> (i64, i64) {
    match name {
        "waiting" => (LATER, READY),
        "running" => (RUNNING, RUNNING),
        "done" => (DONE, DONE),
        "dead" => (DEAD, DEAD),
        "cancelled" => (CANCELLED, CANCELLED),
        _ => (-1, -1),
    }
}

/// A number of things, as the tables and `LIMIT` take it.
pub(super) fn count(count: impl TryInto<i64>) -> i64 {
    count.try_into().unwrap_or(i64::MAX)
}

/// The columns that a state other than running takes.
pub(super) struct Standing<'a> {
    pub(super) state: i64,
    pub(super) due: Option<i64>,
    pub(super) ended: Option<i64>,
    pub(super) shape: Option<&'static str>,
    pub(super) outcome: Option<&'a str>,
}

impl<'a> Standing<'a> {
    pub(super) fn new(state: &'a State, now: Timestamp) -> Result<Self, Fault> {
        let ended = Self { state: DONE, due: None, ended: Some(millis(now)), shape: None, outcome: None };
        Ok(match state {
            State::Waiting { due } => {
                let (due, now) = (millis(*due), millis(now));
                Self { state: if due <= now { READY } else { LATER }, due: Some(due), ended: None, ..ended }
            }
            State::Running { .. } => {
                return Err(Fault::Misuse("a job comes to run by a lease, not by a settlement"));
            }
            State::Done { output: Output::Value(value) } => Self { outcome: Some(value.as_str()), ..ended },
            State::Done { output: Output::Steps(shape) } => Self { shape: Some(shape_name(*shape)), ..ended },
            State::Dead { error } => Self { state: DEAD, outcome: Some(error), ..ended },
            State::Cancelled { reason } => Self { state: CANCELLED, outcome: Some(reason), ..ended },
        })
    }
}

/// The columns of [`job`], of `qtasks_jobs AS j`; its task and its queue are those of `qtasks_lanes AS l`, or as given. The
/// last ones are those of a suspect, where the first of them is not 0; they may be given too.
macro_rules! job_columns {
    () => {
        $crate::store::sqlite::encoding::job_columns!(
            "l.task",
            "l.queue",
            "j.suspect, j.survived, j.losses, j.leased, j.liable"
        )
    };
    ($task:literal, $queue:literal, $suspect:literal) => {
        concat!(
            "j.id, ",
            $task,
            ", ",
            $queue,
            ", j.rank, coalesce(j.args, (SELECT a.args FROM qtasks_args AS a WHERE a.job = j.id)), \
         j.max_time, j.enqueued, j.state, j.due, j.worker, j.shape, j.outcome, j.attempt, j.failures, j.steps, \
         j.skipped, j.progress_done, j.progress_total, j.memos, ",
            $suspect
        )
    };
}
pub(super) use job_columns;

/// Reads the columns of [`job_columns`].
pub(super) fn job(row: &Row<'_>) -> rusqlite::Result<Job> {
    let rank: i64 = row.get(3)?;
    let done: Option<i64> = row.get(16)?;
    let total: Option<i64> = row.get(17)?;
    Ok(Job {
        id: job_id(row, 0)?,
        task: row.get(1)?,
        queue: row.get(2)?,
        priority: (-rank).try_into().unwrap_or_default(),
        args: json(row, 4)?,
        max_time: row.get::<_, Option<i64>>(5)?.map(limit),
        enqueued: time(row.get(6)?),
        state: state(row)?,
        attempt: row.get(12)?,
        failures: row.get(13)?,
        suspect: suspect(row)?,
        steps: row.get::<_, i64>(14)?.cast_unsigned(),
        skipped: row.get::<_, i64>(15)?.cast_unsigned(),
        memos: row.get::<_, i64>(18)?.cast_unsigned(),
        progress: done
            .zip(total)
            .map(|(done, total)| Progress { done: done.cast_unsigned(), total: total.cast_unsigned() }),
    })
}

fn suspect(row: &Row<'_>) -> rusqlite::Result<Option<Suspect>> {
    let is_suspect: bool = row.get(19)?;
    let suspect = || {
        Ok(Suspect {
            survived: survived(row.get(20)?),
            losses: row.get(21)?,
            leased: row.get::<_, Option<i64>>(22)?.map(time),
            liable: row.get(23)?,
        })
    };
    is_suspect.then(suspect).transpose()
}

/// What a suspect survived, in whole milliseconds.
pub(super) fn survived_millis(survived: Duration) -> i64 {
    count(survived.as_millis())
}

/// What [`survived_millis`] gave this number for.
fn survived(millis: i64) -> Duration {
    Duration::from_millis(if millis == i64::MAX { u64::MAX } else { millis.max(0).cast_unsigned() })
}

fn state(row: &Row<'_>) -> rusqlite::Result<State> {
    Ok(match row.get(7)? {
        LATER | READY => State::Waiting { due: time(row.get(8)?) },
        RUNNING => State::Running { worker: worker_id(row, 9)? },
        DONE => State::Done { output: output(row)? },
        DEAD => State::Dead { error: row.get(11)? },
        CANCELLED => State::Cancelled { reason: row.get(11)? },
        unknown => return Err(unreadable(7, format!("{unknown} is no state of a job"))),
    })
}

fn output(row: &Row<'_>) -> rusqlite::Result<Output> {
    let shape: Option<String> = row.get(10)?;
    let Some(shape) = shape else { return Ok(Output::Value(json(row, 11)?)) };
    match SHAPES.iter().find(|(_, name)| *name == shape) {
        Some((shape, _)) => Ok(Output::Steps(*shape)),
        None => Err(unreadable(10, format!("`{shape}` is no shape of a result"))),
    }
}

const SHAPES: [(Shape, &str); 6] = [
    (Shape::List, "list"),
    (Shape::Map, "map"),
    (Shape::Text, "text"),
    (Shape::Count, "count"),
    (Shape::Last, "last"),
    (Shape::Nothing, "nothing"),
];

fn shape_name(shape: Shape) -> &'static str {
    match shape {
        Shape::List => "list",
        Shape::Map => "map",
        Shape::Text => "text",
        Shape::Count => "count",
        Shape::Last => "last",
        Shape::Nothing => "nothing",
    }
}

/// The `step` column of a memo.
pub(super) fn memo_step(step: Option<u64>) -> i64 {
    step.map_or(-1, count)
}

/// Reads `step, number, name, nth, value`.
pub(super) fn memo(row: &Row<'_>) -> rusqlite::Result<Memo> {
    Ok(Memo {
        step: u64::try_from(row.get::<_, i64>(0)?).ok(),
        number: row.get::<_, i64>(1)?.cast_unsigned(),
        name: row.get(2)?,
        nth: row.get::<_, i64>(3)?.cast_unsigned(),
        value: json(row, 4)?,
    })
}

/// The `ending` and `error` columns.
pub(super) fn ending_columns(ending: &Ending) -> (&'static str, Option<&str>) {
    match ending {
        Ending::Done => ("done", None),
        Ending::Failed { error } => ("failed", Some(error)),
        Ending::Snoozed => ("snoozed", None),
        Ending::Cancelled { reason } => ("cancelled", Some(reason)),
        Ending::Discarded { reason } => ("discarded", Some(reason)),
        Ending::Released => ("released", None),
        Ending::Lost => ("lost", None),
    }
}

/// Reads `number, worker, started, ended, ending, error`.
pub(super) fn attempt(row: &Row<'_>) -> rusqlite::Result<Attempt> {
    let ending: String = row.get(4)?;
    let ending = match ending.as_str() {
        "done" => Ending::Done,
        "failed" => Ending::Failed { error: row.get(5)? },
        "snoozed" => Ending::Snoozed,
        "cancelled" => Ending::Cancelled { reason: row.get(5)? },
        "discarded" => Ending::Discarded { reason: row.get(5)? },
        "released" => Ending::Released,
        "lost" => Ending::Lost,
        unknown => return Err(unreadable(4, format!("`{unknown}` is no ending of an attempt"))),
    };
    Ok(Attempt {
        number: row.get(0)?,
        worker: worker_id(row, 1)?,
        started: row.get::<_, Option<i64>>(2)?.map(time),
        ended: time(row.get(3)?),
        ending,
    })
}

/// Reads `id, attempt`, of a job that `worker` holds.
pub(super) fn lease(row: &Row<'_>, worker: WorkerId) -> rusqlite::Result<Lease> {
    Ok(Lease { job: job_id(row, 0)?, attempt: row.get(1)?, worker })
}

pub(super) fn job_id(row: &Row<'_>, column: usize) -> rusqlite::Result<JobId> {
    row.get(column).map(JobId::from_bytes)
}

pub(super) fn worker_id(row: &Row<'_>, column: usize) -> rusqlite::Result<WorkerId> {
    row.get(column).map(WorkerId::from_bytes)
}

fn json(row: &Row<'_>, column: usize) -> rusqlite::Result<Json> {
    Ok(Json::from_stored(row.get_ref(column)?.as_str()?))
}

fn unreadable(column: usize, why: String) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, why.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_is_read_as_it_was_written() {
        for (shape, name) in SHAPES {
            assert_eq!(shape_name(shape), name);
        }
    }
}
