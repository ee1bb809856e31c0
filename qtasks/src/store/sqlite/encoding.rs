//! How jobs, steps and attempts stand in the tables.

use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Row, types::Type};

pub(super) use crate::store::codec::{columns::*, limit_millis, millis, time};
use crate::{
    model::{
        job::{
            Attempt, Counts, Ending, Job, JobCall, JobId, Lease, Memo, NextState, Output, Progress, Standing, State,
            StateKind, Suspect, Version, WorkerId,
        },
        json::Json,
    },
    store::{
        Note,
        codec::{ENDINGS, limit, read_ending, shape_name, shape_of_name},
        more::read_more,
    },
};

/// A number of things, as the tables and `LIMIT` take it.
pub(super) fn count(count: impl TryInto<i64>) -> i64 {
    count.try_into().unwrap_or(i64::MAX)
}

/// The columns that say what becomes of a job.
pub(super) struct NextColumns<'a> {
    pub(super) state: i16,
    pub(super) due: Option<i64>,
    pub(super) ended: Option<i64>,
    pub(super) shape: Option<&'static str>,
    pub(super) detail: Option<&'a str>,
}

impl<'a> NextColumns<'a> {
    pub(super) fn new(next: &'a NextState, now: Timestamp) -> Self {
        let ended = Self { state: DONE, due: None, ended: Some(millis(now)), shape: None, detail: None };
        match next {
            NextState::Waiting { due } => {
                let (due, now) = (millis(*due), millis(now));
                Self { state: if due <= now { READY } else { LATER }, due: Some(due), ended: None, ..ended }
            }
            NextState::Done { output: Output::Value(value) } => Self { detail: Some(value.as_str()), ..ended },
            NextState::Done { output: Output::Steps(shape) } => Self { shape: Some(shape_name(*shape)), ..ended },
            NextState::Dead { error } => Self { state: DEAD, detail: Some(error), ..ended },
            NextState::Cancelled { reason } => Self { state: CANCELLED, detail: Some(reason), ..ended },
        }
    }
}

/// The columns of [`job`], of `qtasks_jobs AS j`; its task and its queue are those of `qtasks_lanes AS l`, or as given. So may be
/// the time of its end, what belongs to its state, and the last ones, which are those of a suspect, where the first is not 0.
macro_rules! job_columns {
    () => {
        $crate::store::sqlite::encoding::job_columns!(
            "l.task",
            "l.queue",
            "j.ended_at",
            "j.state, j.due, j.worker, j.shape, j.detail",
            "j.suspect, j.survived, j.losses, j.leased, j.liable"
        )
    };
    ($task:literal, $queue:literal, $ended:literal, $state:literal, $suspect:literal) => {
        concat!(
            "j.id, ",
            $task,
            ", ",
            $queue,
            ", j.rank, coalesce(j.args, (SELECT a.args FROM qtasks_args AS a WHERE a.job = j.id)), \
         j.max_time, j.enqueued, j.more, ",
            $ended,
            ", ",
            $crate::store::sqlite::encoding::standing_columns!($state, $suspect)
        )
    };
}
pub(super) use job_columns;

/// The columns of [`standing`], of `qtasks_jobs AS j`. They stand last among those of [`job`].
macro_rules! standing_columns {
    () => {
        $crate::store::sqlite::encoding::standing_columns!(
            "j.state, j.due, j.worker, j.shape, j.detail",
            "j.suspect, j.survived, j.losses, j.leased, j.liable"
        )
    };
    ($state:literal, $suspect:literal) => {
        concat!(
            $state,
            ", j.attempt, j.failures, j.steps, j.skipped, j.progress_done, j.progress_total, j.memos, ",
            $suspect
        )
    };
}
pub(super) use standing_columns;

/// Reads the columns of [`job_columns`].
pub(super) fn job(row: &Row<'_>) -> rusqlite::Result<Job> {
    let (standing, counts) = standing_from(row, 9)?;
    Ok(Job { call: call(row)?, standing, counts, ended: row.get::<_, Option<i64>>(8)?.map(time) })
}

fn call(row: &Row<'_>) -> rusqlite::Result<JobCall> {
    let rank: i64 = row.get(3)?;
    let mut call = JobCall {
        id: job_id(row, 0)?,
        task: row.get(1)?,
        queue: row.get(2)?,
        priority: (-rank).try_into().unwrap_or_default(),
        args: json(row, 4)?,
        max_time: row.get::<_, Option<i64>>(5)?.map(limit),
        enqueued: time(row.get(6)?),
        expires: None,
        trace: None,
        key: None,
        after: None,
    };
    read_more(&mut call, row.get::<_, Option<String>>(7)?.as_deref());
    Ok(call)
}

/// Reads the columns of [`standing_columns`].
pub(super) fn standing(row: &Row<'_>) -> rusqlite::Result<(Standing, Counts)> {
    standing_from(row, 0)
}

