//! Notes: how they are read, and changed together with the jobs that come of them.

use std::{collections::HashMap, sync::Arc};

use redis::cmd;

use super::{claim::add_keys, enqueue::Batch};
use crate::{
    model::job::NewJob,
    store::{
        Changes, Note, NoteChange, Written,
        redis::{batcher::Batcher, connection::Link, encoding, error::Fault},
    },
};

pub(crate) async fn notes(link: &Link, kind: &str) -> Result<Vec<Note>, Fault> {
    let mut command = cmd("HGETALL");
    let notes: HashMap<String, Vec<u8>> = link.ask(command.arg(link.key_of_notes(kind))).await?;
    notes.into_iter().map(|(name, bytes)| encoding::read_note(kind, name, &bytes)).collect()
}

pub(crate) async fn note(batcher: &Arc<Batcher>, changes: &[NoteChange], jobs: &[NewJob]) -> Result<Written, Fault> {
    let link = &batcher.link;
    let mut call = link.call(|scripts| &scripts.note);
    call.arg(changes.len());
    for change in changes {
        let (kind, name) = change.place();
        call.arg(kind).arg(name);
        match change {
            NoteChange::Write { note, seen } => {
                call.arg(seen.map(|seen| seen.to_bytes().to_vec()).unwrap_or_default());
                call.arg(&note.version.to_bytes()).arg(encoding::note(note));
            }
            NoteChange::Delete { seen, .. } => _ = call.arg(&seen.to_bytes()).arg("").arg(""),
        }
    }
    add_keys(&mut call, jobs, false);
    Batch::of(jobs).add_to(&mut call, link);
    if !batcher.ask::<bool>(call).await? {
        return Ok(Written::Fenced);
    }
    link.notifier.notify(&Changes::noted(changes, jobs));
    Ok(Written::Yes)
}
