//! What a task needs of its application.

use std::any::{TypeId, type_name};

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
