//! How jobs, steps and attempts stand in the tables.

use std::{borrow::Cow, sync::Arc, time::Duration};

use serde::de::DeserializeOwned;
use tokio_postgres::{Row, types::FromSql};
use uuid::Uuid;

use super::error::Fault;
pub(super) use crate::store::codec::{columns::*, limit_millis, millis, time};
use crate::{
    model::{
        job::{
            Attempt, Counts, Ending, Job, JobCall, JobId, Memo, NextState, Output, Progress, Reply, Standing, State,
            Step, Suspect, WorkerId,
        },
        json::Json,
    },
    store::{
        codec::{limit, shape_name, shape_of_name},
        more::read_more,
    },
};

/// A count, as the tables and `LIMIT` take it.
pub(super) fn count(count: impl TryInto<i64>) -> i64 {
    count.try_into().unwrap_or(i64::MAX)
}

pub(super) fn job_id(id: JobId) -> Uuid {
    Uuid::from_bytes(id.to_bytes())
}

pub(super) fn worker_id(id: WorkerId) -> Uuid {
    Uuid::from_bytes(id.to_bytes())
}

/// Text as JSON, which has a form for the one character that Postgres does not keep.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

pub(super) fn unquoted<T: DeserializeOwned>(row: &Row, column: usize) -> Result<T, Fault> {
    let text: &str = get(row, column)?;
    serde_json::from_str(text).map_err(|error| unreadable(format!("`{text}` in the column {column}: {error}")))
}

/// The result of a settled job, as the `shape` and `outcome` columns hold it.
pub(super) fn outcome(next: &NextState) -> (Option<&'static str>, Option<Cow<'_, str>>) {
    match next {
        NextState::Done { output: Output::Value(value) } => (None, Some(value.as_str().into())),
        NextState::Done { output: Output::Steps(shape) } => (Some(shape_name(*shape)), None),
        NextState::Dead { error: text } | NextState::Cancelled { reason: text } => (None, Some(quoted(text).into())),
        NextState::Waiting { .. } => (None, None),
    }
}

pub(super) fn ending(ending: &Ending) -> String {
    serde_json::to_string(ending).expect("an ending has a JSON form")
}

/// The columns of [`job`], of `qtasks.jobs AS j`.
macro_rules! job_columns {
    () => {
        concat!(
            "j.id, j.task, j.queue, j.priority, j.args, j.max_time, j.enqueued, j.more, j.ended, ",
            $crate::store::postgres::encoding::standing_columns!()
        )
    };
}
pub(super) use job_columns;

/// How many columns those are.
pub(super) const JOB_COLUMNS: usize = 22;

/// The columns of [`standing`], of `qtasks.jobs AS j`. What is known of a suspect is one column, so that it costs other jobs
/// little. These columns stand last among those of [`job`].
macro_rules! standing_columns {
    () => {
        "j.state, j.due, j.worker, j.shape, \
         j.outcome, j.attempt, j.failures, j.steps, j.skipped, j.progress_done, j.progress_total, \
         CASE WHEN j.suspect THEN ARRAY[j.survived, j.losses, j.leased, j.liable::int::int8] END, j.memos"
    };
}
pub(super) use standing_columns;

/// Reads the columns of [`job_columns`].
pub(super) fn job(row: &Row) -> Result<Job, Fault> {
    let (standing, counts) = standing_from(row, 9)?;
    Ok(Job { call: call(row)?, standing, counts, ended: get::<Option<i64>>(row, 8)?.map(time) })
}

fn call(row: &Row) -> Result<JobCall, Fault> {
    let mut call = JobCall {
        id: JobId::from_bytes(get::<Uuid>(row, 0)?.into_bytes()),
        task: get(row, 1)?,
        queue: get(row, 2)?,
        priority: get(row, 3)?,
        args: json(row, 4)?,
        max_time: get::<Option<i64>>(row, 5)?.map(limit),
        enqueued: time(get(row, 6)?),
        expires: None,
        trace: None,
        key: None,
        after: None,
    };
    read_more(&mut call, get(row, 7)?);
    Ok(call)
}

/// Reads the columns of [`standing_columns`].
pub(super) fn standing(row: &Row) -> Result<(Standing, Counts), Fault> {
    standing_from(row, 0)
}

/// Reads the columns of [`standing_columns`] where they begin at column `first`.
fn standing_from(row: &Row, first: usize) -> Result<(Standing, Counts), Fault> {
    let standing = Standing {
        state: state(row, first)?,
        attempt: small(row, first + 5)?,
        failures: small(row, first + 6)?,
        suspect: suspect(row, first + 11)?,
    };
    let done: Option<i64> = get(row, first + 9)?;
    let total: Option<i64> = get(row, first + 10)?;
    let progress = |(done, total): (i64, i64)| Progress { done: done.cast_unsigned(), total: total.cast_unsigned() };
    let counts = Counts {
        steps: get::<i64>(row, first + 7)?.cast_unsigned(),
        skipped: get::<i64>(row, first + 8)?.cast_unsigned(),
        memos: get::<i64>(row, first + 12)?.cast_unsigned(),
        progress: done.zip(total).map(progress),
    };
    Ok((standing, counts))
}

