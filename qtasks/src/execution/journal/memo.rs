//! Work that an attempt does once: its value is found in the record of earlier attempts, or made now and noted for later ones.

use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::{Serialize, de::DeserializeOwned};

use super::{Journal, MemoEntry, Recorded};
use crate::{
    error::Error,
    execution::{end::End, stopped::Stopped},
    model::{
        job::{Memo, NewJob},
        json::Json,
        limits::Limits,
    },
};

/// The memos of one attempt, and those of earlier ones.
pub(crate) struct Memos {
    pub(crate) journal: Arc<Journal>,
    limits: Limits,
    for_body: RecordedMemos,
    for_step: RecordedMemos,
    /// The step that comes next as the attempt begins. Earlier attempts noted nothing for the steps after it.
    first: u64,
    uses: Mutex<Uses>,
}

/// Recorded memos, in the order in which they were noted.
struct RecordedMemos(tokio::sync::Mutex<Unread>);

struct Unread {
    record: Option<Recorded<Memo>>,
    /// Memos that were read before the body asked for them.
    passed: HashMap<(String, u64), Json>,
}

/// How often each name was used so far.
#[derive(Default)]
struct Uses {
    in_body: HashMap<String, u64>,
    /// The number of a step, and the uses in it.
    in_step: (u64, HashMap<String, u64>),
    /// Whether the attempt is over.
    is_closed: bool,
}

/// Whether a body or handler that has made a memo waits until it is durable.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// It waits: what it did has effects elsewhere.
    Awaited,
    /// It goes on: what it did has no effects, and if that is forgotten, then so are all steps after it.
    Deferred,
}

/// The value of work that was done, and the job that it enqueued.
pub(crate) struct Made<T> {
    pub(crate) value: T,
    pub(crate) job: Option<NewJob>,
}

impl<T> From<T> for Made<T> {
    fn from(value: T) -> Self {
        Self { value, job: None }
    }
}

impl Memos {
    /// The memos of an attempt whose next step is `first`; `for_body` and `for_step` are the recorded ones.
    pub(crate) fn new(
        journal: Arc<Journal>,
        limits: Limits,
        first: u64,
        for_body: Option<Recorded<Memo>>,
        for_step: Option<Recorded<Memo>>,
    ) -> Self {
        let memos = |record| RecordedMemos(tokio::sync::Mutex::new(Unread { record, passed: HashMap::new() }));
        Self { journal, limits, for_body: memos(for_body), for_step: memos(for_step), first, uses: Mutex::default() }
    }

    /// The value of the next use of `name` in the body, or in the handler of `step`: that of an earlier attempt, or what
    /// `make` gives.
    ///
    /// If `make` fails, nothing is noted and the use does not count. At the `end` of the attempt this ends with an error.
    pub(crate) async fn once<T, E>(
        &self,
        step: Option<u64>,
        name: &str,
        durability: Durability,
        make: impl Future<Output = Result<Made<T>, E>>,
        end: &End,
    ) -> Result<Result<T, E>, Stopped>
    where
        T: Serialize + DeserializeOwned,
    {
        let mut this = Use { memos: self, step, name, nth: self.uses().next(step, name), counts: false };
        if let Some(value) = end.or(self.recorded(step, name, this.nth)).await?? {
            this.counts = true;
            return decode(name, &value).map(Ok);
        }
        let Made { value, job } = match end.or(make).await? {
            Ok(made) => made,
            Err(error) => return Ok(Err(error)),
        };
        let json = self.encode(name, &value)?;
        self.journal.handlers_done().await?;
        self.journal.wait_for_room().await?;
        let number = self.note(MemoEntry { step, name: name.to_owned(), nth: this.nth, value: json.clone(), job })?;
        this.counts = true;
        if durability == Durability::Awaited {
            self.durable(number).await?;
        }
        // The body sees the value as a replay would give it.
        decode(name, &json).map(Ok)
    }

    /// Adds a memo and gives its number, unless the attempt is over: the memos of an attempt are durable before it is settled.
    fn note(&self, entry: MemoEntry) -> Result<u64, Stopped> {
        let uses = self.uses();
        if uses.is_closed {
            return Err(Stopped::Fenced);
        }
        Ok(self.journal.push_memo(entry))
    }

