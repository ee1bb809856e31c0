//! How jobs come to their next state.

use std::{collections::HashMap, sync::Arc};

use rusqlite::{Statement, params};

use crate::store::sqlite::{
    batcher::{command::Write, tables::Tables},
    encoding::{self, NextColumns},
    error::Fault,
    sql::Statements,
};
use crate::{
    error::Result,
    model::{
        job::{Attempt, Lease, Suspect, WorkerId},
        lifecycle::Outcome,
    },
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
        let (workers, sql) = (&tables.workers, &mut tables.sql);
        let mut judged = HashMap::new();
        let mut is_silent = |worker, beat| *judged.entry((worker, beat)).or_insert_with(|| workers.judge(worker, beat));
        self.0.iter().map(|settlement| settle(sql, settlement, &mut is_silent)).collect()
    }
}

fn settle(
    sql: &mut Statements<'_>,
    settlement: &Settlement,
    is_silent: &mut impl FnMut(WorkerId, Option<u64>) -> bool,
) -> Result<Written, Fault> {
    let id = settlement.job().to_bytes();
    let Outcome { next, failures, suspect } = &settlement.outcome;
    let NextColumns { state, due, ended, shape, outcome } = NextColumns::new(next, settlement.now);
    let steps = settlement.steps.map(encoding::count);
    let Suspect { survived, losses, .. } = suspect.unwrap_or_default();
    let suspect = suspect.is_some();
    let survived = encoding::survived_millis(survived);
    let changed = match settlement.hold {
        Hold::Lease(lease) | Hold::Silent { lease, .. } => {
            // A worker is judged only where there is something to take from it.
            if let Hold::Silent { beat, .. } = settlement.hold
                && !(runs_under(sql, lease)? && is_silent(lease.worker, beat))
            {
                return Ok(Written::Fenced);
            }
            let (attempt, worker) = (lease.attempt, lease.worker.to_bytes());
            sql.settle_leased.execute(params![
                state, due, ended, shape, outcome, failures, suspect, survived, losses, id, attempt, worker, steps
            ])?
        }
        Hold::Seen { state: seen, attempt, .. } => {
            let (first, last) = encoding::of_state(seen);
            sql.settle_seen.execute(params![
                state, due, ended, shape, outcome, failures, suspect, survived, losses, id, attempt, first, last, steps
            ])?
        }
    };
    if changed == 0 {
        return Ok(Written::Fenced);
    }
    if let Some(attempt) = &settlement.attempt {
        insert_attempt(&mut sql.insert_attempt, id, attempt)?;
        if attempt.number > KEPT_ATTEMPTS {
            sql.trim_attempts.execute(params![id, encoding::count(FIRST_ATTEMPTS), encoding::count(LAST_ATTEMPTS)])?;
        }
    }
    Ok(Written::Yes)
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
