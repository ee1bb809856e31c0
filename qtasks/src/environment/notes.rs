//! The notes of an application, read and changed although its store may be away for a while.

use crate::{
    environment::{App, patience::Patience},
    error::{Error, Result},
    model::{card::TaskCard, job::Version, json::Json},
    store::{Note, NoteChange, Written},
};

/// The kinds of notes that an application keeps.
pub(crate) mod kind {
    /// What is paused, by the text of its scope.
    pub(crate) const PAUSE: &str = "pause";
    /// The schedules, by their names.
    pub(crate) const SCHEDULE: &str = "schedule";
    /// The cards of tasks, by their names.
    pub(crate) const TASK: &str = "task";
    /// The cards of workers, by their ids.
    pub(crate) const WORKER: &str = "worker";
}

/// How often a change is tried again, of a note that others change at the same time.
const TRIES: usize = 100;

impl App {
    /// All notes of a kind.
    pub(crate) async fn notes(&self, kind: &str) -> Result<Vec<Note>> {
        Patience::new(&*self.store).call(|| self.store.notes(kind)).await
    }

    /// The card of one task, if a worker has known it.
    pub(crate) async fn task_card(&self, name: &str) -> Result<Option<TaskCard>> {
        let notes = self.notes(kind::TASK).await?;
        Ok(notes.into_iter().find(|note| note.name == name).and_then(|note| note.value.decode().ok()))
    }

    /// Changes one note, as `decide` says of the one that is there; gives whether there was anything to change. Where the note has
    /// changed meanwhile, `decide` is asked again.
    pub(crate) async fn change_note(
        &self,
        kind: &'static str,
        name: &str,
        decide: impl Fn(Option<&Note>) -> Result<Option<NoteChange>> + Send,
    ) -> Result<bool> {
        let mut patience = Patience::new(&*self.store);
        for _ in 0..TRIES {
            let notes = patience.call(|| self.store.notes(kind)).await?;
            let Some(change) = decide(notes.iter().find(|note| note.name == name))? else { return Ok(false) };
            if patience.call(|| self.store.note(vec![change.clone()], Vec::new())).await? == Written::Yes {
                return Ok(true);
            }
        }
        Err(Error::store("change a note", "others change it all the time"))
    }
}

/// The change that writes a note in place of the one that was `seen`.
pub(crate) fn write(
    kind: &str,
    name: &str,
    value: Json,
    until: Option<jiff::Timestamp>,
    seen: Option<&Note>,
) -> NoteChange {
    let note = Note { kind: kind.to_owned(), name: name.to_owned(), version: Version::new(), value, until };
    NoteChange::Write { note, seen: seen.map(|seen| seen.version) }
}

/// The change that deletes a note that was seen.
pub(crate) fn delete(seen: &Note) -> NoteChange {
    NoteChange::Delete { kind: seen.kind.clone(), name: seen.name.clone(), seen: seen.version }
}
