//! Notes are changed one after the other, together with the jobs that come of them.

use std::sync::Arc;

use super::harness::*;
use crate::{
    model::job::{NewJob, Version},
    store::{Note, NoteChange, Store, Written},
};

impl Subject {
    async fn notes(&self, kind: &str) -> Vec<Note> {
        let mut notes = answer(self.0.notes(kind).await);
        notes.sort_by(|one, other| one.name.cmp(&other.name));
        notes
    }

    pub(super) async fn note(&self, changes: impl IntoIterator<Item = NoteChange>, jobs: Vec<NewJob>) -> Written {
        answer(self.0.note(changes.into_iter().collect(), jobs).await)
    }
}

/// A new version of a note of the kind `pause`.
fn note(name: &str, value: &str) -> Note {
    Note { kind: "pause".into(), name: name.into(), version: Version::new(), value: json(value), until: None }
}

pub(super) fn new(note: &Note) -> NoteChange {
    NoteChange::Write { note: note.clone(), seen: None }
}

fn write(note: &Note, seen: &Note) -> NoteChange {
    NoteChange::Write { note: note.clone(), seen: Some(seen.version) }
}

fn delete(note: &Note) -> NoteChange {
    NoteChange::Delete { kind: note.kind.clone(), name: note.name.clone(), seen: note.version }
}

/// A note is read as it was written: its text to the letter, its time to the millisecond. Each kind is read by itself.
pub async fn a_note_is_kept_as_it_was_written(store: Arc<dyn Store>) {
    let store = Subject(store);
    let long = format!("{{\"text\":\"{}\"}}", "ü\u{1F600} ".repeat(9_000));
    let until = Note { until: Some(at(-7)), ..note("until", "{ \"b\" : 1.50, \"a\" : null, \"b\" : \"\\u0000\" }") };
    let other = Note { kind: "schedule".into(), ..note("all", "1") };
    let written = [note("all", "{}"), note(&"n:.-_9".repeat(40), &long), until];
    let changes = written.iter().chain([&other]).map(new);
    assert_eq!(store.note(changes, vec![]).await, Written::Yes);
    assert_eq!(store.notes("pause").await, written);
    assert_eq!(store.notes("schedule").await, [other]);
    assert_eq!(store.notes("none").await, []);
}

/// A note is changed at the version that was seen, and made where none is seen. It is not there once it is deleted.
pub async fn a_note_is_changed_at_the_version_that_was_seen(store: Arc<dyn Store>) {
    let store = Subject(store);
    let [first, second, third, stale] = ["1", "2", "3", "4"].map(|value| note("all", value));
    assert_eq!(store.note([write(&first, &stale)], vec![]).await, Written::Fenced, "there is none to change");
    assert_eq!(store.note([new(&first)], vec![]).await, Written::Yes);
    assert_eq!(store.note([new(&stale)], vec![]).await, Written::Fenced, "there is one already");
    assert_eq!(store.note([write(&second, &first)], vec![]).await, Written::Yes);
    assert_eq!(store.note([write(&stale, &first)], vec![]).await, Written::Fenced, "it was changed meanwhile");
    assert_eq!(store.note([delete(&first)], vec![]).await, Written::Fenced, "it was changed meanwhile");
    assert_eq!(store.notes("pause").await, std::slice::from_ref(&second));
    assert_eq!(store.note([delete(&second)], vec![]).await, Written::Yes);
    assert_eq!(store.notes("pause").await, []);
    assert_eq!(store.note([write(&stale, &second)], vec![]).await, Written::Fenced, "it is gone");
    assert_eq!(store.note([new(&third)], vec![]).await, Written::Yes);
    assert_eq!(store.note([delete(&second)], vec![]).await, Written::Fenced, "the one that was seen is gone for good");
    assert_eq!(store.notes("pause").await, [third]);
}

