//! Lists of jobs that have ended, by which the old ones are found.
//!
//! All jobs that end in a transaction stand in one row, which costs less than an entry of an index for each. A list says
//! where to look: a job that has been tried again since, or was deleted, is passed over.

use std::collections::BTreeMap;

use rusqlite::{OptionalExtension, params};

use super::sql::Statements;
use crate::model::job::JobId;

/// The jobs that end in a transaction, by the column of the state that they end in.
#[derive(Default)]
pub(crate) struct Ends(BTreeMap<i16, List>);

struct List {
    /// When the first of the jobs ended.
    first: i64,
    /// The ids, one behind the other.
    jobs: Vec<u8>,
}

impl Ends {
    pub(crate) fn add(&mut self, state: i16, ended: i64, job: JobId) {
        let list = self.0.entry(state).or_insert(List { first: ended, jobs: Vec::new() });
        list.first = list.first.min(ended);
        list.jobs.extend(job.to_bytes());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The jobs, in no order.
    pub(crate) fn jobs(&self) -> Vec<JobId> {
        self.0.values().flat_map(|list| ids(&list.jobs)).collect()
    }

    /// Writes the lists, and forgets them.
    pub(crate) fn write(&mut self, sql: &mut Statements<'_>) -> rusqlite::Result<()> {
        while let Some((state, List { first, jobs })) = self.0.pop_first() {
            sql.insert_ends.execute(params![state, first, jobs])?;
        }
        Ok(())
    }
}

/// Takes a list of jobs that ended in this state, the first of them before that time.
pub(crate) fn take(sql: &mut Statements<'_>, state: i16, before: i64) -> rusqlite::Result<Option<Vec<JobId>>> {
    let list = sql.ends.query_row(params![state, before], |row| Ok((row.get(0)?, row.get(1)?)));
    let Some((number, jobs)): Option<(i64, Vec<u8>)> = list.optional()? else { return Ok(None) };
    sql.delete_ends.execute([number])?;
    Ok(Some(ids(&jobs).collect()))
}

fn ids(jobs: &[u8]) -> impl Iterator<Item = JobId> {
    let (ids, _) = jobs.as_chunks();
    ids.iter().copied().map(JobId::from_bytes)
}
