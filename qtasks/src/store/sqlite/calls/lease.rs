//! How due jobs are found and handed out.

use std::{collections::VecDeque, time::Duration};

use rusqlite::{OptionalExtension, Rows, params};

use crate::store::sqlite::{
    batcher::{
        command::{Phase, Write},
        tables::{Fresh, Lane, Tables},
    },
    encoding,
    error::Fault,
    sql::Statements,
};
use crate::{
    error::Result,
    model::job::{Job, JobId, State},
    store::{Ask, Changes, Leased},
};

impl Write for Ask {
    type Outcome = Leased;
    const DOING: &'static str = "lease jobs";

    fn weight(&self) -> usize {
        self.limit
    }

    fn phase(&self) -> Phase {
        Phase::Lease
    }

    fn lease<'l>(&'l self, leased: &'l Leased) -> Option<(&'l Self, &'l Leased)> {
        Some((self, leased))
    }

    fn apply(&self, tables: &mut Tables<'_>) -> Result<Leased, Fault> {
        let lanes = tables.lanes(&self.queues, &self.tasks)?;
        let behind = !tables.reach(encoding::millis(self.now));
        let mut search =
            Search { now: encoding::millis(self.now), next_due: None, page: page(self.limit, lanes.len()) };
        let fresh = Fresh::take(tables, &lanes).into_iter();
        let (mut later, mut fresh): (Vec<_>, Vec<_>) = fresh.partition(|fresh| search.is_later(fresh));
        let (mut cursors, mut suspects) = (Vec::with_capacity(lanes.len()), Vec::with_capacity(lanes.len()));
        for lane in lanes {
            search.promote(&mut tables.sql, lane.id)?;
            for (cursors, are_suspects) in [(&mut cursors, false), (&mut suspects, true)] {
                let mut cursor = LaneCursor::new(lane, are_suspects);
                search.fill(&mut tables.sql, &mut cursor)?;
                cursors.push(cursor);
            }
        }
        let mut suspect = if self.suspects.allow_one() { first_suspect(&mut suspects) } else { None };
        let mut jobs = Vec::new();
        while jobs.len() < self.limit {
            let cursor =
                cursors.iter_mut().filter(|cursor| !cursor.jobs.is_empty()).min_by_key(|cursor| cursor.urgency());
            let urgency = cursor.as_ref().and_then(|cursor| cursor.urgency());
            let of_suspect = suspect.as_ref().and_then(|cursor| cursor.urgency());
            let first = urgency.into_iter().chain(of_suspect).min();
            if let Some(job) = fresh.pop_if(|job| first.is_none_or(|first| job.urgency() < first)) {
                jobs.extend(job.run(tables, self.worker)?);
                continue;
            }
            let cursor = if of_suspect.is_some() && of_suspect == first { suspect.take() } else { cursor };
            let Some(cursor) = cursor else { break };
            if let Some(job) = cursor.jobs.pop_front() {
                tables.count_leased(cursor.lane.id, job.call.id);
                jobs.push(self.run(&mut tables.sql, job)?);
            }
            if jobs.len() < self.limit || cursor.are_suspects {
                search.fill(&mut tables.sql, cursor)?;
            }
        }
        later.extend(fresh);
        if let Some(fresh) = &mut tables.fresh {
            fresh.append(&mut later);
        }
        if behind {
            for cursor in cursors.iter().chain(&suspects) {
                search.look_ahead(&mut tables.sql, cursor)?;
            }
        }
        tables.changes.add(Changes::progressed(jobs.iter().map(|job| job.call.id)));
        let suspects = suspects.iter().any(|cursor| !cursor.jobs.is_empty());
        Ok(Leased { jobs, next_due: search.next_due.map(encoding::time), suspects })
    }
}

impl Ask {
    fn run(&self, sql: &mut Statements<'_>, mut job: Job) -> rusqlite::Result<Job> {
        job.standing.attempt += 1;
        if let State::Waiting { due, .. } = job.standing.state {
            job.standing.state = State::Running { worker: self.worker, due };
        }
        let (id, worker) = (job.call.id.to_bytes(), self.worker.to_bytes());
        match &mut job.standing.suspect {
            None => sql.run.execute(params![id, worker, job.standing.attempt])?,
            Some(suspect) => {
                let (now, liable) = (encoding::millis(self.now), self.suspects.liable());
                (suspect.leased, suspect.liable) = (Some(encoding::time(now)), liable);
                sql.run_suspect.execute(params![id, worker, job.standing.attempt, now, liable])?
            }
        };
        Ok(job)
    }
}

/// The lane with the suspect that is leased first: the one that has survived least.
fn first_suspect<'f, 'n>(suspects: &'f mut [LaneCursor<'n>]) -> Option<&'f mut LaneCursor<'n>> {
    suspects
        .iter_mut()
        .filter(|cursor| !cursor.jobs.is_empty())
        .min_by_key(|cursor| (cursor.survived(), cursor.urgency()))
}

