//! How jobs are found that have expired.

use std::collections::HashSet;

use jiff::Timestamp;
use rusqlite::params;

use super::read;
use crate::store::sqlite::{
    batcher::{command::Write, tables::Tables},
    encoding,
    error::Fault,
};
use crate::{
    error::Result,
    model::job::JobId,
    store::{Expired, expired::Expiry},
};

/// Looks at jobs that may have expired. Those that cannot expire any more are not looked at again.
pub(crate) struct LookForExpired {
    pub(crate) now: Timestamp,
    pub(crate) limit: usize,
}

impl Write for LookForExpired {
    type Outcome = Expired;
    const DOING: &'static str = "look for jobs that have expired";

    fn weight(&self) -> usize {
        self.limit
    }

    fn apply(&self, tables: &mut Tables<'_>) -> Result<Expired, Fault> {
        let (now, limit) = (encoding::millis(self.now), encoding::count(self.limit));
        let rows =
            tables.sql.expiring.query_map(params![now, limit], |row| Ok((row.get(0)?, encoding::job_id(row, 1)?)))?;
        let rows: Vec<(i64, JobId)> = rows.collect::<rusqlite::Result<_>>()?;
        let mut expired = Expired { more: rows.len() == self.limit, ..Expired::default() };
        let mut seen = HashSet::new();
        for (at, id) in rows {
            let bytes = id.to_bytes();
            let was_started = tables.sql.first_attempt.exists([bytes])?;
            let job = read::job(tables.connection, id)?;
            match job.as_ref().map_or(Expiry::Never, |job| Expiry::of(job, was_started, self.now)) {
                // A job that was moved stands there twice.
                Expiry::Come if seen.insert(id) => {
                    expired.jobs.extend(job);
                    continue;
                }
                Expiry::At(later) => _ = tables.sql.insert_expiring.execute(params![encoding::millis(later), bytes])?,
                Expiry::Come | Expiry::Never => {}
            }
            tables.sql.delete_expiring.execute(params![at, bytes])?;
        }
        Ok(expired)
    }
}