/// Reads `state, due, worker, shape, outcome`.
fn state(row: &Row, first: usize) -> Result<State, Fault> {
    Ok(match get(row, first)? {
        LATER | READY => State::waiting(time(get(row, first + 1)?)),
        AFTER => {
            let parents = get::<&str>(row, first + 4)?;
            let parents = parents.parse().map_err(|_| unreadable(format!("{parents} is no number of jobs")))?;
            State::Waiting { due: time(get(row, first + 1)?), parents }
        }
        RUNNING => State::Running { worker: worker(row, first + 2)?, due: time(get(row, first + 1)?) },
        DONE => State::Done { output: output(row, first + 3)? },
        DEAD => State::Dead { error: unquoted(row, first + 4)? },
        CANCELLED => State::Cancelled { reason: unquoted(row, first + 4)? },
        unknown => return Err(unreadable(format!("{unknown} is no state of a job"))),
    })
}

fn suspect(row: &Row, column: usize) -> Result<Option<Suspect>, Fault> {
    let Some(known) = get::<Option<Vec<Option<i64>>>>(row, column)? else { return Ok(None) };
    let [survived, losses, leased, liable] = known[..] else {
        return Err(unreadable(format!("{known:?} is not what is known of a suspect")));
    };
    Ok(Some(Suspect {
        survived: Duration::from_millis(survived.unwrap_or(0).cast_unsigned()),
        losses: of_range(losses.unwrap_or(0))?,
        leased: leased.map(time),
        liable: liable == Some(1),
    }))
}

/// The `survived` column.
pub(super) fn survived(suspect: &Suspect) -> i64 {
    count(suspect.survived.as_millis())
}

/// Reads `shape, outcome`.
fn output(row: &Row, first: usize) -> Result<Output, Fault> {
    let Some(shape) = get::<Option<&str>>(row, first)? else { return Ok(Output::Value(json(row, first + 1)?)) };
    shape_of_name(shape).map(Output::Steps).ok_or_else(|| unreadable(format!("`{shape}` is no shape of a result")))
}

/// Reads `seq, hash, skipped, reply`.
pub(super) fn step(row: &Row) -> Result<Step, Fault> {
    let reply = match get(row, 2)? {
        true => Reply::Skipped(unquoted(row, 3)?),
        false => Reply::Value(json(row, 3)?),
    };
    Ok(Step { seq: get::<i64>(row, 0)?.cast_unsigned(), hash: get::<i64>(row, 1)?.cast_unsigned(), reply })
}

/// The `step` column of a memo.
pub(super) fn memo_step(step: Option<u64>) -> i64 {
    step.map_or(-1, count)
}

/// Reads `step, number, name, nth, value`.
pub(super) fn memo(row: &Row) -> Result<Memo, Fault> {
    Ok(Memo {
        step: u64::try_from(get::<i64>(row, 0)?).ok(),
        number: get::<i64>(row, 1)?.cast_unsigned(),
        name: unquoted(row, 2)?,
        nth: get::<i64>(row, 3)?.cast_unsigned(),
        value: json(row, 4)?,
    })
}

/// Reads `number, worker, started, ended, ending, steps`.
pub(super) fn attempt(row: &Row) -> Result<Attempt, Fault> {
    Ok(Attempt {
        number: small(row, 0)?,
        worker: worker(row, 1)?,
        started: get::<Option<i64>>(row, 2)?.map(time),
        ended: time(get(row, 3)?),
        ending: unquoted(row, 4)?,
        steps: get::<Option<i64>>(row, 5)?.map(i64::cast_unsigned),
    })
}

pub(super) fn worker(row: &Row, column: usize) -> Result<WorkerId, Fault> {
    get::<Uuid>(row, column).map(|id| WorkerId::from_bytes(id.into_bytes()))
}

pub(super) fn small(row: &Row, column: usize) -> Result<u32, Fault> {
    of_range(get(row, column)?)
}

fn of_range(number: i64) -> Result<u32, Fault> {
    number.try_into().map_err(|_| unreadable(format!("{number} is out of range")))
}

pub(super) fn json(row: &Row, column: usize) -> Result<Json, Fault> {
    get::<&str>(row, column).map(|text| Json::from_stored(Arc::<str>::from(text)))
}

pub(super) fn get<'r, T: FromSql<'r>>(row: &'r Row, column: usize) -> Result<T, Fault> {
    Ok(row.try_get(column)?)
}

fn unreadable(why: String) -> Fault {
    Fault::refused(format!("what is stored cannot be read: {why}"))
}