/// Reads them where they begin at column `first`.
fn standing_from(row: &Row<'_>, first: usize) -> rusqlite::Result<(Standing, Counts)> {
    let standing = Standing {
        state: state(row, first)?,
        attempt: row.get(first + 5)?,
        failures: row.get(first + 6)?,
        suspect: suspect(row, first + 12)?,
    };
    Ok((standing, counts(row, first + 7)?))
}

/// Reads `steps, skipped, progress_done, progress_total, memos`.
fn counts(row: &Row<'_>, first: usize) -> rusqlite::Result<Counts> {
    let done: Option<i64> = row.get(first + 2)?;
    let total: Option<i64> = row.get(first + 3)?;
    let progress = |(done, total): (i64, i64)| Progress { done: done.cast_unsigned(), total: total.cast_unsigned() };
    Ok(Counts {
        steps: row.get::<_, i64>(first)?.cast_unsigned(),
        skipped: row.get::<_, i64>(first + 1)?.cast_unsigned(),
        memos: row.get::<_, i64>(first + 4)?.cast_unsigned(),
        progress: done.zip(total).map(progress),
    })
}

/// Reads `suspect, survived, losses, leased, liable`.
fn suspect(row: &Row<'_>, first: usize) -> rusqlite::Result<Option<Suspect>> {
    let is_suspect: bool = row.get(first)?;
    let suspect = || {
        Ok(Suspect {
            survived: survived(row.get(first + 1)?),
            losses: row.get(first + 2)?,
            leased: row.get::<_, Option<i64>>(first + 3)?.map(time),
            liable: row.get(first + 4)?,
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

/// Reads `state, due, worker, shape, detail`.
fn state(row: &Row<'_>, first: usize) -> rusqlite::Result<State> {
    Ok(match row.get(first)? {
        LATER | READY => State::waiting(time(row.get(first + 1)?)),
        AFTER => {
            let parents: String = row.get(first + 4)?;
            let parents =
                parents.parse().map_err(|_| unreadable(first + 4, format!("{parents} is no number of jobs")))?;
            State::Waiting { due: time(row.get(first + 1)?), parents }
        }
        RUNNING => State::Running { worker: worker_id(row, first + 2)?, due: time(row.get(first + 1)?) },
        DONE => State::Done { output: output(row, first + 3)? },
        DEAD => State::Dead { error: row.get(first + 4)? },
        CANCELLED => State::Cancelled { reason: row.get(first + 4)? },
        unknown => return Err(unknown_state(first, unknown)),
    })
}

/// Reads `state`, without what belongs to it.
pub(super) fn state_kind(row: &Row<'_>, column: usize) -> rusqlite::Result<StateKind> {
    let state = row.get(column)?;
    kind(state).ok_or_else(|| unknown_state(column, state))
}

fn unknown_state(column: usize, state: i16) -> rusqlite::Error {
    unreadable(column, format!("{state} is no state of a job"))
}

/// Reads `shape, detail`.
fn output(row: &Row<'_>, first: usize) -> rusqlite::Result<Output> {
    let shape: Option<String> = row.get(first)?;
    let Some(shape) = shape else { return Ok(Output::Value(json(row, first + 1)?)) };
    let known = shape_of_name(&shape).map(Output::Steps);
    known.ok_or_else(|| unreadable(first, format!("`{shape}` is no shape of a result")))
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

/// Reads `kind, name, version, value, until`.
pub(super) fn note(row: &Row<'_>) -> rusqlite::Result<Note> {
    let version = row.get(2).map(Version::from_bytes)?;
    let until = row.get::<_, Option<i64>>(4)?.map(time);
    Ok(Note { kind: row.get(0)?, name: row.get(1)?, version, value: json(row, 3)?, until })
}

/// The `ending` and `error` columns.
pub(super) fn ending_columns(ending: &Ending) -> (&'static str, Option<&str>) {
    let (number, error) = crate::store::codec::ending(ending);
    (ENDINGS[usize::from(number)], error)
}

/// Reads `number, worker, started, ended, ending, error, steps`.
pub(super) fn attempt(row: &Row<'_>) -> rusqlite::Result<Attempt> {
    let ending = ending(row)?;
    Ok(Attempt {
        number: row.get(0)?,
        worker: worker_id(row, 1)?,
        started: row.get::<_, Option<i64>>(2)?.map(time),
        ended: time(row.get(3)?),
        ending,
        steps: row.get::<_, Option<i64>>(6)?.map(i64::cast_unsigned),
    })
}

fn ending(row: &Row<'_>) -> rusqlite::Result<Ending> {
    let name: String = row.get(4)?;
    let number = (0..).zip(ENDINGS).find(|(_, other)| *other == name).map(|(number, _)| number);
    let known = number.map(|number| read_ending(number, || row.get(5))).transpose()?.flatten();
    known.ok_or_else(|| unreadable(4, format!("`{name}` is no ending of an attempt")))
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
