//! The transaction that a handler writes in.

use std::ops::Deref;

use crate::model::job::Reply;

/// A transaction of the store, in which a handler writes what is to be there exactly once.
///
/// It is a [`rusqlite::Transaction`] on the store's own file. The step of the value is recorded in it, so that both are
/// there or neither is. An error or a panic of the handler undoes what that handler wrote. All other writes
/// to the store wait for the handler: keep it short, and wait for nothing in it.
///
/// ```standalone_crate
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
pub struct Transaction<'c>(pub(crate) rusqlite::Transaction<'c>);

impl<'c> Deref for Transaction<'c> {
    type Target = rusqlite::Transaction<'c>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

/// The kind of transactions that handlers are written for.
pub(crate) const KIND: &str = "sqlite";

/// A handler with its value, for [`PendingStep`]: gives the reply to record, or `None` when it failed.
pub(crate) type InTransaction = Box<dyn FnOnce(&Transaction<'_>) -> Option<Reply> + Send>;

/// What the commit says when handlers leave something behind that must not stay.
pub(super) const BROKEN: &str =
    "what handlers wrote breaks a constraint that is checked at the commit; is it a deferred foreign key?";
