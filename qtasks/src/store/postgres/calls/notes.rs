//! How notes are read and changed.

use std::collections::HashMap;

use tokio_postgres::types::Type;
use uuid::Uuid;

use super::{
    enqueue::{enqueue_within, in_order},
    keys,
};
use crate::{
    model::job::{NewJob, Version},
    store::{
        Changes, Note, NoteChange, Written,
        postgres::{
            encoding,
            error::Fault,
            pool::{Database, Parameter, Transaction},
            shared::Shared,
        },
    },
};

const NOTES: &str = "SELECT name, version, value, until FROM qtasks.notes WHERE kind = $1";

pub(crate) async fn notes(database: &Database, kind: &str) -> Result<Vec<Note>, Fault> {
    let rows = database.list(NOTES, &[(&kind, Type::TEXT)]).await?;
    let note = |row| {
        Ok(Note {
            kind: kind.to_owned(),
            name: encoding::get(row, 0)?,
            version: version(encoding::get(row, 1)?),
            value: encoding::json(row, 2)?,
            until: encoding::get::<Option<i64>>(row, 3)?.map(encoding::time),
        })
    };
    rows.iter().map(note).collect()
}

/// Changes notes and enqueues jobs, everything or nothing.
pub(crate) async fn note(shared: &Shared, changes: &[NoteChange], jobs: &[NewJob]) -> Result<Written, Fault> {
    let sorted = in_order(jobs);
    let came = loop {
        match try_note(&shared.database, changes, &sorted).await {
            Ok(Came::Overtaken) => {}
            Ok(Came::Written(written)) => break Ok(written),
            Err(fault) => break Err(fault),
        }
    };
    // If no answer came, the changes may have been made all the same.
    shared.of_new(jobs.iter());
    shared.broadcast.of(&Changes::noted(changes, jobs));
    if !jobs.is_empty() {
        shared.folding.wrote();
    }
    came
}

enum Came {
    Written(Written),
    /// Another call has made a note of this name since it was looked for.
    Overtaken,
}

async fn try_note(database: &Database, changes: &[NoteChange], jobs: &[&NewJob]) -> Result<Came, Fault> {
    let transaction = database.begin().await?;
    let came = change(&transaction, changes, jobs).await?;
    match came {
        Came::Written(Written::Yes) => transaction.commit().await?,
        Came::Written(Written::Fenced) | Came::Overtaken => transaction.roll_back().await?,
    }
    Ok(came)
}

async fn change(transaction: &Transaction<'_>, changes: &[NoteChange], jobs: &[&NewJob]) -> Result<Came, Fault> {
    if !changes.is_empty() {
        let found = lock(transaction, changes).await?;
        if !changes.iter().all(|change| change.may_follow(found.get(&owned(change.place())).copied())) {
            return Ok(Came::Written(Written::Fenced));
        }
        if !write(transaction, changes, &found).await? {
            return Ok(Came::Overtaken);
        }
        delete(transaction, changes).await?;
    }
    let has_keys = jobs.iter().any(|job| job.keyed().is_some());
    if has_keys && let Ok(claimed) = keys::claim(transaction, jobs, false).await? {
        let new: Vec<_> = claimed.new.iter().map(|new| &**new).collect();
        enqueue_within(transaction, &new).await?;
    } else {
        enqueue_within(transaction, jobs).await?;
    }
    Ok(Came::Written(Written::Yes))
}

/// Notes with the versions that they have, by kind and name.
type Found = HashMap<(String, String), Version>;

/// Locks the notes that are there, in one order, so that two calls never wait for each other.
const LOCK: &str = "
    SELECT n.kind, n.name, n.version FROM qtasks.notes n JOIN unnest($1::text[], $2::text[]) AS a(kind, name)
        ON n.kind = a.kind AND n.name = a.name
    ORDER BY n.kind, n.name FOR UPDATE OF n";

async fn lock(transaction: &Transaction<'_>, changes: &[NoteChange]) -> Result<Found, Fault> {
    let (kinds, names): (Vec<_>, Vec<_>) = changes.iter().map(NoteChange::place).unzip();
    let rows = transaction.query(LOCK, &[(&kinds, Type::TEXT_ARRAY), (&names, Type::TEXT_ARRAY)]).await?;
    let found = |row| {
        let place = (encoding::get(row, 0)?, encoding::get(row, 1)?);
        Ok((place, version(encoding::get(row, 2)?)))
    };
    rows.iter().map(found).collect()
}

/// A note that was not found is new. If there is one nevertheless, whose version was not found, another call has made it
/// meanwhile, and it stays.
const WRITE: &str = "
    INSERT INTO qtasks.notes AS n (kind, name, version, value, until)
    SELECT * FROM unnest($1::text[], $2::text[], $3::uuid[], $4::text[], $5::int8[])
    ON CONFLICT (kind, name) DO UPDATE SET version = excluded.version, value = excluded.value, until = excluded.until
        WHERE n.version = ANY ($6)
    RETURNING n.version";

/// Writes the notes that are to be written; gives whether all of them were.
async fn write(transaction: &Transaction<'_>, changes: &[NoteChange], found: &Found) -> Result<bool, Fault> {
    let mut notes: Vec<&Note> = Vec::new();
    for change in changes {
        match change {
            NoteChange::Write { note, .. } => notes.push(note),
            NoteChange::Delete { .. } => {}
        }
    }
    if notes.is_empty() {
        return Ok(true);
    }
    notes.sort_by_key(|note| (&note.kind, &note.name));
    let kinds: Vec<_> = notes.iter().map(|note| &*note.kind).collect();
    let names: Vec<_> = notes.iter().map(|note| &*note.name).collect();
    let versions: Vec<_> = notes.iter().map(|note| version_id(note.version)).collect();
    let values: Vec<_> = notes.iter().map(|note| note.value.as_str()).collect();
    let untils: Vec<_> = notes.iter().map(|note| note.until.map(encoding::millis)).collect();
    let found: Vec<_> = found.values().copied().map(version_id).collect();
    let parameters: [Parameter<'_>; 6] = [
        (&kinds, Type::TEXT_ARRAY),
        (&names, Type::TEXT_ARRAY),
        (&versions, Type::UUID_ARRAY),
        (&values, Type::TEXT_ARRAY),
        (&untils, Type::INT8_ARRAY),
        (&found, Type::UUID_ARRAY),
    ];
    Ok(transaction.query(WRITE, &parameters).await?.len() == notes.len())
}

const DELETE: &str = "
    DELETE FROM qtasks.notes n USING unnest($1::text[], $2::text[]) AS a(kind, name)
    WHERE n.kind = a.kind AND n.name = a.name";

async fn delete(transaction: &Transaction<'_>, changes: &[NoteChange]) -> Result<(), Fault> {
    let gone = changes.iter().filter(|change| matches!(change, NoteChange::Delete { .. }));
    let (kinds, names): (Vec<_>, Vec<_>) = gone.map(NoteChange::place).unzip();
    if !kinds.is_empty() {
        transaction.query(DELETE, &[(&kinds, Type::TEXT_ARRAY), (&names, Type::TEXT_ARRAY)]).await?;
    }
    Ok(())
}

fn owned((kind, name): (&str, &str)) -> (String, String) {
    (kind.to_owned(), name.to_owned())
}

fn version(id: Uuid) -> Version {
    Version::from_bytes(id.into_bytes())
}

fn version_id(version: Version) -> Uuid {
    Uuid::from_bytes(version.to_bytes())
}
