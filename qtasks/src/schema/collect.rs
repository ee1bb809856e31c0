//! What the replies of a task are collected into, as with `Iterator::collect`.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    convert::Infallible,
    fmt,
    hash::{BuildHasher, Hash},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::model::{job::Shape, json::Json, result::gather};

/// A type that the replies of a task are collected into, and that [`JobHandle::stream`](crate::JobHandle::stream) can
/// give one by one.
#[diagnostic::on_unimplemented(
    message = "a job whose result is `{Self}` has no values to stream: its task does not yield",
    label = "`.result().await` waits for what this task returns",
    note = "a task that yields returns Vec, VecDeque, BTreeSet, HashSet, BTreeMap, HashMap, String, (), qtasks::Count, \
            qtasks::Last, a Result of one of them, or nothing",
    note = "`stream_as::<R>()` reads the values of any job as `R`"
)]
pub trait Collection {
    /// What a stream of the values gives.
    type Item: DeserializeOwned + Send + 'static;
}

/// A return type that a generator may declare: a collection, or a `Result` of one.
#[diagnostic::on_unimplemented(
    message = "the values of this task cannot be collected into `{Self}`",
    label = "a task that yields cannot return this",
    note = "a task that yields returns Vec, VecDeque, BTreeSet, HashSet, BTreeMap, HashMap, String, (), qtasks::Count, \
            qtasks::Last, a Result of one of them, or nothing"
)]
pub trait Declared {
    /// The collection, without the `Result` around it.
    type Collection: Default + Send + 'static;
    /// What the body ends with: `()`, or `Result<(), E>`.
    type Body;
    /// The error that the body may end with.
    type Error;
    /// How the replies are put together.
    const SHAPE: Shape;

    /// Turns the body's end into a `Result`.
    #[doc(hidden)]
    fn ended(body: Self::Body) -> Result<(), Self::Error>;

    /// The collection made of the recorded last reply alone, for a collection that keeps no other.
    #[doc(hidden)]
    fn last(_reply: Option<&Json>) -> Result<Self::Collection, serde_json::Error> {
        Ok(Self::Collection::default())
    }
}

/// A declared return type that replies of type `R` can be collected into.
#[diagnostic::on_unimplemented(
    message = "replies of type `{R}` cannot be collected into `{Self}`",
    label = "does not collect `{R}`"
)]
pub trait Collect<R>: Declared {
    /// Adds a reply.
    #[doc(hidden)]
    fn add(collection: &mut Self::Collection, reply: R) -> Result<(), serde_json::Error>;
}

