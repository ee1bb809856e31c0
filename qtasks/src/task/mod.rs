//! The trait behind `#[qtask]`, and what its implementation by the macro needs.

pub(crate) mod call;
pub(crate) mod options;
pub(crate) mod prepared;
pub(crate) mod registry;
pub(crate) mod yield_macro;

use std::marker::PhantomData;

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    execution::{attempt::Attempt, body::Running},
    model::json::{Json, Undecodable},
    schema::TaskExecSchema,
};

/// A task, as the struct that `#[qtask]` makes of a function: the fields are the stored arguments.
///
/// Not to be implemented by hand.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a call of a task",
    label = "not a call of a task",
    note = "mark a function with `#[qtask]` and call it: `app.enqueue(my_task(5))`"
)]
pub trait Task: Sized + Send + 'static {
    /// The result of a job of this task.
    type Output: Send + 'static;

    /// What is known of the task.
    fn schema() -> &'static TaskExecSchema;

    /// Encodes the arguments, as they are stored.
    #[doc(hidden)]
    fn encode(&self) -> Result<Json, serde_json::Error>;

    /// Decodes stored arguments to a call.
    #[doc(hidden)]
    fn decode(arguments: &Json) -> Result<Self, Undecodable>;

    /// Makes a body ready to run.
    #[doc(hidden)]
    fn start(self, attempt: Attempt) -> Running;
}

/// What can be an argument of a task.
///
/// Because of the lifetime, rustc takes a clause with this bound on trust, also where it does not hold. So a type that is no
/// argument is one error, at the parameter, and not one at each place where serde's code needs it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an argument of a task: take `State<{Self}>`, or derive `Serialize` and `Deserialize` for it",
    label = "can neither be stored nor read back",
    note = "the arguments of a task are stored: `#[derive(serde::Serialize, serde::Deserialize)]` makes one of your types an \
            argument",
    note = "a pool, a client or whatever else the program shares is given to the application instead, by \
            `QueueTasks::builder().state(..)`, and taken as `State<{Self}>`"
)]
pub trait Argument<'a>: Serialize + DeserializeOwned {}

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned> Argument<'_> for T {}

/// An error where `T` is no argument.
pub const fn is_argument<T: for<'a> Argument<'a>>() {}

/// A call as JSON, and back.
#[derive(Debug)]
pub struct Arguments<T>(PhantomData<fn() -> T>);

impl<T: Serialize + DeserializeOwned> Arguments<T> {
    /// Encodes the arguments, as they are stored.
    pub fn encode(call: &T) -> Result<Json, serde_json::Error> {
        Json::encode(call)
    }

    /// Decodes stored arguments to a call.
    pub fn decode(arguments: &Json) -> Result<T, Undecodable> {
        arguments.decode()
    }
}

/// Stands in for the functions of [`Arguments`] where one of them is [no argument](Argument). Such a program does not
/// compile; this keeps the code that calls the functions from errors of its own.
pub trait NotStored<T> {
    /// Never called: the program does not compile.
    fn encode(_call: &T) -> Result<Json, serde_json::Error> {
        unreachable!("an argument that cannot be stored is a compile error")
    }

    /// Never called: the program does not compile.
    fn decode(_arguments: &Json) -> Result<T, Undecodable> {
        unreachable!("an argument that cannot be stored is a compile error")
    }
}

impl<T> NotStored<T> for Arguments<T> {}

/// The two functions of [`Task`] by which a call is stored and read back. Where an argument cannot be stored, they cause no
/// error of their own.
#[doc(hidden)]
#[macro_export]
macro_rules! __stored_arguments {
    () => {
        fn encode(&self) -> ::core::result::Result<$crate::__private::Json, $crate::__private::serde_json::Error> {
            #[allow(unused_imports)]
            use $crate::__private::NotStored as _;
            $crate::__private::Arguments::<Self>::encode(self)
        }

        fn decode(arguments: &$crate::__private::Json) -> ::core::result::Result<Self, $crate::__private::Undecodable> {
            #[allow(unused_imports)]
            use $crate::__private::NotStored as _;
            $crate::__private::Arguments::<Self>::decode(arguments)
        }
    };
}

/// The type whose [`Awaits`] a call would need to be awaited.
#[derive(Debug)]
pub struct CallOfATask;

/// A trait without implementations: its message is what the compiler says of a call that is awaited. The call is a
/// parameter and not `Self`, since for `Self` rustc would have a text of its own.
#[diagnostic::on_unimplemented(
    message = "`{T}(..)` is a call of a task, which does nothing until it is enqueued or run",
    label = "write `app.enqueue({T}(..)).await?`, or `app.run({T}(..)).await?` to run it here and now"
)]
pub trait Awaits<'a, T> {}
