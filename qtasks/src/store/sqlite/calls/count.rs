//! How many jobs each lane has, and what mends these numbers.

use jiff::Timestamp;
use rusqlite::{Connection, Row};

use super::read::at_one_moment;
use crate::store::sqlite::{
    batcher::{command::Write, tables::Tables},
    encoding,
    error::Fault,
    tally::Tally,
};
use crate::{
    error::Result,
    store::{JobCounts, Lane, LaneCounts},
};

/// The next in line is the first of the jobs that are known to be due, or the first of those whose time has come and which no lease has
/// looked at since.
pub(crate) const COUNTS: &str = "
    SELECT l.queue, l.task, l.waiting, l.running, l.done, l.dead, l.cancelled, CASE WHEN l.waiting > 0 THEN
        (SELECT due FROM (
            SELECT * FROM (SELECT due, rank, id FROM qtasks_jobs INDEXED BY qtasks_ready
                WHERE lane = l.id AND state = 1 AND suspect = 0 ORDER BY rank, id LIMIT 1)
            UNION ALL
            SELECT * FROM (SELECT due, rank, id FROM qtasks_jobs INDEXED BY qtasks_later
                WHERE lane = l.id AND state = 0 AND suspect = 0 ORDER BY due LIMIT 1))
        ORDER BY due > ?1, CASE WHEN due > ?1 THEN due END, rank, id LIMIT 1) END
    FROM qtasks_lanes AS l";

pub(crate) fn counts(connection: &Connection, now: Timestamp) -> rusqlite::Result<Vec<LaneCounts>> {
    connection.prepare_cached(COUNTS)?.query_map([encoding::millis(now)], lane_counts)?.collect()
}

fn lane_counts(row: &Row<'_>) -> rusqlite::Result<LaneCounts> {
    let jobs = |column| row.get::<_, i64>(column).map(|jobs| u64::try_from(jobs).unwrap_or(0));
    Ok(LaneCounts {
        lane: Lane { queue: row.get(0)?, task: row.get(1)? },
        jobs: JobCounts { waiting: jobs(2)?, running: jobs(3)?, done: jobs(4)?, dead: jobs(5)?, cancelled: jobs(6)? },
        oldest_due: row.get::<_, Option<i64>>(7)?.map(encoding::time),
    })
}

/// By how much the numbers of lanes are wrong. Since all that changes jobs adds to these numbers, and never sets them, they go on being
/// wrong by as much until they are mended.
pub(crate) struct Miscount {
    missing: Tally,
    /// How often they were mended before.
    recounts: i64,
}

impl Miscount {
    /// Looks at all jobs, and holds up no other call.
    pub(crate) fn find(connection: &Connection) -> rusqlite::Result<Self> {
        at_one_moment(connection, || {
            let recounts = connection.query_row("SELECT recounts FROM qtasks_format", [], |row| row.get(0))?;
            let missing = Tally::of_jobs(connection)?.beyond(Tally::of_lanes(connection)?);
            Ok(Self { missing, recounts })
        })
    }

    /// How many lanes are wrong.
    pub(crate) fn lanes(&self) -> usize {
        self.missing.lanes()
    }
}

impl Write for Miscount {
    /// Whether they were mended, and not by another call meanwhile.
    type Outcome = bool;
    const DOING: &'static str = "mend the counts of jobs";

    fn apply(&self, tables: &mut Tables<'_>) -> Result<bool, Fault> {
        if tables.sql.count_recount.execute([self.recounts])? == 0 {
            return Ok(false);
        }
        self.missing.clone().write(&mut tables.sql.count)?;
        Ok(true)
    }
}
