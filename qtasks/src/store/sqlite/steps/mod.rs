//! The steps in the tables: new ones first stand together in the order of arrival, and are then moved to the segments of their jobs.

pub(super) mod packed;

use rusqlite::{Connection, Statement, params};

use self::packed::{Job, MixedPage, Packed, Segment};
use super::{
    calls::read::at_one_moment,
    encoding,
    sql::{NEW_STEPS, Statements},
};
use crate::model::job::{JobId, Step};

/// New steps of so many bytes are moved: they are read whenever steps of any job are.
const ENOUGH: usize = 256 << 10;
/// Reading a row of new steps costs as much as reading so many bytes.
const ROW: usize = 512;

/// So many new steps of one job are written to segments at once.
const MANY: usize = 64;
/// New steps of one job with so many bytes are written to segments at once.
const LARGE: usize = 4 << 10;

/// New steps that are written in one go.
#[derive(Default)]
pub(super) struct New(MixedPage);

impl New {
    /// Takes new steps of a job. Many of them, or large ones, it writes to segments at once.
    pub(super) fn add<'s>(
        &mut self,
        sql: &mut Statements<'_>,
        job: Job,
        mut steps: impl Iterator<Item = &'s Step> + Clone,
    ) -> rusqlite::Result<()> {
        let bytes: usize = steps.clone().map(|step| step.reply.as_str().len()).sum();
        if bytes < LARGE && steps.clone().nth(MANY - 1).is_none() {
            return steps.try_for_each(|step| self.0.push(job, step));
        }
        let mut segments = Segments::new(&mut sql.insert_steps);
        steps.try_for_each(|step| segments.at(job, step.seq)?.push(step))?;
        segments.finish()
    }

    /// Writes the steps; gives how much more there is now to be moved.
    pub(super) fn write(self, sql: &mut Statements<'_>) -> rusqlite::Result<usize> {
        let bytes = self.0.bytes();
        if bytes.is_empty() {
            return Ok(0);
        }
        sql.insert_new_steps.execute([bytes])?;
        Ok(bytes.len() + ROW)
    }
}

/// New steps that wait to be moved, about: other processes have their own count.
pub(super) struct NewStepCount(usize);

impl NewStepCount {
    pub(super) fn count(sql: &mut Statements<'_>) -> rusqlite::Result<Self> {
        let (bytes, rows): (i64, i64) = sql.count_new_steps.query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(Self(bytes as usize + ROW * rows as usize))
    }

    /// Takes note of more, and moves all once they are enough to fill rows.
    pub(super) fn more(&mut self, sql: &mut Statements<'_>, more: usize) -> rusqlite::Result<()> {
        self.0 += more;
        if self.0 < ENOUGH { Ok(()) } else { self.shift(sql) }
    }

    /// Forgets the count: how many new steps there are is not known until they are moved.
    pub(super) fn forget(&mut self) {
        self.0 = ENOUGH;
    }

    /// Moves all new steps to the segments of their jobs.
    pub(super) fn shift(&mut self, sql: &mut Statements<'_>) -> rusqlite::Result<()> {
        let pages = pages(&mut sql.new_steps)?;
        let mut steps = pages.iter().flat_map(|page| packed::mixed(page)).collect::<Result<Vec<_>, _>>()?;
        steps.sort_unstable_by_key(|(job, step)| (*job, step.seq));
        let mut segments = Segments::new(&mut sql.insert_steps);
        for (job, step) in steps {
            segments.at(job, step.seq)?.push_packed(step);
        }
        segments.finish()?;
        sql.clear_new_steps.execute([])?;
        self.0 = 0;
        Ok(())
    }
}

/// Segments on their way to a table.
struct Segments<'a, 'c> {
    insert: &'a mut Statement<'c>,
    last: Segment,
}

impl<'a, 'c> Segments<'a, 'c> {
    fn new(insert: &'a mut Statement<'c>) -> Self {
        Self { insert, last: Segment::default() }
    }

    /// The segment that the next step goes to.
    fn at(&mut self, job: Job, seq: u64) -> rusqlite::Result<&mut Segment> {
        if !self.last.takes(job, seq) {
            self.write()?;
            self.last = Segment::starting(job, seq);
        }
        Ok(&mut self.last)
    }

    fn finish(mut self) -> rusqlite::Result<()> {
        self.write()
    }

    fn write(&mut self) -> rusqlite::Result<()> {
        let Segment { job, first, .. } = self.last;
        match self.last.bytes() {
            [] => Ok(()),
            bytes => self.insert.execute(params![job, encoding::count(first), bytes]).map(drop),
        }
    }
}

