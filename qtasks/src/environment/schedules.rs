//! The schedules of an application: those that its code has, and what the store has of all.

use std::sync::Arc;

use jiff::Timestamp;

use super::{App, notes::kind};
use crate::{
    error::{Error, Result},
    model::{
        job::Version,
        json::Json,
        schedule::{
            definition::{CodeSchedule, Definition},
            saved::SavedSchedule,
            tick,
            timetable::Timetable,
        },
    },
    schema::TaskExecSchema,
    store::{Note, NoteChange},
    task::{prepared::Prepared, registry::Registry},
};

/// When the ticks of a schedule are.
///
/// # Errors
///
/// [`Error::Schedule`] when its expression or time zone is wrong.
pub(crate) fn timetable(name: &str, definition: &Definition) -> Result<Timetable> {
    definition.timetable().map_err(|source| Error::Schedule { name: name.to_owned(), source })
}

/// The schedule of a task that names one in its attribute.
fn of_task(schema: &TaskExecSchema) -> Option<CodeSchedule> {
    let schedule = schema.schedule?;
    let args = Json::from_stored("{}");
    let definition = Definition {
        task: schema.name.to_owned(),
        queue: schema.queue.to_owned(),
        priority: schema.priority,
        args: args.clone(),
        max_time: None,
        expires: schema.expires,
        unique: schema.unique.and_then(|unique| unique.card().of_args(&args).ok()),
        expression: schedule.expression.to_owned(),
        timezone: schedule.timezone.to_owned(),
        options: schedule.options,
    };
    Some(CodeSchedule { name: schema.name.to_owned(), definition })
}

/// All schedules in the code of a program: those of its tasks and `others`.
///
/// # Errors
///
/// [`Error::DuplicateSchedule`].
pub(crate) fn in_code(registry: &Registry, others: Vec<CodeSchedule>) -> Result<Vec<CodeSchedule>> {
    let mut all: Vec<_> = registry.schemas().filter_map(of_task).chain(others).collect();
    all.sort_by(|one, other| one.name.cmp(&other.name));
    match all.windows(2).find(|two| two[0].name == two[1].name) {
        Some(two) => Err(Error::DuplicateSchedule { name: two[0].name.clone() }),
        None => Ok(all),
    }
}

/// What the store has of a schedule, and the note that says so.
#[derive(Clone, Debug)]
pub(crate) struct FoundSchedule {
    pub(crate) note: Note,
    pub(crate) saved: SavedSchedule,
}

impl FoundSchedule {
    /// The schedule that a note says. A newer qtasks may write what this one does not understand.
    pub(crate) fn read(note: Note) -> Option<Self> {
        let saved = note.value.decode().ok()?;
        Some(Self { note, saved })
    }

    pub(crate) fn name(&self) -> &str {
        &self.note.name
    }

    /// A new schedule.
    pub(crate) fn new(name: &str, saved: SavedSchedule) -> Result<Self> {
        let value = Json::encode(&saved)
            .map_err(|source| Error::Encode { what: format!("the schedule `{name}`"), source: source.into() })?;
        let (kind, name) = (kind::SCHEDULE.to_owned(), name.to_owned());
        Ok(Self { note: Note { kind, name, version: Version::new(), value, until: None }, saved })
    }

    /// What the schedule becomes.
    pub(crate) fn becoming(&self, saved: SavedSchedule) -> Result<Self> {
        Self::new(self.name(), saved)
    }

    /// The change that writes this in place of what was found, if anything was.
    pub(crate) fn change_from<'f>(&self, found: impl Into<Option<&'f Self>>) -> NoteChange {
        let seen = found.into().map(|found| found.note.version);
        NoteChange::Write { note: self.note.clone(), seen }
    }
}

impl App {
    /// Checks the schedules in the code.
    ///
    /// # Errors
    ///
    /// [`Error::Schedule`] when an expression or a time zone is wrong.
    pub(crate) fn check_schedules(&self) -> Result<()> {
        self.schedules.iter().try_for_each(|code| timetable(&code.name, &code.definition).map(drop))
    }

    /// What the store has of all schedules, by name.
    pub(crate) async fn found_schedules(&self) -> Result<Vec<FoundSchedule>> {
        let notes = self.notes(kind::SCHEDULE).await?;
        let mut found: Vec<_> = notes.into_iter().filter_map(FoundSchedule::read).collect();
        found.sort_unstable_by(|one, other| one.name().cmp(other.name()));
        Ok(found)
    }

    /// Changes what the store has of a schedule, as `decide` says of what is there; gives whether there was anything to change.
    pub(crate) async fn change_schedule(
        &self,
        name: &str,
        decide: impl Fn(Option<&SavedSchedule>) -> Result<Option<SavedSchedule>> + Send + Sync,
    ) -> Result<bool> {
        self.change_note(kind::SCHEDULE, name, |note| {
            let saved: Option<SavedSchedule> = note.and_then(|note| note.value.decode().ok());
            let Some(becomes) = decide(saved.as_ref())? else { return Ok(None) };
            let seen = note.map(|note| note.version);
            Ok(Some(NoteChange::Write { note: FoundSchedule::new(name, becomes)?.note, seen }))
        })
        .await
    }

    /// The job of a schedule's tick.
    ///
    /// # Errors
    ///
    /// [`Error::Rejected`] and [`Error::OverLimit`], as [`let_in`](Self::let_in) gives them.
    pub(crate) fn job_of_tick(
        self: &Arc<Self>,
        name: &str,
        definition: &Definition,
        tick: Timestamp,
        now: Timestamp,
    ) -> Result<Prepared> {
        let task = self.registry.get(&definition.task).map(|task| task.schema().name.into());
        self.let_in(Prepared {
            id: tick::id(name, tick),
            has_own_id: false,
            task: task.unwrap_or_else(|| definition.task.clone().into()),
            queue: definition.queue.clone().into(),
            priority: definition.priority,
            args: definition.args.clone(),
            due: tick::due(name, tick, definition.options.jitter),
            max_time: definition.max_time,
            enqueued: now,
            expires: definition.expires,
            trace: None,
            unique: definition.unique.clone(),
            after: None,
        })
    }
}
