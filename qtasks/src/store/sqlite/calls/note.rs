//! Notes, and how they are changed together with new jobs.

use rusqlite::{Connection, OptionalExtension, params};

use super::enqueue::enqueue;
use crate::store::sqlite::{
    batcher::{command::Write, tables::Tables},
    encoding,
    error::Fault,
    sql::Statements,
};
use crate::{
    error::Result,
    model::job::{NewJob, Version},
    store::{Changes, Note, NoteChange, Written},
};

pub(crate) const NOTES: &str = "SELECT kind, name, version, value, until FROM qtasks_notes WHERE kind = ?1";

pub(crate) fn notes(connection: &Connection, kind: &str) -> rusqlite::Result<Vec<Note>> {
    connection.prepare_cached(NOTES)?.query_map([kind], encoding::note)?.collect()
}

/// Changes notes and enqueues jobs.
pub(crate) struct ChangeNotes {
    pub(crate) changes: Vec<NoteChange>,
    pub(crate) jobs: Vec<NewJob>,
}

impl Write for ChangeNotes {
    type Outcome = Written;
    const DOING: &'static str = "change notes";

    fn weight(&self) -> usize {
        self.changes.len() + self.jobs.len()
    }

    fn is_new(&self) -> bool {
        !self.jobs.is_empty()
    }

    fn apply(&self, tables: &mut Tables<'_>) -> Result<Written, Fault> {
        for change in &self.changes {
            if !change.may_follow(version(&mut tables.sql, change)?) {
                return Ok(Written::Fenced);
            }
        }
        self.changes.iter().try_for_each(|change| make(&mut tables.sql, change))?;
        _ = enqueue(tables, &self.jobs)?;
        tables.changes.add(Changes::noted(&self.changes, &self.jobs));
        Ok(Written::Yes)
    }
}

fn version(sql: &mut Statements<'_>, change: &NoteChange) -> rusqlite::Result<Option<Version>> {
    let (kind, name) = change.place();
    sql.note_version.query_row([kind, name], |row| row.get(0).map(Version::from_bytes)).optional()
}

fn make(sql: &mut Statements<'_>, change: &NoteChange) -> rusqlite::Result<()> {
    match change {
        NoteChange::Write { note: Note { kind, name, version, value, until }, .. } => {
            let until = until.map(encoding::millis);
            sql.write_note.execute(params![kind, name, version.to_bytes(), value.as_str(), until])?
        }
        NoteChange::Delete { kind, name, .. } => sql.delete_note.execute([kind, name])?,
    };
    Ok(())
}
