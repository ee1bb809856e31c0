//! How jobs come to their next state.

use std::{borrow::Cow, collections::HashMap, sync::Arc};

use futures::future::BoxFuture;
use tokio_postgres::{Row, types::Type};
use uuid::Uuid;

use super::{
    done::{self, SETTLE_DONE},
    keys,
};
use crate::store::postgres::{
    batcher::{BatchedCall, dealt_out},
    encoding::{self, CANCELLED, DEAD, DONE, LATER, READY},
    error::Fault,
    pool::{Database, Parameter, Transaction},
    shared::Shared,
};
use crate::{
    model::{
        job::{Lease, NextState},
        lifecycle::Outcome,
    },
    store::{Changes, Hold, KEPT_ATTEMPTS, Settlement, Written},
};

pub(crate) struct Settle(pub(crate) Arc<[Settlement]>);

impl BatchedCall for Settle {
    type Answer = Vec<Written>;
    const DOING: &'static str = "settle jobs";

    fn weight(&self) -> usize {
        self.0.len()
    }

    fn carry_out<'a>(calls: &'a [Self], shared: &'a Shared) -> BoxFuture<'a, Result<Vec<Self::Answer>, Fault>> {
        Box::pin(async move {
            let settlements: Vec<_> = calls.iter().flat_map(|call| &*call.0).collect();
            let came = settle(&shared.database, &settlements).await;
            if let Ok(Settled { written, let_on }) = &came {
                shared.folding.wrote();
                if *let_on {
                    // Before this process may think that nothing is left to do: what the server sends comes later.
                    shared.broadcast.notifier.notify_work();
                }
                // The lease of a settlement that was fenced off may hold still: the job may have lost steps.
                let written = settlements.iter().zip(written).filter(|(_, written)| **written == Written::Yes);
                shared.leases.ended(written.filter_map(|(settlement, _)| lease(settlement.hold)));
            }
            shared.broadcast.of(&Changes::settled(settlements.iter().copied()));
            Ok(dealt_out(came?.written, calls.iter().map(|call| call.0.len())))
        })
    }
}

