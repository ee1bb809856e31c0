//! How jobs are let on that wait for others.

use rusqlite::{OptionalExtension as _, Row, params};

use super::tables::Tables;
use crate::store::sqlite::encoding::{self, CANCELLED};
use crate::{
    model::job::{AfterFailure, JobId, StateKind},
    store::Changes,
};

impl Tables<'_> {
    /// What the ends of this transaction mean for the jobs that wait for those, and for the jobs that wait for these.
    pub(super) fn release(&mut self) -> rusqlite::Result<()> {
        if self.ends.is_empty() || !self.sql.some_waits.exists([])? {
            return Ok(());
        }
        let mut over = self.ends.jobs();
        while let Some(parent) = over.pop() {
            let id = parent.to_bytes();
            self.sql.forget_parents.execute([id])?;
            let ended = self.sql.how_ended.query_row([id], |row| Ok((encoding::state_kind(row, 0)?, row.get(1)?)));
            let Some((state, ended)): Option<(StateKind, i64)> = ended.optional()? else { continue };
            let child = |row: &Row<'_>| Ok((encoding::job_id(row, 0)?, row.get::<_, bool>(1)?));
            let children: Vec<_> = self.sql.children.query_map([id], child)?.collect::<rusqlite::Result<_>>()?;
            self.sql.forget_children.execute([id])?;
            for (child, runs) in children {
                let on_failure = if runs { AfterFailure::Run } else { AfterFailure::Cancel };
                match on_failure.cancels(parent, state) {
                    Some(reason) => over.extend(self.cancel(child, ended, &reason)?),
                    None => self.let_on(child, ended)?,
                }
            }
        }
        Ok(())
    }

    /// Cancels a job that waits for others; gives it, if it was still there.
    fn cancel(&mut self, job: JobId, ended: i64, reason: &str) -> rusqlite::Result<Option<JobId>> {
        if self.sql.cancel_child.execute(params![job.to_bytes(), ended, reason])? == 0 {
            return Ok(None);
        }
        self.count_settled(job, StateKind::Waiting, StateKind::Cancelled)?;
        self.ends.add(CANCELLED, ended, job);
        self.changes.add(Changes::ended(job));
        Ok(Some(job))
    }

    /// Lets a job wait for one less, or for its time alone.
    fn let_on(&mut self, job: JobId, ended: i64) -> rusqlite::Result<()> {
        let id = job.to_bytes();
        let left: u32 = self.sql.count_parents.query_row([id], |row| row.get(0))?;
        if left > 0 {
            self.sql.set_parents.execute(params![id, left.to_string()])?;
        } else {
            let due = self.sql.let_go.query_row(params![id, ended], |row| row.get::<_, i64>(0)).optional()?;
            if let Some(due) = due {
                self.reach(ended);
                self.sql.expire_from.execute(params![id, due])?;
            }
        }
        self.changes.add(Changes::placed(job));
        Ok(())
    }
}
