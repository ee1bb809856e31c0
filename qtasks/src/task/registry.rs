//! All tasks that are linked into this program, by name.

use std::collections::BTreeMap;

use super::Task;
use crate::schema::TaskExecSchema;
use crate::{
    error::{Error, Result},
    execution::{attempt::Attempt, body::Running, stopped::Stopped},
    model::json::Json,
};

/// A task's entry in the registry, which the linker collects.
#[derive(Debug)]
pub struct Registration {
    schema: fn() -> &'static TaskExecSchema,
    start: fn(&Json, Attempt) -> Result<Running, Stopped>,
}

inventory::collect!(Registration);

impl Registration {
    /// The entry of the task `T`.
    pub const fn of<T: Task>() -> Self {
        Self { schema: T::schema, start: start::<T> }
    }

    pub(crate) fn schema(&self) -> &'static TaskExecSchema {
        (self.schema)()
    }

    /// Decodes the arguments and makes the body ready to run.
    pub(crate) fn start(&self, args: &Json, attempt: Attempt) -> Result<Running, Stopped> {
        (self.start)(args, attempt)
    }
}

fn start<T: Task>(args: &Json, attempt: Attempt) -> Result<Running, Stopped> {
    let task = T::decode(args).map_err(|source| {
        Stopped::Error(Box::new(Error::Decode {
            what: "the stored arguments".to_owned(),
            as_type: T::schema().name,
            source: source.into(),
        }))
    })?;
    Ok(task.start(attempt))
}

/// All tasks of a program, by name.
#[derive(Clone, Debug)]
pub(crate) struct Registry {
    by_name: BTreeMap<&'static str, &'static Registration>,
}

impl Registry {
    /// The tasks linked into this program.
    pub(crate) fn linked() -> Result<Self> {
        Self::of(inventory::iter::<Registration>)
    }

    fn of(registrations: impl IntoIterator<Item = &'static Registration>) -> Result<Self> {
        let mut by_name: BTreeMap<&'static str, &'static Registration> = BTreeMap::new();
        for registration in registrations {
            let schema = registration.schema();
            if let Some(other) = by_name.insert(schema.name, registration) {
                let (first, second) = (other.schema().location(), schema.location());
                return Err(Error::DuplicateTask { name: schema.name, first, second });
            }
        }
        Ok(Self { by_name })
    }

    pub(crate) fn get(&self, name: &str) -> Option<&'static Registration> {
        self.by_name.get(name).copied()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    pub(crate) fn schemas(&self) -> impl Iterator<Item = &'static TaskExecSchema> {
        self.by_name.values().map(|registration| registration.schema())
    }
}
