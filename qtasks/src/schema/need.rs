//! What a task or its handler must find in the application.

use std::any::{TypeId, type_name};

/// Something that a task or its handler takes from the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// A `State` of a type.
    State {
        /// The type, by which the state is found.
        id: TypeId,
        /// The name of the type, for the error when the state is missing.
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
