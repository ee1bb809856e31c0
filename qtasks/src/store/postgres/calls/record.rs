//! How steps and memos are appended.

use std::{borrow::Cow, sync::Arc};

use futures::future::BoxFuture;
use tokio_postgres::{Row, types::Type};
use uuid::Uuid;

use super::{
    enqueue::{Jobs, stand},
    settle::rounds,
};
use crate::store::postgres::{
    batcher::{BatchedCall, dealt_out},
    encoding,
    error::Fault,
    pool::{Database, Parameter},
    shared::Shared,
};
use crate::{
    model::job::{Memo, Reply, Step},
    store::{Changes, GAP, Record, Written},
};

pub(crate) struct Records(pub(crate) Arc<[Record]>);

impl BatchedCall for Records {
    type Answer = Vec<Written>;
    const DOING: &'static str = "record steps";

    fn weight(&self) -> usize {
        self.0.iter().map(|record| 1 + record.steps.len() + record.memos.len() + record.jobs.len()).sum()
    }

    fn carry_out<'a>(calls: &'a [Self], shared: &'a Shared) -> BoxFuture<'a, Result<Vec<Self::Answer>, Fault>> {
        Box::pin(async move {
            let records: Vec<_> = calls.iter().flat_map(|call| &*call.0).collect();
            let came = record(&shared.database, &records).await;
            shared.of_new(records.iter().flat_map(|record| &record.jobs));
            if records.iter().any(|record| !record.jobs.is_empty()) {
                shared.folding.wrote();
            }
            shared.broadcast.of(&Changes::recorded(records.iter().copied()));
            Ok(dealt_out(came?, calls.iter().map(|call| call.0.len())))
        })
    }
}

/// The statement, with what else it does before the jobs' own counts grow.
macro_rules! record {
    ($($more:tt)*) => {
        concat!("
    WITH asked AS MATERIALIZED (
        SELECT * FROM unnest($1::int8[], $2::uuid[], $3::uuid[], $4::int8[], $5::int8[], $6::int8[], $7::int8[],
            $8::int8[], $9::int8[], $10::int8[])
            AS a(place, job, worker, attempt, first_step, next_step, first_memo, next_memo, done, total)
    ), held AS MATERIALIZED (
        SELECT a.*, j.steps, j.memos FROM asked a JOIN qtasks.jobs j ON j.id = a.job
        WHERE j.state = 2 AND j.worker = a.worker AND j.attempt = a.attempt
        FOR UPDATE OF j
    ), whole AS MATERIALIZED (
        SELECT coalesce(bool_and(steps >= first_step AND memos >= first_memo), true) AS yes FROM held
    ), new_steps AS MATERIALIZED (
        SELECT h.place, h.job, s.seq, s.hash, s.skipped, s.reply
        FROM unnest($11::int8[], $12::int8[], $13::int8[], $14::bool[], $15::text[]) AS s(place, seq, hash, skipped, reply)
        JOIN held h ON h.place = s.place WHERE s.seq >= h.steps AND (SELECT yes FROM whole)
    ), appended AS (
        INSERT INTO qtasks.steps (job, seq, hash, skipped, reply) SELECT job, seq, hash, skipped, reply FROM new_steps
    ), skipped AS MATERIALIZED (
        SELECT place, count(*) AS count FROM new_steps WHERE skipped GROUP BY place
    ), noted AS (
        INSERT INTO qtasks.memos (job, step, number, name, nth, value)
        SELECT h.job, m.step, m.number, m.name, m.nth, m.value
        FROM unnest($16::int8[], $17::int8[], $18::int8[], $19::text[], $20::int8[], $21::text[])
            AS m(place, step, number, name, nth, value)
        JOIN held h ON h.place = m.place WHERE m.number >= h.memos AND (SELECT yes FROM whole)
    )", $($more)*, ", counted AS (
        UPDATE qtasks.jobs j SET steps = greatest(h.steps, h.next_step), memos = greatest(h.memos, h.next_memo),
            skipped = j.skipped + coalesce((SELECT s.count FROM skipped s WHERE s.place = h.place), 0),
            failures = CASE WHEN h.next_step > h.steps THEN 0 ELSE j.failures END,
            losses = CASE WHEN j.suspect AND h.next_step > h.steps THEN 0 ELSE j.losses END,
            liable = CASE WHEN j.suspect AND (h.next_step > h.steps OR h.place = ANY ($22::int8[])) THEN false
                ELSE j.liable END,
            progress_done = coalesce(h.done, j.progress_done), progress_total = coalesce(h.total, j.progress_total)
        FROM held h WHERE j.id = h.job AND (SELECT yes FROM whole)
    )
    SELECT h.place, w.yes FROM held h CROSS JOIN whole w")
    };
}

/// Gives the indices of the records whose lease holds, and whether all of them follow on what is recorded. If one does not,
/// nothing is written.
///
/// For steps and for memos, a record gives the first number that may be new to the job, and the number behind the last. The
/// last parameter has the indices of the records that say that a suspect has had its turn, which are few.
pub(crate) const RECORD: &str = record!("");

/// Does the same, and enqueues jobs: the parameters behind the last one.
const RECORD_AND_ENQUEUE: &str = record!(
    ", enqueued AS (
        INSERT INTO qtasks.jobs (id, queue, task, priority, state, due, max_time, enqueued, args, more, fresh, list)
        SELECT n.id, n.queue, n.task, n.priority, n.state, n.due, n.max_time, n.enqueued, n.args, n.more, ",
    stand!(),
    "
        FROM unnest($23::uuid[], $24::text[], $25::text[], $26::int2[], $27::int2[], $28::int8[], $29::int8[],
            $30::int8[], $31::text[], $32::text[], $33::int8[])
            AS n(id, queue, task, priority, state, due, max_time, enqueued, args, more, place)
        JOIN held h ON h.place = n.place WHERE (SELECT yes FROM whole)
        ON CONFLICT (id) DO NOTHING
        RETURNING queue, task
    ), counted_in_lanes AS (
        INSERT INTO qtasks.deltas (queue, task, waiting) SELECT queue, task, count(*) FROM enqueued GROUP BY queue, task
    )"
);