    /// Waits until a memo is durable; it may be, though the attempt ends meanwhile.
    async fn durable(&self, number: u64) -> Result<(), Stopped> {
        match self.journal.flush().await {
            Err(Stopped::Fenced) if self.journal.has_memo(number) => Ok(()),
            flushed => flushed,
        }
    }

    /// Adds no more memos from now on: the attempt is over.
    pub(crate) fn close(&self) {
        self.uses().is_closed = true;
    }

    async fn recorded(&self, step: Option<u64>, name: &str, nth: u64) -> Result<Option<Json>, Stopped> {
        match step {
            None => self.for_body.find(name, nth).await,
            Some(step) if step == self.first => self.for_step.find(name, nth).await,
            Some(_) => Ok(None),
        }
    }

    fn encode<T: Serialize>(&self, name: &str, value: &T) -> Result<Json, Stopped> {
        let json = encode(name, value)?;
        self.limits.check_memo(&json).map_err(|over| Stopped::Error(Box::new(over)))?;
        Ok(json)
    }

    fn uses(&self) -> MutexGuard<'_, Uses> {
        self.uses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The value of work that was done once, as it is read back after it was recorded.
pub(crate) fn read_back<T: Serialize + DeserializeOwned>(name: &str, value: &T) -> Result<T, Stopped> {
    decode(name, &encode(name, value)?)
}

fn encode<T: Serialize>(name: &str, value: &T) -> Result<Json, Stopped> {
    Json::encode(value)
        .map_err(|source| Stopped::Error(Box::new(Error::Encode { what: what(name), source: source.into() })))
}

fn decode<T: DeserializeOwned>(name: &str, json: &Json) -> Result<T, Stopped> {
    json.decode().map_err(|source| {
        let as_type = std::any::type_name::<T>();
        Stopped::Error(Box::new(Error::Decode { what: what(name), as_type, source: source.into() }))
    })
}

fn what(name: &str) -> String {
    format!("what was recorded once as `{name}`")
}

impl RecordedMemos {
    async fn find(&self, name: &str, nth: u64) -> Result<Option<Json>, Stopped> {
        let mut unread = self.0.lock().await;
        let Unread { record, passed } = &mut *unread;
        if record.is_none() && passed.is_empty() {
            return Ok(None);
        }
        let key = (name.to_owned(), nth);
        if let Some(value) = passed.remove(&key) {
            return Ok(Some(value));
        }
        // It is nearly always the next memo: a body that runs again asks for the same values in the same order.
        while let Some(reading) = record {
            match reading.next().await? {
                Some(memo) if memo.name == name && memo.nth == nth => return Ok(Some(memo.value)),
                Some(memo) => _ = passed.insert((memo.name, memo.nth), memo.value),
                None => *record = None,
            }
        }
        Ok(None)
    }
}

impl Uses {
    fn of(&mut self, step: Option<u64>) -> &mut HashMap<String, u64> {
        let Some(step) = step else { return &mut self.in_body };
        if self.in_step.0 != step {
            self.in_step = (step, HashMap::new());
        }
        &mut self.in_step.1
    }

    fn next(&mut self, step: Option<u64>, name: &str) -> u64 {
        let uses = self.of(step);
        match uses.get_mut(name) {
            Some(count) => {
                *count += 1;
                *count - 1
            }
            None => {
                uses.insert(name.to_owned(), 1);
                0
            }
        }
    }

    /// Takes back a use that made nothing, unless other uses have followed it.
    fn undo(&mut self, step: Option<u64>, name: &str, nth: u64) {
        if let Some(count) = self.of(step).get_mut(name).filter(|count| **count == nth + 1) {
            *count = nth;
        }
    }
}

/// A use of a name, which counts only if it makes a value: it may fail, or be dropped half way.
struct Use<'a> {
    memos: &'a Memos,
    step: Option<u64>,
    name: &'a str,
    nth: u64,
    counts: bool,
}

impl Drop for Use<'_> {
    fn drop(&mut self) {
        if !self.counts {
            self.memos.uses().undo(self.step, self.name, self.nth);
        }
    }
}
