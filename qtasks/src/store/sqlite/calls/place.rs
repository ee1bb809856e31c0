//! How a job that never started is moved.

use rusqlite::{OptionalExtension, params};

use crate::store::sqlite::{
    batcher::{command::Write, tables::Tables},
    encoding,
    error::Fault,
};
use crate::{
    error::Result,
    model::job::StateKind,
    store::{Changes, Placement, Written},
};

impl Write for Placement {
    type Outcome = Written;
    const DOING: &'static str = "move a job";

    fn apply(&self, tables: &mut Tables<'_>) -> Result<Written, Fault> {
        let id = self.job.to_bytes();
        let found = tables.sql.placed.query_row([id], |row| {
            let (lane, rank, state, due) = (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
            Ok((lane, rank, state, due, row.get(4)?))
        });
        let found: Option<(i64, i64, i16, i64, String)> = found.optional()?;
        let Some((from, rank, state, due, task)) = found else { return Ok(Written::Fenced) };
        let to = self.queue.as_ref().map_or(Ok(from), |queue| tables.lane(queue, &task))?;
        let rank = self.priority.map_or(rank, |priority| -i64::from(priority));
        // Whether it is due then is for the next lease to find out, by the worker's clock.
        let (state, due) = self.due.map_or((state, due), |due| (state.min(encoding::LATER), encoding::millis(due)));
        tables.sql.place.execute(params![id, to, rank, state, due])?;
        if let Some(due) = self.due {
            tables.sql.expire_from.execute(params![id, encoding::millis(due)])?;
        }
        tables.tally.add(from, StateKind::Waiting, -1);
        tables.tally.add(to, StateKind::Waiting, 1);
        tables.changes.add(Changes::placed(self.job));
        Ok(Written::Yes)
    }
}
