//! The tables, and how those of an older qtasks become those of this one.
//!
//! All are named `qtasks_*` and the format stands in a table of its own, so that a user's tables, with their
//! `user_version`, fit into the same file: that is what lets a job be enqueued in the user's own transaction.

mod migrations;
#[cfg(test)]
mod tests;

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior};

pub(super) use self::migrations::MIGRATIONS;
use super::{sql, tally::Tally, url::StoreUrl};
use crate::error::{Error, Result};

/// The format that [`MIGRATIONS`] lead to.
pub(super) const FORMAT: i64 = MIGRATIONS.len() as i64;

/// The first format with steps as bytes, which are made of the text of older ones.
const PACKED: i64 = 5;

/// The first format with counts of jobs.
const COUNTED: i64 = 9;

/// The format of the tables in the file; 0 where there are none.
pub(super) fn format(connection: &Connection) -> rusqlite::Result<i64> {
    let there = connection
        .prepare_cached("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'qtasks_format'")?
        .exists([])?;
    if !there {
        return Ok(0);
    }
    let found = connection.prepare_cached("SELECT format FROM qtasks_format")?.query_row([], |row| row.get(0));
    Ok(found.optional()?.unwrap_or(0))
}

/// Brings the tables to the format of this qtasks.
///
/// Any number of processes may do so at once: each looks what is missing, and adds it, under the one write lock.
pub(super) fn migrate(connection: &mut Connection, url: &StoreUrl, migrations: &[&str]) -> Result<()> {
    let known = migrations.len() as i64;
    if check(connection, url, known)? == known {
        return Ok(());
    }
    let explain = |error| url.explain(error);
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(explain)?;
    let found = check(&transaction, url, known)?;
    match found {
        0 => refuse_strangers(&transaction, url)?,
        1..PACKED => refuse_utf_16(&transaction, url)?,
        _ => {}
    }
    advance(&transaction, &migrations[found as usize..], known).map_err(explain)?;
    transaction.commit().map_err(explain)
}

/// The format that was found, unless it is newer than `known`.
fn check(connection: &Connection, url: &StoreUrl, known: i64) -> Result<i64> {
    let found = format(connection).map_err(|error| url.explain(error))?;
    if found > known {
        return Err(Error::NewerStore { store: url.path.display().to_string(), found, known });
    }
    Ok(found.max(0))
}

/// Refuses a file in which another program has taken our names.
fn refuse_strangers(connection: &Connection, url: &StoreUrl) -> Result<()> {
    let sql = "SELECT name FROM sqlite_schema WHERE name LIKE 'qtasks!_%' ESCAPE '!' AND name <> 'qtasks_format'";
    let stranger: Option<String> =
        connection.query_row(sql, [], |row| row.get(0)).optional().map_err(|error| url.explain(error))?;
    match stranger {
        None => Ok(()),
        Some(name) => Err(Error::ForeignStore {
            store: url.path.display().to_string(),
            why: format!("it has a `{name}` and no format in `qtasks_format`"),
        }),
    }
}

/// Refuses a file whose text is not in the bytes that steps are made of.
fn refuse_utf_16(connection: &Connection, url: &StoreUrl) -> Result<()> {
    let encoding: String =
        connection.query_row("PRAGMA encoding", [], |row| row.get(0)).map_err(|error| url.explain(error))?;
    if encoding == "UTF-8" {
        return Ok(());
    }
    Err(Error::ForeignStore {
        store: url.path.display().to_string(),
        why: format!(
            "its text is {encoding}, and its steps can be taken over from UTF-8 only; dump it into a new file"
        ),
    })
}

fn advance(transaction: &Transaction<'_>, missing: &[&str], known: i64) -> rusqlite::Result<()> {
    transaction.execute_batch("CREATE TABLE IF NOT EXISTS qtasks_format (format INTEGER NOT NULL)")?;
    for (format, migration) in (known - missing.len() as i64 + 1..).zip(missing) {
        transaction.execute_batch(migration)?;
        if format == COUNTED {
            Tally::of_jobs(transaction)?.write(&mut transaction.prepare(sql::COUNT)?)?;
        }
    }
    transaction.execute("DELETE FROM qtasks_format", [])?;
    transaction.execute("INSERT INTO qtasks_format (format) VALUES (?1)", [known])?;
    Ok(())
}
