//! What the functions of tasks and handlers may return.

use std::marker::PhantomData;

use serde::{Serialize, de::DeserializeOwned};

use crate::error::BoxError;

/// A value that a task without steps may return.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the result of a task",
    label = "cannot be stored as the result",
    note = "a task returns a type that is `Serialize`, `DeserializeOwned` and `Send`, or a `Result` of one"
)]
pub trait Value: Serialize + DeserializeOwned + Send + 'static {}

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned + Send + 'static> Value for T {}

/// An error that a body or a handler may end with.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the error of a task",
    label = "no error that goes from thread to thread",
    note = "an error of a task is `std::error::Error + Send + Sync`, which `thiserror` derives; or write `anyhow::Result<..>`, \
            `Result<_, String>` or `Result<_, Box<dyn std::error::Error + Send + Sync>>`"
)]
pub trait Failure: Into<BoxError> {}

#[diagnostic::do_not_recommend]
impl<E: Into<BoxError>> Failure for E {}

/// A `Result`, as a task without steps may return it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is named `Result` and is not one",
    label = "not a `std::result::Result`",
    note = "`#[qtask]` tells a `Result` by its name: call this type by another"
)]
pub trait Fallible {
    /// The `T` of a `Result<T, E>`.
    type Value: Send + 'static;
    /// The `E` of a `Result<T, E>`.
    type Error;
}

impl<T: Send + 'static, E> Fallible for Result<T, E> {
    type Value = T;
    type Error = E;
}

/// Tells whether a type is a `Result`, whatever its name: by `Returned::<T>::IS_RESULT`, with [`NoResult`] in scope.
#[derive(Debug)]
pub struct Returned<T>(PhantomData<fn() -> T>);

impl<T, E> Returned<Result<T, E>> {
    /// A type that is a `Result` has this constant of its own.
    pub const IS_RESULT: bool = true;
}

/// Gives every other type the constant that [`Returned`] has of its own for a `Result`.
pub trait NoResult {
    /// A type without a constant of its own is no `Result`.
    const IS_RESULT: bool = false;
}

impl<T> NoResult for Returned<T> {}

/// What a handler may reply.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be recorded as a value of a task",
    label = "can neither be stored nor read back",
    note = "the values of a task, or what its handler replies to them, are stored: \
            `#[derive(serde::Serialize, serde::Deserialize)]` makes one of your types storable"
)]
pub trait Reply: Serialize + DeserializeOwned + Send + 'static {}

#[diagnostic::do_not_recommend]
impl<R: Serialize + DeserializeOwned + Send + 'static> Reply for R {}
