//! Handlers in the writer's transaction.

#[cfg(test)]
mod tests;

use std::{cell::RefCell, sync::Arc, time::Duration};

use rusqlite::{OptionalExtension, params};

use crate::store::sqlite::{
    batcher::{
        command::{Phase, Write},
        tables::Tables,
    },
    encoding,
    error::Fault,
    steps::New,
    transaction::{BROKEN, InTransaction},
};
use crate::{
    error::Result,
    model::job::{Lease, Reply, Step},
    store::{Changes, PendingStep, Transacted},
};

/// Runs handlers, and records the steps that they make.
pub(crate) struct Transact {
    pub(crate) lease: Option<Lease>,
    pub(crate) works: Vec<Arc<PendingStep>>,
    /// A transaction that takes longer than this takes on no more handlers than it must.
    pub(crate) long: Duration,
    /// Why the handlers, or what they replied, are to blame for the end of the transaction that they ran in.
    pub(crate) to_blame: RefCell<Option<Fault>>,
}

/// How long a transaction may take on handlers.
pub(crate) const LONG: Duration = Duration::from_millis(50);

const ENDED: &str = "a handler ended the transaction that it was given; it must neither commit nor roll back, as \
                     `INSERT OR ROLLBACK` does";
const MEDDLED: &str = "a handler changed its own job in the tables of qtasks, which are not its own";

impl Write for Transact {
    type Outcome = Transacted;
    const DOING: &'static str = "run handlers in a transaction";

    fn weight(&self) -> usize {
        self.works.len()
    }

    fn phase(&self) -> Phase {
        Phase::Handlers
    }

    fn apply(&self, tables: &mut Tables<'_>) -> Result<Transacted, Fault> {
        if let Some(fault) = &*self.to_blame.borrow() {
            return Err(fault.clone());
        }
        match self.lease {
            Some(lease) => self.record(tables, lease),
            None => self.run_all(tables),
        }
    }

    fn undone(&self, fault: &Fault) {
        if matches!(fault, Fault::Misuse(BROKEN)) {
            _ = self.blame(fault.clone());
        }
    }
}

impl Transact {
    /// Keeps a fault, which is the outcome again when the call is applied again: its handlers do not run twice.
    fn blame(&self, fault: Fault) -> Fault {
        *self.to_blame.borrow_mut() = Some(fault.clone());
        fault
    }

    fn record(&self, tables: &mut Tables<'_>, lease: Lease) -> Result<Transacted, Fault> {
        let holder = params![lease.job.to_bytes(), lease.worker.to_bytes(), lease.attempt];
        let recorded: Option<i64> = tables.sql.recorded.query_row(holder, |row| row.get(0)).optional()?;
        let Some(recorded) = recorded else { return Ok(Transacted::Fenced) };
        let mut next = recorded.cast_unsigned();
        let mut transacted = Transacted::Upto(next);
        for work in self.works.iter().filter(|work| work.seq >= recorded.cast_unsigned()) {
            if work.seq != next {
                return Err(Fault::Contract("the values to handle leave a gap in their numbers"));
            }
            // One handler of each call runs, however slow the handlers of other calls were.
            if transacted != Transacted::Upto(recorded.cast_unsigned()) && tables.begun.elapsed() > self.long {
                break;
            }
            let Some(handler) = work.take::<InTransaction>() else {
                transacted = Transacted::Spent(next);
                break;
            };
            let Some(reply) = self.run(tables, handler)? else {
                transacted = Transacted::Failed(next);
                break;
            };
            let appended = self.append(tables, lease, Step { seq: next, hash: work.hash, reply });
            appended.map_err(|fault| if fault.is_for_good() { self.blame(fault) } else { fault })?;
            next += 1;
            transacted = Transacted::Upto(next);
        }
        tables.changes.add(Changes::progressed([lease.job]));
        Ok(transacted)
    }

    fn run_all(&self, tables: &mut Tables<'_>) -> Result<Transacted, Fault> {
        let mut next = 0;
        for work in &self.works {
            next = work.seq;
            let Some(handler) = work.take::<InTransaction>() else { return Ok(Transacted::Spent(next)) };
            if self.run(tables, handler)?.is_none() {
                return Ok(Transacted::Failed(next));
            }
        }
        Ok(Transacted::Upto(next + 1))
    }

    /// Runs a handler in a savepoint, which is kept if it has replied.
    fn run(&self, tables: &mut Tables<'_>, handler: InTransaction) -> Result<Option<Reply>, Fault> {
        // The handler may commit the transaction, which it must not.
        tables.write_sums()?;
        tables.sql.savepoint.execute([])?;
        let reply = handler(tables.transaction()?);
        if !close(tables, matches!(reply, Some(Reply::Value(_)))) {
            return Err(self.blame(Fault::Misuse(ENDED)));
        }
        // It may have enqueued something.
        tables.changes.add(Changes::enqueued());
        Ok(reply)
    }

    // Each step by itself, so that rows and steps agree even where a handler commits the transaction itself.
    fn append(&self, tables: &mut Tables<'_>, lease: Lease, step: Step) -> Result<(), Fault> {
        let job = lease.job.to_bytes();
        let advanced = tables.sql.advance.execute(params![
            job,
            lease.worker.to_bytes(),
            lease.attempt,
            encoding::count(step.seq),
            1,
            step.reply.is_skipped(),
        ])?;
        if advanced == 0 {
            return Err(self.blame(Fault::Misuse(MEDDLED)));
        }
        let mut new = New::default();
        new.add(&mut tables.sql, job, std::iter::once(&step))?;
        Ok(tables.add_steps(new)?)
    }
}

/// Ends the savepoint of a handler; gives whether it was there, which it is not when the transaction has ended.
fn close(tables: &mut Tables<'_>, keep: bool) -> bool {
    let sql = &mut tables.sql;
    (keep || sql.undo_savepoint.execute([]).is_ok()) && sql.release_savepoint.execute([]).is_ok()
}