fn pages(new_steps: &mut Statement<'_>) -> rusqlite::Result<Vec<Vec<u8>>> {
    new_steps.query_map([], |row| row.get(0))?.collect()
}

/// The segments of a job from the one that has the step ?2 on, if any has.
pub(super) const SEGMENTS: &str = "SELECT first, steps FROM qtasks_strips WHERE job = ?1 AND first >= coalesce(
     (SELECT max(s.first) FROM qtasks_strips AS s WHERE s.job = ?1 AND s.first <= ?2), 0) ORDER BY first";

/// Steps of a job from one number on, in their order.
pub(super) fn read(connection: &Connection, id: JobId, from: u64, limit: usize) -> rusqlite::Result<Vec<Step>> {
    let mut steps = Vec::new();
    at_one_moment(connection, || {
        let mut segments = connection.prepare_cached(SEGMENTS)?;
        let mut rows = segments.query(params![id.to_bytes(), encoding::count(from)])?;
        while steps.len() < limit
            && let Some(row) = rows.next()?
        {
            for step in packed::segment(row.get::<_, i64>(0)?.cast_unsigned(), row.get_ref(1)?.as_blob()?) {
                let step = step?;
                if step.seq >= from {
                    steps.push(step.step()?);
                }
            }
        }
        new_of(connection, id, |step| {
            if step.seq >= from {
                steps.push(step.step()?);
            }
            Ok(())
        })
    })?;
    steps.sort_by_key(|step| step.seq);
    steps.truncate(limit);
    Ok(steps)
}

/// The segments of a job, the last one first.
pub(super) const LAST_SEGMENTS: &str = "SELECT first, steps FROM qtasks_strips WHERE job = ?1 ORDER BY first DESC";

/// The last step of a job that was not skipped.
pub(super) fn last(connection: &Connection, id: JobId) -> rusqlite::Result<Option<Step>> {
    let mut last = None;
    at_one_moment(connection, || {
        new_of(connection, id, |step| keep_later(&mut last, step))?;
        let mut segments = connection.prepare_cached(LAST_SEGMENTS)?;
        let mut rows = segments.query([id.to_bytes()])?;
        while let Some(row) = rows.next()? {
            let first = row.get::<_, i64>(0)?.cast_unsigned();
            for step in packed::segment(first, row.get_ref(1)?.as_blob()?) {
                keep_later(&mut last, step?)?;
            }
            // One of the new steps may be older than what stands here.
            if last.as_ref().is_some_and(|last| last.seq >= first) {
                break;
            }
        }
        Ok(())
    })?;
    Ok(last)
}

/// Replaces `last` by a step behind it that was not skipped.
fn keep_later(last: &mut Option<Step>, step: Packed<'_>) -> rusqlite::Result<()> {
    if last.as_ref().is_none_or(|last| last.seq < step.seq) {
        let step = step.step()?;
        if !step.reply.is_skipped() {
            *last = Some(step);
        }
    }
    Ok(())
}