macro_rules! collections {
    ($($(#[$bound:meta])? [$($generics:tt)*] $type:ty => $item:ty, $shape:ident, ($reply:ty) |$into:ident, $value:ident| $add:expr;)*) => {$(
        impl<$($generics)*> Collection for $type
        where
            $item: DeserializeOwned,
        {
            type Item = $item;
        }

        impl<$($generics)*> Declared for $type {
            type Collection = Self;
            type Body = ();
            type Error = Infallible;
            const SHAPE: Shape = Shape::$shape;

            fn ended((): ()) -> Result<(), Infallible> {
                Ok(())
            }
        }

        impl<$($generics)*> Collect<$reply> for $type {
            fn add($into: &mut Self, $value: $reply) -> Result<(), serde_json::Error> {
                $add;
                Ok(())
            }
        }
    )*};
}

collections! {
    [R: Send + 'static] Vec<R> => R, List, (R) |into, value| into.push(value);
    [R: Send + 'static] VecDeque<R> => R, List, (R) |into, value| into.push_back(value);
    [R: Send + Ord + 'static] BTreeSet<R> => R, List, (R) |into, value| into.insert(value);
    [R: Send + Eq + Hash + 'static, S: BuildHasher + Default + Send + 'static]
        HashSet<R, S> => R, List, (R) |into, value| into.insert(value);
    [K: Send + Ord + 'static, V: Send + 'static]
        BTreeMap<K, V> => (K, V), Map, ((K, V)) |into, pair| into.insert(pair.0, pair.1);
    [K: Send + Eq + Hash + 'static, V: Send + 'static, S: BuildHasher + Default + Send + 'static]
        HashMap<K, V, S> => (K, V), Map, ((K, V)) |into, pair| into.insert(pair.0, pair.1);
    [] String => Value, Text, (char) |into, value| into.push(value);
}

impl<R: DeserializeOwned + Send + 'static> Collection for Last<R> {
    type Item = R;
}

impl<R: DeserializeOwned + Send + 'static> Declared for Last<R> {
    type Collection = Self;
    type Body = ();
    type Error = Infallible;
    const SHAPE: Shape = Shape::Last;

    fn ended((): ()) -> Result<(), Infallible> {
        Ok(())
    }

    fn last(reply: Option<&Json>) -> Result<Self, serde_json::Error> {
        gather(Shape::Last, 0, reply.map(std::slice::from_ref).unwrap_or_default())
    }
}

impl<R: DeserializeOwned + Send + 'static> Collect<R> for Last<R> {
    fn add(into: &mut Self, value: R) -> Result<(), serde_json::Error> {
        into.0 = Some(value);
        Ok(())
    }
}

macro_rules! whatever {
    ($($type:ty, $shape:ident, |$into:ident| $add:expr;)*) => {$(
        impl Collection for $type {
            type Item = Value;
        }

        impl Declared for $type {
            type Collection = Self;
            type Body = ();
            type Error = Infallible;
            const SHAPE: Shape = Shape::$shape;

            fn ended((): ()) -> Result<(), Infallible> {
                Ok(())
            }
        }

        impl<R> Collect<R> for $type {
            fn add($into: &mut Self, _: R) -> Result<(), serde_json::Error> {
                let () = $add;
                Ok(())
            }
        }
    )*};
}

whatever! {
    (), Nothing, |_into| ();
    Count, Count, |into| into.0 += 1;
}

impl Collect<String> for String {
    fn add(into: &mut Self, value: String) -> Result<(), serde_json::Error> {
        into.push_str(&value);
        Ok(())
    }
}

impl<C: Declared, E> Declared for Result<C, E> {
    type Collection = C::Collection;
    type Body = Result<(), E>;
    type Error = E;
    const SHAPE: Shape = C::SHAPE;

    fn ended(body: Result<(), E>) -> Result<(), E> {
        body
    }

    fn last(reply: Option<&Json>) -> Result<C::Collection, serde_json::Error> {
        C::last(reply)
    }
}

impl<C: Collect<R>, R, E> Collect<R> for Result<C, E> {
    fn add(collection: &mut C::Collection, reply: R) -> Result<(), serde_json::Error> {
        C::add(collection, reply)
    }
}

/// The return type of a task that declares none: a list of the replies, of any types.
#[derive(Debug)]
pub enum Untyped {}

impl Declared for Untyped {
    type Collection = Vec<Value>;
    type Body = ();
    type Error = Infallible;
    const SHAPE: Shape = Shape::List;

    fn ended((): ()) -> Result<(), Infallible> {
        Ok(())
    }
}

impl<R: Serialize> Collect<R> for Untyped {
    fn add(collection: &mut Vec<Value>, reply: R) -> Result<(), serde_json::Error> {
        collection.push(serde_json::to_value(reply)?);
        Ok(())
    }
}

/// How many values a task yielded, without those that were skipped; a plain number in JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Count(pub u64);

impl PartialEq<u64> for Count {
    fn eq(&self, other: &u64) -> bool {
        self.0 == *other
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The last reply of a task, if the task yielded; the value or null in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Last<R>(pub Option<R>);

impl<R> Default for Last<R> {
    fn default() -> Self {
        Self(None)
    }
}