/// The jobs of a lane that come first, and have been read and not been taken.
struct LaneCursor<'n> {
    lane: Lane<'n>,
    /// Whether the jobs of this cursor are suspects. Otherwise none of them is.
    are_suspects: bool,
    /// The position of the last job that was read.
    from: Position,
    jobs: VecDeque<Job>,
    /// Whether the lane has no more jobs to read.
    ended: bool,
}

/// Where a job stands in its lane: what it survived, for suspects only, its rank and its id.
type Position = (i64, i64, [u8; 16]);

impl<'n> LaneCursor<'n> {
    fn new(lane: Lane<'n>, are_suspects: bool) -> Self {
        Self { lane, are_suspects, from: (i64::MIN, i64::MIN, [0; 16]), jobs: VecDeque::new(), ended: false }
    }

    /// Reads up to `count` more jobs of the lane.
    fn read<'s>(&self, sql: &'s mut Statements<'_>, count: i64) -> rusqlite::Result<Rows<'s>> {
        let (Lane { id: lane, queue, task }, (survived, rank, id)) = (self.lane, self.from);
        if self.are_suspects {
            sql.ready_suspects.query(params![lane, task, queue, count, rank, id, survived])
        } else {
            sql.ready.query(params![lane, task, queue, count, rank, id])
        }
    }

    /// The cursor with the least urgency value is leased from first.
    fn urgency(&self) -> Option<(i16, JobId)> {
        self.jobs.front().map(|job| (!job.call.priority, job.call.id))
    }

    fn survived(&self) -> Option<Duration> {
        self.jobs.front()?.standing.suspect.map(|suspect| suspect.survived)
    }
}

struct Search {
    now: i64,
    /// When the next job that is not due yet will be.
    next_due: Option<i64>,
    /// How many jobs are read from a lane at a time.
    page: i64,
}

/// All that is asked for at once from a single lane, and fewer from each of many.
fn page(limit: usize, lanes: usize) -> i64 {
    encoding::count(limit.div_ceil(lanes.max(1)))
}

/// Jobs of a lane that one lease takes over from the waiting room at most, so that other calls do not wait long behind it.
const PROMOTED: i64 = 4096;

impl Search {
    /// Lets jobs whose time has come stand in line with those that were due from the beginning.
    fn promote(&mut self, sql: &mut Statements<'_>, lane: i64) -> rusqlite::Result<()> {
        let first: Option<i64> = sql.first_later.query_row([lane], |row| row.get(0)).optional()?;
        let next = match first {
            Some(due) if due <= self.now => {
                sql.promote.execute(params![lane, self.now, PROMOTED])?;
                sql.next_later.query_row([lane, self.now], |row| row.get(0)).optional()?
            }
            next => next,
        };
        self.see(next);
        Ok(())
    }

    /// Reads further jobs of a lane when those read before are all taken.
    fn fill(&mut self, sql: &mut Statements<'_>, cursor: &mut LaneCursor<'_>) -> rusqlite::Result<()> {
        // At most one suspect is taken; and also a worker that takes none learns whether there is one.
        let page = if cursor.are_suspects { 1 } else { self.page };
        while cursor.jobs.is_empty() && !cursor.ended && page > 0 {
            let mut rows = cursor.read(sql, page)?;
            let mut read = 0;
            while let Some(row) = rows.next()? {
                read += 1;
                let job = encoding::job(row)?;
                let survived = job.standing.suspect.map_or(0, |suspect| encoding::survived_millis(suspect.survived));
                cursor.from = (survived, -i64::from(job.call.priority), job.call.id.to_bytes());
                match job.standing.state {
                    // The clock of the process that enqueued it is ahead of the worker's.
                    State::Waiting { due, .. } if encoding::millis(due) > self.now => {
                        self.see(Some(encoding::millis(due)))
                    }
                    _ => cursor.jobs.push_back(job),
                }
            }
            cursor.ended = read < page;
        }
        Ok(())
    }

    /// Looks among the next few jobs of a lane for those that are not due by the worker's clock, which is behind.
    ///
    /// Only a few, since a worker that got all it asked for asks again soon, and one that got less has seen all.
    fn look_ahead(&mut self, sql: &mut Statements<'_>, cursor: &LaneCursor<'_>) -> rusqlite::Result<()> {
        let mut rows = cursor.read(sql, 64)?;
        while let Some(row) = rows.next()? {
            if let State::Waiting { due, .. } = encoding::job(row)?.standing.state {
                self.see(Some(encoding::millis(due)).filter(|due| *due > self.now));
            }
        }
        Ok(())
    }

    /// Whether a job that is not in the tables yet is to wait for its time.
    fn is_later(&mut self, fresh: &Fresh) -> bool {
        let due = encoding::millis(fresh.job.due);
        self.see(Some(due).filter(|due| *due > self.now));
        due > self.now
    }

    fn see(&mut self, due: Option<i64>) {
        self.next_due = self.next_due.into_iter().chain(due).min();
    }
}
