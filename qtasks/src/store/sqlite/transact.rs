//! Handlers in the writer's transaction.

use std::{
    cell::Cell,
    ops::Deref,
    sync::Arc,
    time::{Duration, Instant},
};

use rusqlite::{OptionalExtension, params};

use super::{
    fault::Fault,
    queue::Write,
    row,
    tables::Tables,
    write::{MANY, insert_step},
};
use crate::{
    error::Result,
    job::{Lease, Reply, Step},
    store::{Transacted, Work},
};

/// A transaction of the store, in which a handler writes what is to be there exactly once.
///
/// It is a [`rusqlite::Transaction`] on the store's own file. The step of the value is recorded in it, so that both are
/// there or neither is. An error or a panic of the handler undoes what that handler wrote. All that anybody writes to the
/// store waits for the handler: keep it short, and wait for nothing in it.
///
/// ```
/// use qtasks::{prelude::*, sqlite::{Transaction, rusqlite}};
///
/// fn save(tx: &Transaction<'_>, name: String) -> rusqlite::Result<i64> {
///     tx.execute("INSERT INTO users (name) VALUES (?1)", [name])?;
///     Ok(tx.last_insert_rowid())
/// }
///
/// #[qtask(generate_handler = save)]
/// async fn import(names: Vec<String>) -> Vec<i64> {
///     for name in names {
///         yield_!(name);
///     }
/// }
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("app.db");
/// # rusqlite::Connection::open(&path)?.execute_batch("CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT)")?;
/// let app = QueueTasks::open(&format!("sqlite:{}", path.display())).await?;
/// let job = app.enqueue(import(vec!["Ada".into(), "Grace".into()])).await?;
/// app.worker().run_until_idle().await?;
/// assert_eq!(job.result().await?, [1, 2]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Transaction<'c>(pub(super) rusqlite::Transaction<'c>);

impl<'c> Deref for Transaction<'c> {
    type Target = rusqlite::Transaction<'c>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

/// The kind of transactions that handlers are written for.
pub(crate) const KIND: &str = "sqlite";

/// A handler with its value, for [`Work`]: gives the reply to record, or nothing when it failed.
pub(crate) type InTransaction = Box<dyn FnOnce(&Transaction<'_>) -> Option<Reply> + Send>;

/// Runs handlers, and records the steps that they make.
pub(super) struct Transact {
    pub(super) lease: Option<Lease>,
    pub(super) works: Vec<Arc<Work>>,
    /// Why the handlers are to blame for the end of the transaction that they ran in.
    pub(super) to_blame: Cell<Option<&'static str>>,
}

/// Handlers that take longer than this share their transaction with no more of them.
const LONG: Duration = Duration::from_millis(50);

const ENDED: &str = "a handler ended the transaction that it was given; it must neither commit nor roll back, as \
                     `INSERT OR ROLLBACK` does";
/// What the commit says when handlers leave something behind that must not stay.
pub(super) const BROKEN: &str =
    "what handlers wrote breaks a constraint that is checked at the commit; is it a deferred foreign key?";

impl Write for Transact {
    type Outcome = Transacted;
    const DOING: &'static str = "run handlers in a transaction";

    fn weight(&self) -> usize {
        self.works.len()
    }

    fn runs_handlers(&self) -> bool {
        true
    }

    fn apply(&self, tables: &mut Tables<'_>) -> Result<Transacted, Fault> {
        if let Some(why) = self.to_blame.get() {
            return Err(Fault::Misuse(why));
        }
        match self.lease {
            Some(lease) => self.record(tables, lease),
            None => self.run_all(tables),
        }
    }

    fn undone(&self, fault: &Fault) {
        if matches!(fault, Fault::Misuse(BROKEN)) {
            self.to_blame.set(Some(BROKEN));
        }
    }
}

impl Transact {
    fn record(&self, tables: &mut Tables<'_>, lease: Lease) -> Result<Transacted, Fault> {
        let holder = params![lease.job.to_bytes(), lease.worker.to_bytes(), lease.attempt];
        let recorded: Option<i64> = tables.sql.recorded.query_row(holder, |row| row.get(0)).optional()?;
        let Some(recorded) = recorded else { return Ok(Transacted::Fenced) };
        let mut next = recorded.cast_unsigned();
        let since = Instant::now();
        let mut came = Transacted::Upto(next);
        for work in self.works.iter().filter(|work| work.seq >= recorded.cast_unsigned()) {
            if work.seq != next {
                return Err(Fault::Misuse("the values to handle leave a gap in their numbers"));
            }
            if since.elapsed() > LONG {
                break;
            }
            let Some(handler) = work.take::<InTransaction>() else {
                came = Transacted::Spent(next);
                break;
            };
            let Some(reply) = self.run(tables, handler)? else {
                came = Transacted::Failed(next);
                break;
            };
            self.append(tables, lease, Step { seq: next, hash: work.hash, reply })?;
            next += 1;
            came = Transacted::Upto(next);
        }
        tables.move_steps()?;
        tables.news.jobs.push(lease.job);
        // A handler may have enqueued something.
        tables.news.work = true;
        Ok(came)
    }

    fn run_all(&self, tables: &mut Tables<'_>) -> Result<Transacted, Fault> {
        let mut next = 0;
        for work in &self.works {
            next = work.seq;
            let Some(handler) = work.take::<InTransaction>() else { return Ok(Transacted::Spent(next)) };
            if self.run(tables, handler)?.is_none() {
                return Ok(Transacted::Failed(next));
            }
            tables.news.work = true;
        }
        Ok(Transacted::Upto(next + 1))
    }

    /// Runs a handler in a savepoint, which is kept if it has replied.
    fn run(&self, tables: &mut Tables<'_>, handler: InTransaction) -> Result<Option<Reply>, Fault> {
        tables.sql.savepoint.execute([])?;
        let reply = handler(tables.transaction()?);
        let ended = tables.connection.is_autocommit() || !close(tables, matches!(reply, Some(Reply::Value(_))));
        if ended {
            self.to_blame.set(Some(ENDED));
            return Err(Fault::Misuse(ENDED));
        }
        Ok(reply)
    }

    // Step by step, so that all is as it should be even where a handler commits behind our back.
    fn append(&self, tables: &mut Tables<'_>, lease: Lease, step: Step) -> Result<(), Fault> {
        let job = lease.job.to_bytes();
        let skipped = matches!(step.reply, Reply::Skipped(_));
        let advanced = tables.sql.advance.execute(params![
            job,
            lease.worker.to_bytes(),
            lease.attempt,
            row::count(step.seq),
            1,
            skipped,
            None::<i64>,
            None::<i64>,
        ])?;
        if advanced == 0 {
            self.to_blame.set(Some(MEDDLED));
            return Err(Fault::Misuse(MEDDLED));
        }
        if self.works.len() >= MANY {
            return Ok(insert_step(&mut tables.sql.insert_step, job, &step)?);
        }
        tables.new_steps += 1;
        Ok(insert_step(&mut tables.sql.insert_new_step, job, &step)?)
    }
}

const MEDDLED: &str = "a handler changed its own job in the tables of qtasks, which are not its own";

/// Ends the savepoint of a handler; gives whether it was there.
fn close(tables: &mut Tables<'_>, keep: bool) -> bool {
    let sql = &mut tables.sql;
    (keep || sql.undo_savepoint.execute([]).is_ok()) && sql.release_savepoint.execute([]).is_ok()
}
