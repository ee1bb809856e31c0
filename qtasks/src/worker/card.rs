//! The card of a worker and those of its tasks, which it writes when it starts.

use std::{env, fs, path::Path, process};

use jiff::SignedDuration;

use super::shared::WorkerShared;
use crate::{
    environment::{
        App,
        notes::{delete, kind, write},
        patience::Patience,
    },
    error::{Error, Result},
    model::{
        card::{TaskCard, WorkerCard},
        job::WorkerId,
        json::Json,
    },
    schema::{TaskExecSchema, UniqueSchema},
    store::{Note, NoteChange, Written},
};

/// How often the cards are written anew when other workers write those of the same tasks.
const TRIES: usize = 100;

/// Writes the card of a worker, and those of its tasks that say something else, all at once.
pub(crate) async fn write_cards(app: &App, id: WorkerId, queues: &[String], concurrency: usize) -> Result<()> {
    let worker = Json::encode(&card(app, queues, concurrency)).map_err(not_encoded)?;
    let tasks = app.registry.schemas().map(task_card).collect::<Result<Vec<_>>>()?;
    let mut patience = Patience::new(&*app.store);
    for _ in 0..TRIES {
        let notes = patience.call(|| app.store.notes(kind::TASK)).await?;
        let mut changes: Vec<_> = tasks.iter().filter_map(|(name, card)| change(&notes, name, card)).collect();
        changes.push(write(kind::WORKER, &id.to_string(), worker.clone(), None, None));
        if patience.call(|| app.store.note(changes.clone(), Vec::new())).await? == Written::Yes {
            return Ok(());
        }
    }
    Err(Error::store("write the cards of a worker", "other workers change those of its tasks all the time"))
}

/// The change of a task's card, if it says something else.
fn change(notes: &[Note], name: &str, card: &Json) -> Option<NoteChange> {
    let found = notes.iter().find(|note| note.name == name);
    let is_new = found.is_none_or(|note| note.value != *card);
    is_new.then(|| write(kind::TASK, name, card.clone(), None, found))
}

fn task_card(schema: &TaskExecSchema) -> Result<(&'static str, Json)> {
    let card = TaskCard {
        name: schema.name.to_owned(),
        queue: schema.queue.to_owned(),
        priority: schema.priority,
        expires: schema.expires,
        unique: schema.unique.as_ref().map(UniqueSchema::card),
        description: schema.description.map(str::to_owned),
        tags: schema.tags.iter().map(|tag| (*tag).to_owned()).collect(),
    };
    Ok((schema.name, Json::encode(&card).map_err(not_encoded)?))
}

fn card(app: &App, queues: &[String], concurrency: usize) -> WorkerCard {
    let is_run = |schema: &&TaskExecSchema| app.lack(schema).is_none();
    WorkerCard {
        host: host(),
        process: process::id(),
        program: env::current_exe().ok().as_deref().and_then(Path::file_name).map(|name| name.to_string_lossy().into()),
        started: app.clock.now(),
        queues: queues.to_vec(),
        tasks: app.registry.schemas().filter(is_run).map(|schema| schema.name.to_owned()).collect(),
        schedules: app.schedules.iter().map(|schedule| schedule.name.clone()).collect(),
        concurrency,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

/// The name of this machine, as far as the system says it without a call of its own.
fn host() -> Option<String> {
    let of_linux = || fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let of_shell = || ["HOSTNAME", "COMPUTERNAME"].into_iter().find_map(|name| env::var(name).ok());
    let name = of_linux().or_else(of_shell)?;
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}

fn not_encoded(source: serde_json::Error) -> Error {
    Error::Encode { what: "a card".to_owned(), source: source.into() }
}

/// Deletes the card of a worker that has ended. Where the store does not answer, the card is left to the workers that go on.
pub(crate) async fn remove(shared: &WorkerShared) {
    let name = shared.id.to_string();
    let removed = async {
        let notes = shared.app.store.notes(kind::WORKER).await?;
        remove_all(&shared.app, notes.iter().filter(|note| note.name == name)).await
    };
    if let Err(error) = removed.await {
        tracing::debug!(error = crate::error::chain(&error), "the card of a worker was not deleted");
    }
}

/// Deletes the cards of workers of which the store knows no more. That of one which has just started may be there first.
pub(crate) async fn remove_left(app: &App) -> Result<()> {
    let young = app.clock.now() - SignedDuration::from_mins(1);
    let mut old = app.store.notes(kind::WORKER).await?;
    old.retain(|note| note.value.decode().is_ok_and(|card: WorkerCard| card.started < young));
    if old.is_empty() {
        return Ok(());
    }
    let known: Vec<_> = app.store.workers().await?.iter().map(|worker| worker.worker.to_string()).collect();
    remove_all(app, old.iter().filter(|note| !known.contains(&note.name))).await
}

async fn remove_all(app: &App, left: impl Iterator<Item = &Note>) -> Result<()> {
    let left: Vec<_> = left.map(delete).collect();
    if !left.is_empty() {
        // Where another worker deletes some of them too, a later look finds the rest.
        _ = app.store.note(left, Vec::new()).await?;
    }
    Ok(())
}