macro_rules! settle {
    ($trim:literal) => { concat!("
    WITH asked AS MATERIALIZED (
        SELECT * FROM unnest($1::int8[], $2::uuid[], $3::int2[], $4::int8[], $5::uuid[], $6::int8[], $7::int2[],
            $8::int2[], $9::int2[], $10::int8[], $11::int8[], $12::text[], $13::text[], $14::int8[], $15::int8[], $22::int8[],
            $23::int8[], $24::bool[], $25::int8[])
            AS a(place, job, hold, attempt, worker, beat, first, last, state, due, ended, shape, outcome, failures, survived,
                steps, losses, ends_well, started)
    ), holders AS MATERIALIZED (
        SELECT w.id, w.beat FROM qtasks.workers w WHERE w.id IN (SELECT a.worker FROM asked a WHERE a.hold = 1)
        ORDER BY w.id FOR SHARE
    ), settled AS (
        UPDATE qtasks.jobs j SET state = a.state, due = coalesce(a.due, j.due), ended = a.ended,
            list = CASE a.state WHEN 0 THEN 0 WHEN 1 THEN CASE WHEN a.survived IS NULL THEN 1 ELSE 2 END WHEN 4 THEN 3 END,
            worker = CASE WHEN a.ends_well THEN j.worker END, started = CASE WHEN a.ends_well THEN a.started END,
            shape = a.shape, outcome = a.outcome, failures = a.failures, suspect = a.survived IS NOT NULL,
            survived = a.survived, losses = a.losses, leased = NULL, liable = NULL
        FROM asked a WHERE j.id = a.job AND j.attempt = a.attempt
            AND j.steps = coalesce(a.steps, j.steps) AND CASE a.hold
            WHEN 0 THEN j.state = 2 AND j.worker = a.worker
            WHEN 1 THEN j.state = 2 AND j.worker = a.worker
                AND (SELECT h.beat FROM holders h WHERE h.id = a.worker) IS NOT DISTINCT FROM a.beat
            ELSE j.state BETWEEN a.first AND a.last END
        RETURNING a.place, a.job, j.queue, j.task, CASE a.hold WHEN 2 THEN a.first ELSE 2 END AS was, a.state AS next,
            j.steps, j.awaited
    ), counted AS (
        INSERT INTO qtasks.deltas (queue, task, waiting, running, done, dead, cancelled)
        SELECT m.queue, m.task, nullif(((m.next <= 1)::int - (m.was <= 1)::int) * m.jobs, 0), nullif(-(m.was = 2)::int * m.jobs, 0),
            nullif(((m.next = 3)::int - (m.was = 3)::int) * m.jobs, 0), nullif(((m.next = 4)::int - (m.was = 4)::int) * m.jobs, 0),
            nullif(((m.next = 5)::int - (m.was = 5)::int) * m.jobs, 0)
        FROM (SELECT s.queue, s.task, s.was, s.next, count(*) AS jobs FROM settled s
            GROUP BY s.queue, s.task, s.was, s.next) m
    ), history AS (
        INSERT INTO qtasks.attempts (job, number, worker, started, ended, ending, steps)
        SELECT s.job, t.number, t.worker, t.started, t.ended, t.ending, s.steps
        FROM unnest($16::int8[], $17::int8[], $18::uuid[], $19::int8[], $20::int8[], $21::text[])
            AS t(place, number, worker, started, ended, ending)
        JOIN settled s ON s.place = t.place
        UNION ALL
        SELECT j.id, j.attempt, j.worker, j.started, j.ended, '\"done\"', j.steps
        FROM asked a JOIN settled s ON s.place = a.place JOIN qtasks.jobs j ON j.id = a.job
        WHERE a.hold = 2 AND j.state = 3 AND j.worker IS NOT NULL
        ON CONFLICT DO NOTHING
    )", $trim, "
    SELECT place, awaited FROM settled") };
}

/// Gives the indices of the settlements that were written, each with whether other jobs waited for the job. An attempt that ends a job well stays in the row of the job, and
/// moves into the history if the job is run again.
///
/// A process that takes over the jobs of a silent worker locks the row in which the worker renews. If the worker renews at
/// that moment, either it learns afterwards which jobs were taken, or none are taken.
const SETTLE: &str = settle!("");

/// Settles jobs that have more attempts than are kept, and deletes the attempts between the first and the last ones. It sees
/// the history without the attempt that ends now.
const SETTLE_AND_TRIM: &str = settle!(
    ", trimmed AS (
        DELETE FROM qtasks.attempts a USING (
            SELECT s.job, f.number AS first, l.number AS last
            FROM unnest($16::int8[], $17::int8[]) AS t(place, number)
            JOIN settled s ON s.place = t.place
            CROSS JOIN LATERAL (SELECT h.number FROM qtasks.attempts h WHERE h.job = s.job
                ORDER BY h.number LIMIT 1 OFFSET 9) f
            CROSS JOIN LATERAL (SELECT h.number FROM qtasks.attempts h WHERE h.job = s.job
                ORDER BY h.number DESC LIMIT 1 OFFSET 88) l
            WHERE t.number > 100
        ) AS kept WHERE a.job = kept.job AND a.number > kept.first AND a.number < kept.last
    )"
);

/// What came of settlements.
pub(crate) struct Settled {
    /// Whether each was written, in order.
    written: Vec<Written>,
    /// Whether jobs have ended that others waited for.
    let_on: bool,
}

/// Writes the settlements, all at once.
async fn settle(database: &Database, settlements: &[&Settlement]) -> Result<Settled, Fault> {
    if let Some(at) = settlements.iter().position(|settlement| lives_again(settlement)) {
        return Box::pin(settle_around(database, settlements, at)).await;
    }
    let (mut written, mut let_on) = (vec![Written::Fenced; settlements.len()], false);
    let mut note = |rows: Vec<Row>| -> Result<(), Fault> {
        for row in rows {
            written[encoding::get::<i64>(&row, 0)? as usize] = Written::Yes;
            let_on |= encoding::get::<Option<bool>>(&row, 1)?.unwrap_or(false);
        }
        Ok(())
    };
    match &rounds(settlements, |settlement| settlement.job())[..] {
        [] => {}
        [only] if !settlements.iter().any(|settlement| settlement.due_unstarted().is_some()) => {
            note(match done::Columns::of(only) {
                Some(columns) => database.query(SETTLE_DONE, &columns.parameters()).await?,
                None => {
                    let columns = Columns::new(only);
                    database.query(columns.sql(), &columns.parameters()).await?
                }
            })?
        }
        several => {
            let transaction = database.begin().await?;
            for round in several {
                let columns = Columns::new(round);
                note(transaction.query(columns.sql(), &columns.parameters()).await?)?;
            }
            expire_unstarted(&transaction, settlements).await?;
            transaction.commit().await?;
        }
    }
    Ok(Settled { written, let_on })
}

/// Whether a job that had ended is to wait again.
fn lives_again(settlement: &Settlement) -> bool {
    matches!(settlement.hold, Hold::Seen { state, .. } if state.is_ended()) && !settlement.outcome.next.is_ended()
}

/// Writes settlements of which one, at a certain place, has a job that had ended wait again: in a transaction of its own, for the job
/// may have a key.
async fn settle_around(database: &Database, settlements: &[&Settlement], at: usize) -> Result<Settled, Fault> {
    let mut before = settle(database, &settlements[..at]).await?;
    before.written.push(settle_again(database, settlements[at]).await?);
    let behind = settle(database, &settlements[at + 1..]).await?;
    before.written.extend(behind.written);
    Ok(Settled { let_on: before.let_on || behind.let_on, ..before })
}

async fn settle_again(database: &Database, settlement: &Settlement) -> Result<Written, Fault> {
    let (transaction, job) = (database.begin().await?, settlement.job());
    let key = keys::key_of(&transaction, job).await?;
    let key = key.as_ref().map(|(task, key)| (&**task, &**key));
    if let Some(key) = key
        && !keys::may_live_again(&transaction, job, key).await?
    {
        transaction.roll_back().await?;
        return Ok(Written::Fenced);
    }
    let columns = Columns::new(&[(0, settlement)]);
    if transaction.query(columns.sql(), &columns.parameters()).await?.is_empty() {
        transaction.roll_back().await?;
        return Ok(Written::Fenced);
    }
    if let Some(key) = key {
        keys::retake(&transaction, job, key).await?;
    }
    expire_unstarted(&transaction, &[settlement]).await?;
    transaction.commit().await?;
    Ok(Written::Yes)
}

/// Has jobs be looked at that wait and were not started, when they expire by the time at which they are due now.
async fn expire_unstarted(transaction: &Transaction<'_>, settlements: &[&Settlement]) -> Result<(), Fault> {
    const EXPIRE: &str = "
        INSERT INTO qtasks.expiring (at, job)
        SELECT least(j.due + (j.more::json ->> 'expires')::numeric, 9223372036854775807), j.id
        FROM qtasks.jobs j WHERE j.id = ANY ($1) AND j.state <= 1 AND left(j.more, 1) = '{' AND j.more::json ->> 'expires' IS NOT NULL
        ON CONFLICT DO NOTHING";
    let unstarted = settlements.iter().filter(|settlement| settlement.due_unstarted().is_some());
    let ids: Vec<_> = unstarted.map(|settlement| encoding::job_id(settlement.job())).collect();
    if ids.is_empty() {
        return Ok(());
    }
    transaction.query(EXPIRE, &[(&ids, Type::UUID_ARRAY)]).await.map(drop)
}

/// The lease that a settlement ends.
fn lease(hold: Hold) -> Option<Lease> {
    match hold {
        Hold::Lease(lease) | Hold::Silent { lease, .. } => Some(lease),
        Hold::Seen { .. } => None,
    }
}

/// The things with their indices, in rounds in which no two have one `key`, sorted by it. A statement changes a row only
/// once, and two statements that lock rows in the same order never wait for each other.
pub(crate) fn rounds<'t, T, K: Ord + Copy + std::hash::Hash>(
    things: &[&'t T],
    key: impl Fn(&T) -> K,
) -> Vec<Vec<(usize, &'t T)>> {
    let mut rounds: Vec<Vec<(usize, &'t T)>> = Vec::new();
    let mut seen: HashMap<K, usize> = HashMap::new();
    for (place, thing) in things.iter().enumerate() {
        let round = seen.entry(key(thing)).or_default();
        if rounds.len() == *round {
            rounds.push(Vec::new());
        }
        rounds[*round].push((place, thing));
        *round += 1;
    }
    for round in &mut rounds {
        round.sort_by_key(|(_, thing)| key(thing));
    }
    rounds
}

/// Settlements, by column. Attempts that end have columns of their own, for not each settlement ends one.
#[derive(Default)]
struct Columns<'s> {
    places: Vec<i64>,
    jobs: Vec<Uuid>,
    holds: Vec<i16>,
    attempts: Vec<i64>,
    workers: Vec<Option<Uuid>>,
    beats: Vec<Option<i64>>,
    firsts: Vec<i16>,
    lasts: Vec<i16>,
    states: Vec<i16>,
    dues: Vec<Option<i64>>,
    ends: Vec<Option<i64>>,
    shapes: Vec<Option<&'static str>>,
    outcomes: Vec<Option<Cow<'s, str>>>,
    failures: Vec<i64>,
    survived: Vec<Option<i64>>,
    losses: Vec<Option<i64>>,
    steps: Vec<Option<i64>>,
    ends_well: Vec<bool>,
    starts: Vec<Option<i64>>,
    ended: Ended,
}

#[derive(Default)]
struct Ended {
    places: Vec<i64>,
    numbers: Vec<i64>,
    workers: Vec<Uuid>,
    starts: Vec<Option<i64>>,
    ends: Vec<i64>,
    endings: Vec<String>,
}

impl<'s> Columns<'s> {
    fn new(round: &[(usize, &'s Settlement)]) -> Self {
        let mut columns = Self::default();
        for (place, settlement) in round {
            columns.push(encoding::count(*place), settlement);
        }
        columns
    }

    fn push(&mut self, place: i64, settlement: &'s Settlement) {
        let Settlement { hold, outcome: Outcome { next, failures, suspect }, steps, attempt, now } = settlement;
        let no_state = (-1, -1);
        let (hold, number, worker, beat, (first, last)) = match *hold {
            Hold::Lease(lease) => (0, lease.attempt, Some(encoding::worker_id(lease.worker)), None, no_state),
            Hold::Silent { lease, beat } => (1, lease.attempt, Some(encoding::worker_id(lease.worker)), beat, no_state),
            Hold::Seen { state, attempt, .. } => (2, attempt, None, None, encoding::of_state(state)),
        };
        self.places.push(place);
        self.jobs.push(encoding::job_id(settlement.job()));
        self.holds.push(hold);
        self.attempts.push(number.into());
        self.workers.push(worker);
        self.beats.push(beat.map(u64::cast_signed));
        self.firsts.push(first);
        self.lasts.push(last);
        let (state, due, ended) = standing(next, encoding::millis(*now));
        self.states.push(state);
        self.dues.push(due);
        self.ends.push(ended);
        let (shape, outcome) = encoding::outcome(next);
        self.shapes.push(shape);
        self.outcomes.push(outcome);
        self.failures.push((*failures).into());
        self.survived.push(suspect.as_ref().map(encoding::survived));
        self.losses.push(suspect.map(|suspect| suspect.losses.into()));
        self.steps.push(steps.map(encoding::count));
        let in_own_row = settlement.attempt_in_job();
        self.ends_well.push(in_own_row.is_some());
        self.starts.push(in_own_row.and_then(|attempt| attempt.started).map(encoding::millis));
        if let Some(attempt) = attempt
            && in_own_row.is_none()
        {
            self.ended.places.push(place);
            self.ended.numbers.push(attempt.number.into());
            self.ended.workers.push(encoding::worker_id(attempt.worker));
            self.ended.starts.push(attempt.started.map(encoding::millis));
            self.ended.ends.push(encoding::millis(attempt.ended));
            self.ended.endings.push(encoding::ending(&attempt.ending));
        }
    }

    fn sql(&self) -> &'static str {
        let has_more = self.ended.numbers.iter().any(|number| *number > KEPT_ATTEMPTS.into());
        if has_more { SETTLE_AND_TRIM } else { SETTLE }
    }

    fn parameters(&self) -> [Parameter<'_>; 25] {
        [
            (&self.places, Type::INT8_ARRAY),
            (&self.jobs, Type::UUID_ARRAY),
            (&self.holds, Type::INT2_ARRAY),
            (&self.attempts, Type::INT8_ARRAY),
            (&self.workers, Type::UUID_ARRAY),
            (&self.beats, Type::INT8_ARRAY),
            (&self.firsts, Type::INT2_ARRAY),
            (&self.lasts, Type::INT2_ARRAY),
            (&self.states, Type::INT2_ARRAY),
            (&self.dues, Type::INT8_ARRAY),
            (&self.ends, Type::INT8_ARRAY),
            (&self.shapes, Type::TEXT_ARRAY),
            (&self.outcomes, Type::TEXT_ARRAY),
            (&self.failures, Type::INT8_ARRAY),
            (&self.survived, Type::INT8_ARRAY),
            (&self.ended.places, Type::INT8_ARRAY),
            (&self.ended.numbers, Type::INT8_ARRAY),
            (&self.ended.workers, Type::UUID_ARRAY),
            (&self.ended.starts, Type::INT8_ARRAY),
            (&self.ended.ends, Type::INT8_ARRAY),
            (&self.ended.endings, Type::TEXT_ARRAY),
            (&self.steps, Type::INT8_ARRAY),
            (&self.losses, Type::INT8_ARRAY),
            (&self.ends_well, Type::BOOL_ARRAY),
            (&self.starts, Type::INT8_ARRAY),
        ]
    }
}

/// The `state`, `due` and `ended` columns.
fn standing(next: &NextState, now: i64) -> (i16, Option<i64>, Option<i64>) {
    match next {
        NextState::Waiting { due } => {
            let due = encoding::millis(*due);
            (if due <= now { READY } else { LATER }, Some(due), None)
        }
        NextState::Done { .. } => (DONE, None, Some(now)),
        NextState::Dead { .. } => (DEAD, None, Some(now)),
        NextState::Cancelled { .. } => (CANCELLED, None, Some(now)),
    }
}
