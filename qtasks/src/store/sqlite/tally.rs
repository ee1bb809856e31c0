//! How many jobs of each lane there are in each state. A transaction adds up what it changes of these numbers, and writes that in one
//! statement for each lane.

use std::collections::{BTreeMap, HashMap};

use rusqlite::{Connection, OptionalExtension, Statement, params};

use super::{encoding, sql::Statements};
use crate::model::job::{JobId, StateKind};

/// Numbers of jobs by lane: in each state, or by how many there are more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally(BTreeMap<i64, [i64; STATES]>);

const STATES: usize = StateKind::Cancelled as usize + 1;

impl Tally {
    /// So many jobs more are in this state.
    pub(crate) fn add(&mut self, lane: i64, state: StateKind, jobs: i64) {
        self.0.entry(lane).or_default()[state as usize] += jobs;
    }

    /// A job has come from one state into another.
    pub(crate) fn change(&mut self, lane: i64, from: StateKind, to: StateKind) {
        self.add(lane, from, -1);
        self.add(lane, to, 1);
    }

    /// Adds all to the numbers in the tables, by [`COUNT`](super::sql::COUNT), and forgets it.
    pub(crate) fn write(&mut self, count: &mut Statement<'_>) -> rusqlite::Result<()> {
        while let Some((lane, jobs)) = self.0.pop_first() {
            if jobs != [0; STATES] {
                let [waiting, running, done, dead, cancelled] = jobs;
                count.execute(params![lane, waiting, running, done, dead, cancelled])?;
            }
        }
        Ok(())
    }

    /// The numbers of the jobs that are there.
    pub(crate) fn of_jobs(connection: &Connection) -> rusqlite::Result<Self> {
        let mut tally = Self::default();
        // SQLite would sort all jobs to group them.
        let mut jobs = connection.prepare("SELECT lane, state FROM qtasks_jobs")?;
        let mut rows = jobs.query([])?;
        while let Some(row) = rows.next()? {
            tally.add(row.get(0)?, encoding::state_kind(row, 1)?, 1);
        }
        Ok(tally)
    }

    /// The numbers that stand in the tables.
    pub(crate) fn of_lanes(connection: &Connection) -> rusqlite::Result<Self> {
        let mut lanes = connection.prepare("SELECT id, waiting, running, done, dead, cancelled FROM qtasks_lanes")?;
        let lane = |row: &rusqlite::Row<'_>| {
            let [waiting, running, done, dead, cancelled] = [1, 2, 3, 4, 5].map(|column| row.get(column));
            Ok((row.get(0)?, [waiting?, running?, done?, dead?, cancelled?]))
        };
        lanes.query_map([], lane)?.collect::<rusqlite::Result<_>>().map(Self)
    }

    /// What is to be added to `found` so that it becomes this; of lanes that are right nothing.
    pub(crate) fn beyond(mut self, found: Self) -> Self {
        for (lane, jobs) in found.0 {
            let own = self.0.entry(lane).or_default();
            for (own, found) in own.iter_mut().zip(jobs) {
                *own -= found;
            }
        }
        self.0.retain(|_, jobs| *jobs != [0; STATES]);
        self
    }

    /// How many lanes are named.
    pub(crate) fn lanes(&self) -> usize {
        self.0.len()
    }
}

/// The lanes of jobs that were leased by this store, so that they need not be read when these are settled. A job that has been leased
/// never changes its lane.
#[derive(Default)]
pub(crate) struct LeasedLanes(HashMap<JobId, i64>);

/// Some jobs are lost to other processes and never settled here: once there are so many, all are forgotten.
const REMEMBERED: usize = 1 << 16;

impl LeasedLanes {
    pub(crate) fn remember(&mut self, job: JobId, lane: i64) {
        if self.0.len() >= REMEMBERED {
            self.0.clear();
        }
        self.0.insert(job, lane);
    }

    /// The lane of a job that is there and leaves its state.
    pub(crate) fn take(&mut self, sql: &mut Statements<'_>, job: JobId) -> rusqlite::Result<Option<i64>> {
        match self.0.remove(&job) {
            Some(lane) => Ok(Some(lane)),
            None => sql.lane_of.query_row([job.to_bytes()], |row| row.get(0)).optional(),
        }
    }
}