/// Writes the records, and says of each in order whether it was written. All are written at once, and none is if one leaves a
/// gap.
pub(crate) async fn record(database: &Database, records: &[&Record]) -> Result<Vec<Written>, Fault> {
    let mut written = vec![Written::Fenced; records.len()];
    let mut note = |rows: Vec<Row>| -> Result<(), Fault> {
        for row in rows {
            if !encoding::get::<bool>(&row, 1)? {
                return Err(Fault::Contract(GAP));
            }
            written[encoding::get::<i64>(&row, 0)? as usize] = Written::Yes;
        }
        Ok(())
    };
    match &rounds(records, |record| record.lease.job)[..] {
        [] => {}
        [only] => {
            let columns = Columns::new(only);
            note(database.query(columns.sql(), &columns.parameters()).await?)?;
        }
        several => {
            let transaction = database.begin().await?;
            for round in several {
                let columns = Columns::new(round);
                note(transaction.query(columns.sql(), &columns.parameters()).await?)?;
            }
            transaction.commit().await?;
        }
    }
    Ok(written)
}

/// Records, by column. Their steps, memos and jobs have columns of their own, of other lengths.
#[derive(Default)]
pub(crate) struct Columns<'r> {
    indices: Vec<i64>,
    jobs: Vec<Uuid>,
    workers: Vec<Uuid>,
    attempts: Vec<i64>,
    first_steps: Vec<i64>,
    next_steps: Vec<i64>,
    first_memos: Vec<i64>,
    next_memos: Vec<i64>,
    done: Vec<Option<i64>>,
    total: Vec<Option<i64>>,
    steps: Steps<'r>,
    memos: Memos<'r>,
    enqueued: Jobs<'r>,
    enqueued_indices: Vec<i64>,
    passed: Vec<i64>,
}

#[derive(Default)]
struct Steps<'r> {
    indices: Vec<i64>,
    seqs: Vec<i64>,
    hashes: Vec<i64>,
    skipped: Vec<bool>,
    replies: Vec<Cow<'r, str>>,
}

#[derive(Default)]
struct Memos<'r> {
    indices: Vec<i64>,
    steps: Vec<i64>,
    numbers: Vec<i64>,
    names: Vec<String>,
    nths: Vec<i64>,
    values: Vec<&'r str>,
}