/// A call that is made again, since its answer was lost, changes nothing more; and is told that it was carried out.
pub async fn a_change_of_notes_can_be_made_again(store: Arc<dyn Store>) {
    let store = Subject(store);
    let (first, second, job) = (note("all", "1"), note("all", "2"), call());
    for _ in 0..2 {
        assert_eq!(store.note([new(&first)], vec![job.clone()]).await, Written::Yes);
        assert_eq!(store.notes("pause").await, std::slice::from_ref(&first));
    }
    for _ in 0..2 {
        assert_eq!(store.note([write(&second, &first)], vec![job.clone()]).await, Written::Yes);
        assert_eq!(store.notes("pause").await, std::slice::from_ref(&second));
    }
    for _ in 0..2 {
        assert_eq!(store.note([delete(&second)], vec![]).await, Written::Yes);
        assert_eq!(store.notes("pause").await, []);
    }
    assert_eq!(store.all_jobs().await.len(), 1);
}

/// Where one of several notes was changed meanwhile, none is changed, and no job is enqueued.
pub async fn notes_change_with_their_jobs_or_not_at_all(store: Arc<dyn Store>) {
    let store = Subject(store);
    let (first, other) = (note("first", "1"), note("other", "1"));
    assert_eq!(store.note([new(&first), new(&other)], vec![]).await, Written::Yes);
    let [next, other_next] = [note("first", "2"), note("other", "2")];
    let stale = note("other", "0");
    for changes in [
        [write(&next, &first), write(&other_next, &stale)],
        [write(&other_next, &stale), delete(&first)],
        [write(&next, &first), new(&other_next)],
    ] {
        assert_eq!(store.note(changes, calls(2)).await, Written::Fenced);
        assert_eq!(store.notes("pause").await, [first.clone(), other.clone()]);
        assert_eq!(store.all_jobs().await, []);
    }
    let jobs = calls(2);
    let expected = jobs.iter().map(|job| job.call.id).collect::<Vec<_>>();
    assert_eq!(store.note([write(&next, &first), delete(&other)], jobs).await, Written::Yes);
    assert_eq!(store.notes("pause").await, [next]);
    assert_eq!(ids(&store.lease(ask(crate::model::job::WorkerId::new())).await), expected);
    assert_eq!(store.note([], calls(1)).await, Written::Yes);
    assert_eq!(store.note([], vec![]).await, Written::Yes);
    assert_eq!(store.all_jobs().await.len(), 3);
}

/// Of many that change a note at once, having seen the same version, one does; and its job alone is enqueued.
pub async fn one_of_many_changes_a_note(store: Arc<dyn Store>) {
    let store = Subject(store);
    let mut seen = None;
    for round in 0..5 {
        let tries = (0..16).map(|number| {
            let (store, note, job) = (store.clone(), note("all", &format!("[{round},{number}]")), call());
            let change = NoteChange::Write { note: note.clone(), seen };
            async move { (store.note([change], vec![job.clone()]).await, note, job.call.id) }
        });
        let mut written = at_once(tries).await;
        written.retain(|(written, ..)| *written == Written::Yes);
        let [(_, note, job)] = &written[..] else { panic!("{} have changed the note", written.len()) };
        assert_eq!(store.notes("pause").await, std::slice::from_ref(note));
        assert_eq!(ids(&store.lease(ask(crate::model::job::WorkerId::new())).await), [*job]);
        seen = Some(note.version);
    }
}

/// A listener for notes is notified of each change, and one for work of the jobs that come with it.
pub async fn changes_of_notes_are_notified(store: Arc<dyn Store>) {
    let store = Subject(store);
    let (first, second) = (note("all", "1"), note("all", "2"));
    let mut notes = store.0.notifier().notes();
    assert_eq!(store.note([new(&first)], vec![]).await, Written::Yes);
    expect_notification(&mut notes, "a new note").await;
    let mut work = store.0.notifier().work();
    assert_eq!(store.note([write(&second, &first)], calls(1)).await, Written::Yes);
    expect_notification(&mut notes, "a note that is written").await;
    expect_notification(&mut work, "a job that comes with a note").await;
    assert_eq!(store.note([delete(&second)], vec![]).await, Written::Yes);
    expect_notification(&mut notes, "a note that is deleted").await;
}
