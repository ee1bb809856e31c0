//! How jobs come to their next state.

use std::{collections::HashMap, sync::Arc};

use rusqlite::{Statement, params};

use super::keys;
use crate::store::sqlite::{
    batcher::{command::Write, tables::Tables},
    encoding::{self, NextColumns},
    error::Fault,
    sql::Statements,
};
use crate::{
    error::Result,
    model::job::{Attempt, JobId, Lease, StateKind, Suspect, WorkerId},
    store::{Changes, FIRST_ATTEMPTS, Hold, KEPT_ATTEMPTS, LAST_ATTEMPTS, Settlement, Written},
};

pub(crate) struct Settle(pub(crate) Arc<[Settlement]>);

impl Write for Settle {
    type Outcome = Vec<Written>;
    const DOING: &'static str = "settle jobs";

    fn weight(&self) -> usize {
        self.0.len()
    }

    fn apply(&self, tables: &mut Tables<'_>) -> Result<Vec<Written>, Fault> {
        tables.changes.add(Changes::settled(&*self.0));
        self.0.iter().for_each(|settlement| _ = tables.reach(encoding::millis(settlement.now)));
        let workers = Arc::clone(&tables.workers);
        let mut judged = HashMap::new();
        let mut is_silent = |worker, beat| *judged.entry((worker, beat)).or_insert_with(|| workers.judge(worker, beat));
        self.0.iter().map(|settlement| settle(tables, settlement, &mut is_silent)).collect()
    }
}

fn settle(
    tables: &mut Tables<'_>,
    settlement: &Settlement,
    is_silent: &mut impl FnMut(WorkerId, Option<u64>) -> bool,
) -> Result<Written, Fault> {
    // A worker is judged only where there is something to take from it.
    if let Hold::Silent { lease, beat } = settlement.hold
        && !(runs_under(&mut tables.sql, lease)? && is_silent(lease.worker, beat))
    {
        return Ok(Written::Fenced);
    }
    let next = NextColumns::new(&settlement.outcome.next, settlement.now);
    let mut keyed = None;
    if matches!(settlement.hold, Hold::Seen { state, .. } if state.is_ended()) && !settlement.outcome.next.is_ended() {
        let (may, call) = keys::may_live_again(tables.connection, settlement.job())?;
        if !may {
            return Ok(Written::Fenced);
        }
        keyed = call;
    }
    if update(&mut tables.sql, settlement, &next)? == 0 {
        return Ok(Written::Fenced);
    }
    let from = match settlement.hold {
        Hold::Lease(_) | Hold::Silent { .. } => StateKind::Running,
        Hold::Seen { state, .. } => state,
    };
    if let Some(due) = settlement.due_unstarted() {
        tables.sql.expire_from.execute(params![settlement.job().to_bytes(), encoding::millis(due)])?;
    }
    if let Some(call) = keyed {
        keys::retake(tables.connection, &call)?;
    }
    let to = settlement.outcome.next.kind();
    tables.count_settled(settlement.job(), from, to)?;
    list_dead(&mut tables.sql, settlement.job(), from, to)?;
    if let Some(ended) = next.ended {
        tables.ends.add(next.state, ended, settlement.job());
    }
    if let Some(attempt) = &settlement.attempt
        && settlement.attempt_in_job().is_none()
    {
        keep(&mut tables.sql, settlement.job().to_bytes(), attempt)?;
    }
    Ok(Written::Yes)
}

/// Lists a job that is dead from now on, or is so no more.
fn list_dead(sql: &mut Statements<'_>, job: JobId, from: StateKind, to: StateKind) -> rusqlite::Result<()> {
    match (from, to) {
        (_, StateKind::Dead) => sql.insert_dead.execute([job.to_bytes()]).map(drop),
        (StateKind::Dead, _) => sql.delete_dead.execute([job.to_bytes()]).map(drop),
        _ => Ok(()),
    }
}

/// Writes what becomes of the job, if it still is as the settlement says; gives 1 if so.
fn update(sql: &mut Statements<'_>, settlement: &Settlement, next: &NextColumns<'_>) -> rusqlite::Result<usize> {
    let NextColumns { state, due, ended, shape, detail } = next;
    let (id, failures) = (settlement.job().to_bytes(), settlement.outcome.failures);
    let steps = settlement.steps.map(encoding::count);
    let suspect = settlement.outcome.suspect;
    let Suspect { survived, losses, .. } = suspect.unwrap_or_default();
    let (suspect, survived) = (suspect.is_some(), encoding::survived_millis(survived));
    match settlement.hold {
        Hold::Lease(Lease { attempt, worker, .. }) | Hold::Silent { lease: Lease { attempt, worker, .. }, .. } => {
            let (worker, in_job) = (worker.to_bytes(), settlement.attempt_in_job());
            let started = in_job.and_then(|attempt| attempt.started).map(encoding::millis);
            let in_job = in_job.is_some();
            sql.settle_leased.execute(params![
                state, due, ended, shape, detail, failures, suspect, survived, losses, id, attempt, worker, steps,
                in_job, started
            ])
        }
        Hold::Seen { state: seen, attempt, .. } => {
            if seen == StateKind::Done {
                sql.keep_attempt.execute(params![id, attempt, steps])?;
            }
            let (first, last) = encoding::of_state(seen);
            sql.settle_seen.execute(params![
                state, due, ended, shape, detail, failures, suspect, survived, losses, id, attempt, first, last, steps
            ])
        }
    }
}

/// Writes an attempt into the history of its job.
fn keep(sql: &mut Statements<'_>, job: [u8; 16], attempt: &Attempt) -> rusqlite::Result<()> {
    insert_attempt(&mut sql.insert_attempt, job, attempt)?;
    if attempt.number > KEPT_ATTEMPTS {
        sql.trim_attempts.execute(params![job, encoding::count(FIRST_ATTEMPTS), encoding::count(LAST_ATTEMPTS)])?;
    }
    Ok(())
}

fn runs_under(sql: &mut Statements<'_>, lease: Lease) -> rusqlite::Result<bool> {
    sql.recorded.exists(params![lease.job.to_bytes(), lease.worker.to_bytes(), lease.attempt])
}

fn insert_attempt(insert_attempt: &mut Statement<'_>, job: [u8; 16], attempt: &Attempt) -> rusqlite::Result<()> {
    let (ending, error) = encoding::ending_columns(&attempt.ending);
    let (started, ended) = (attempt.started.map(encoding::millis), encoding::millis(attempt.ended));
    let worker = attempt.worker.to_bytes();
    insert_attempt.execute(params![job, attempt.number, worker, started, ended, ending, error]).map(drop)
}