impl<'r> Columns<'r> {
    pub(crate) fn new(round: &[(usize, &'r Record)]) -> Self {
        let mut columns = Self::default();
        for (index, record) in round {
            columns.push(encoding::count(*index), record);
        }
        let mut enqueued: Vec<_> = round
            .iter()
            .flat_map(|(index, record)| record.jobs.iter().map(|job| (encoding::count(*index), job)))
            .collect();
        enqueued.sort_by_key(|(_, job)| job.call.id);
        columns.enqueued_indices = enqueued.iter().map(|(index, _)| *index).collect();
        columns.enqueued = Jobs::new(enqueued.into_iter().map(|(_, job)| job));
        columns
    }

    fn push(&mut self, index: i64, record: &'r Record) {
        let Record { lease, steps, memos, progress, passed, .. } = record;
        self.indices.push(index);
        self.jobs.push(encoding::job_id(lease.job));
        self.workers.push(encoding::worker_id(lease.worker));
        self.attempts.push(lease.attempt.into());
        let (steps, memos) = (New::of(steps, |step| step.seq), New::of(memos, |memo| memo.number));
        self.first_steps.push(steps.first);
        self.next_steps.push(steps.next);
        self.first_memos.push(memos.first);
        self.next_memos.push(memos.next);
        self.done.push(progress.map(|progress| progress.done.cast_signed()));
        self.total.push(progress.map(|progress| progress.total.cast_signed()));
        self.passed.extend(passed.then_some(index));
        steps.parts.into_iter().for_each(|step| self.steps.push(index, step));
        memos.parts.into_iter().for_each(|memo| self.memos.push(index, memo));
    }

    fn sql(&self) -> &'static str {
        if self.enqueued_indices.is_empty() { RECORD } else { RECORD_AND_ENQUEUE }
    }

    pub(crate) fn parameters(&self) -> Vec<Parameter<'_>> {
        let own: [Parameter<'_>; 10] = [
            (&self.indices, Type::INT8_ARRAY),
            (&self.jobs, Type::UUID_ARRAY),
            (&self.workers, Type::UUID_ARRAY),
            (&self.attempts, Type::INT8_ARRAY),
            (&self.first_steps, Type::INT8_ARRAY),
            (&self.next_steps, Type::INT8_ARRAY),
            (&self.first_memos, Type::INT8_ARRAY),
            (&self.next_memos, Type::INT8_ARRAY),
            (&self.done, Type::INT8_ARRAY),
            (&self.total, Type::INT8_ARRAY),
        ];
        let steps: [Parameter<'_>; 5] = [
            (&self.steps.indices, Type::INT8_ARRAY),
            (&self.steps.seqs, Type::INT8_ARRAY),
            (&self.steps.hashes, Type::INT8_ARRAY),
            (&self.steps.skipped, Type::BOOL_ARRAY),
            (&self.steps.replies, Type::TEXT_ARRAY),
        ];
        let memos: [Parameter<'_>; 6] = [
            (&self.memos.indices, Type::INT8_ARRAY),
            (&self.memos.steps, Type::INT8_ARRAY),
            (&self.memos.numbers, Type::INT8_ARRAY),
            (&self.memos.names, Type::TEXT_ARRAY),
            (&self.memos.nths, Type::INT8_ARRAY),
            (&self.memos.values, Type::TEXT_ARRAY),
        ];
        let passed: Parameter<'_> = (&self.passed, Type::INT8_ARRAY);
        let mut parameters: Vec<_> = own.into_iter().chain(steps).chain(memos).chain([passed]).collect();
        if !self.enqueued_indices.is_empty() {
            parameters.extend(self.enqueued.parameters());
            parameters.push((&self.enqueued_indices, Type::INT8_ARRAY));
        }
        parameters
    }
}

impl<'r> Steps<'r> {
    fn push(&mut self, index: i64, step: &'r Step) {
        self.indices.push(index);
        self.seqs.push(encoding::count(step.seq));
        self.hashes.push(step.hash.cast_signed());
        let (skipped, reply) = match &step.reply {
            Reply::Value(value) => (false, value.as_str().into()),
            Reply::Skipped(error) => (true, encoding::quoted(error).into()),
        };
        self.skipped.push(skipped);
        self.replies.push(reply);
    }
}

impl<'r> Memos<'r> {
    fn push(&mut self, index: i64, memo: &'r Memo) {
        self.indices.push(index);
        self.steps.push(encoding::memo_step(memo.step));
        self.numbers.push(encoding::count(memo.number));
        self.names.push(encoding::quoted(&memo.name));
        self.nths.push(encoding::count(memo.nth));
        self.values.push(memo.value.as_str());
    }
}

/// Numbered parts of a record, without those that are surely recorded and those that are given twice. Their numbers have no
/// gaps, and leave none if `first` is not beyond what is recorded.
struct New<'r, T> {
    parts: Vec<&'r T>,
    first: i64,
    /// The number behind that of the last one.
    next: i64,
}

impl<'r, T> New<'r, T> {
    fn of(all: &'r [T], number: impl Fn(&T) -> u64) -> Self {
        let mut new = Self { parts: Vec::new(), first: 0, next: 0 };
        for part in all {
            let number = encoding::count(number(part));
            if number > new.next {
                // What came before must be recorded, or this leaves a gap.
                new.parts.clear();
                (new.first, new.next) = (number, number);
            }
            if number == new.next {
                new.parts.push(part);
                new.next = new.next.saturating_add(1);
            }
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_new_has_no_gaps() {
        for (numbers, first, parts) in [
            (&[][..], 0, &[][..]),
            (&[0, 1, 2], 0, &[0, 1, 2]),
            (&[3, 3, 4, 4], 3, &[3, 4]),
            (&[2, 1], 2, &[2]),
            (&[1, 3], 3, &[3]),
            (&[0, 5, 1, 6], 5, &[5, 6]),
            (&[u64::MAX], i64::MAX, &[u64::MAX]),
        ] {
            let new = New::of(numbers, |number| *number);
            assert_eq!(new.first, first, "{numbers:?}");
            assert_eq!(new.parts.into_iter().copied().collect::<Vec<_>>(), parts, "{numbers:?}");
        }
    }
}
