//! What tasks share: the states of the application, and how handlers get them.

use std::{
    any::{Any, TypeId, type_name},
    collections::HashMap,
    fmt,
    ops::Deref,
    sync::Arc,
};

use super::{context::TaskContext, drive::Attempt};

/// Something of the application's that tasks and handlers share: given once to
/// [`QueueTasks::builder().state(..)`](crate::Builder::state), taken as a parameter.
///
/// ```standalone_crate
/// use qtasks::prelude::*;
///
/// struct Greeting(&'static str);
///
/// #[qtask]
/// async fn greet(name: String, greeting: State<Greeting>) -> String {
///     format!("{}, {name}!", greeting.0)
/// }
///
/// # #[tokio::main]
/// # async fn main() -> qtasks::Result<()> {
/// let app = QueueTasks::builder().store("memory:").state(Greeting("Hello")).build().await?;
/// assert_eq!(app.run(greet("Ada".into())).await?, "Hello, Ada!");
/// # Ok(())
/// # }
/// ```
pub struct State<T> {
    shared: Arc<T>,
}

impl<T> Deref for State<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.shared
    }
}

impl<T> Clone for State<T> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<T: fmt::Debug> fmt::Debug for State<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.fmt(f)
    }
}

/// All states of an application, by type.
#[derive(Clone, Default)]
pub(crate) struct States {
    by_type: Arc<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>,
}

impl States {
    pub(crate) fn insert<T: Send + Sync + 'static>(&mut self, value: T) {
        Arc::make_mut(&mut self.by_type).insert(TypeId::of::<T>(), Arc::new(value));
    }

    pub(crate) fn get<T: Send + Sync + 'static>(&self) -> Option<State<T>> {
        let shared = self.by_type.get(&TypeId::of::<T>())?.clone().downcast().ok()?;
        Some(State { shared })
    }

    pub(crate) fn has(&self, id: TypeId) -> bool {
        self.by_type.contains_key(&id)
    }
}

impl fmt::Debug for States {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} states", self.by_type.len())
    }
}

/// What a task or its handler takes from its application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// A `State` of this type.
    State {
        /// The type.
        id: TypeId,
        /// Its name.
        type_name: &'static str,
    },
    /// A transaction of this kind of store.
    Transaction(&'static str),
}

impl Need {
    /// The need of a `State<T>`.
    pub fn of<T: 'static>() -> Self {
        Self::State { id: TypeId::of::<T>(), type_name: type_name::<T>() }
    }
}

/// What a handler may take after the value.
#[diagnostic::on_unimplemented(
    message = "a handler cannot take a `{Self}` after the value",
    label = "neither `State<T>` nor `TaskContext`"
)]
pub trait Inject: Sized {
    /// The state that this asks for, if it is one.
    fn need() -> Option<Need>;
    /// Takes it from the attempt.
    fn inject(attempt: &Attempt) -> Self;
}

impl<T: Send + Sync + 'static> Inject for State<T> {
    fn need() -> Option<Need> {
        Some(Need::of::<T>())
    }

    fn inject(attempt: &Attempt) -> Self {
        attempt.state()
    }
}

impl Inject for TaskContext {
    fn need() -> Option<Need> {
        None
    }

    fn inject(attempt: &Attempt) -> Self {
        attempt.context()
    }
}