/// Shows the new steps of a job, in no order.
fn new_of(
    connection: &Connection,
    id: JobId,
    mut show: impl FnMut(Packed<'_>) -> rusqlite::Result<()>,
) -> rusqlite::Result<()> {
    let (id, mut new_steps) = (id.to_bytes(), connection.prepare_cached(NEW_STEPS)?);
    let mut rows = new_steps.query([])?;
    while let Some(row) = rows.next()? {
        for step in packed::mixed(row.get_ref(0)?.as_blob()?) {
            let (job, step) = step?;
            if job == id {
                show(step)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::{
        model::{
            job::{Lease, NextState, Reply},
            json::Json,
            lifecycle::Outcome,
        },
        store::{
            Hold, Record, Settlement, Store, Written,
            sqlite::{
                Sqlite,
                fixture::{NOW, lease, neighbour, new_job, store},
            },
        },
    };

    /// Every third is skipped, and some are large.
    fn step(seq: u64) -> Step {
        let text = format!("\"{}\"", seq.to_string().repeat(if seq % 50 == 7 { 9000 } else { 5 }));
        let reply = if seq % 3 == 2 { Reply::Skipped(text) } else { Reply::Value(Json::from_stored(text)) };
        Step { seq, hash: u64::MAX - seq, reply }
    }

    async fn running(store: &Sqlite) -> Lease {
        store.enqueue(vec![new_job()]).await.unwrap();
        lease(store, 1).await[0].lease().expect("a job that was leased runs")
    }

    fn record(lease: Lease, range: std::ops::Range<u64>) -> Record {
        Record {
            lease,
            steps: range.map(step).collect(),
            memos: Vec::new(),
            jobs: Vec::new(),
            progress: None,
            passed: false,
        }
    }

    #[tokio::test]
    async fn steps_are_found_wherever_they_stand() {
        let (folder, store) = store().await;
        let (ours, other) = (running(&store).await, running(&store).await);
        let mut from = 0;
        // Few, which stay with the new ones until they are moved; many; a large one; in turn.
        for count in [3, 100, 4, 1, 63, 64, 200, 2, 1, 1] {
            let upto = from + count;
            let records = vec![record(ours, from..upto), record(other, from..upto)];
            assert_eq!(store.record(records.into()).await.unwrap(), [Written::Yes; 2]);
            from = upto;
            all_are_found(&store, ours, upto).await;
        }
        // That needs all steps where they stay.
        settle(&store, other).await;
        assert_eq!(store.prune(Timestamp::MAX, Timestamp::MAX, 9).await.unwrap(), 1);
        all_are_found(&store, ours, from).await;
        let rows = |table| {
            let sql = format!("SELECT count(*), max(length(steps)) FROM {table}");
            neighbour(&folder).query_row(&sql, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap()
        };
        assert_eq!(rows("qtasks_new_steps"), (0, None::<i64>));
        let (segments, longest) = rows("qtasks_strips");
        assert!((10..80).contains(&segments) && longest.unwrap() < 50_000, "{segments} of {longest:?} bytes");
    }

    async fn settle(store: &Sqlite, lease: Lease) {
        let settlement = Settlement {
            hold: Hold::Lease(lease),
            outcome: Outcome { next: NextState::Cancelled { reason: String::new() }, failures: 0, suspect: None },
            steps: None,
            attempt: None,
            now: NOW,
        };
        assert_eq!(store.settle([settlement].into()).await.unwrap(), [Written::Yes]);
    }

    async fn all_are_found(store: &Sqlite, lease: Lease, upto: u64) {
        for from in (0..=upto).rev().step_by(13) {
            for limit in [0, 1, 70, usize::MAX] {
                let found = store.steps(lease.job, from, limit).await.unwrap();
                assert_eq!(found, (from..upto).map(step).take(limit).collect::<Vec<_>>(), "{limit} from {from}");
            }
        }
        let last = (0..upto).rev().map(step).find(|step| !step.reply.is_skipped());
        assert_eq!(store.last_step(lease.job).await.unwrap(), last);
    }

    #[tokio::test]
    async fn the_last_step_is_found_before_strips_of_skipped_ones() {
        let (_folder, store) = store().await;
        let lease = running(&store).await;
        let large =
            |seq| Step { seq, hash: 0, reply: Reply::Value(Json::from_stored(format!("\"{}\"", "x".repeat(LARGE)))) };
        let skipped = |seq| Step { seq, hash: 0, reply: Reply::Skipped("no".into()) };
        let skipped: Vec<_> = (2..200).map(skipped).collect();
        for steps in [vec![step(0)], vec![large(1)], skipped] {
            let record = Record { steps, ..record(lease, 0..0) };
            assert_eq!(store.record([record].into()).await.unwrap(), [Written::Yes]);
        }
        assert_eq!(store.last_step(lease.job).await.unwrap(), Some(large(1)));
    }

    #[tokio::test]
    async fn new_steps_are_moved_once_they_are_enough() {
        let (folder, store) = store().await;
        let (lease, neighbour) = (running(&store).await, neighbour(&folder));
        let mut count = neighbour.prepare("SELECT count(*) FROM qtasks_new_steps").unwrap();
        let mut rows = async |seq| {
            let step = Step { seq, hash: 0, reply: Reply::Skipped("no".into()) };
            let record = Record { steps: vec![step], ..record(lease, 0..0) };
            assert_eq!(store.record([record].into()).await.unwrap(), [Written::Yes]);
            count.query_row([], |row| row.get::<_, u32>(0)).unwrap() as usize
        };
        let mut before = 0;
        while let now = rows(before as u64).await
            && now > 0
        {
            assert_eq!(now, before + 1);
            before = now;
        }
        assert!((ENOUGH / ROW / 2..ENOUGH / ROW).contains(&before), "{before}");
        assert_eq!(store.steps(lease.job, 0, usize::MAX).await.unwrap().len(), before + 1);
    }
}
