//! A durable task queue whose tasks may `yield`.
//!
//! Every value that a task yields goes through its handler; every handled value is a durable step; the list of steps is
//! the task's result, and a caller watches it live and typed from any process.
//!
//! ```
//! use qtasks::prelude::*;
//!
//! async fn add_two(value: i64) -> i64 {
//!     value + 2
//! }
//!
//! #[qtask(generate_handler = add_two)]
//! async fn numbers(n: i64) -> Vec<i64> {
//!     for i in 0..n {
//!         yield_!(i);
//!     }
//! }
//!
//! # #[tokio::main]
//! # async fn main() -> qtasks::Result<()> {
//! let app = QueueTasks::open("memory:").await?;
//! let worker = app.worker().start().await?;
//! let job = app.enqueue(numbers(3)).await?;
//! let mut values = job.stream();
//! while let Some(value) = values.next().await {
//!     println!("{}", value?);
//! }
//! assert_eq!(job.result().await?, [2, 3, 4]);
//! worker.shutdown().await
//! # }
//! ```
//!
//! Start at [`QueueTasks`] and [`qtask`](macro@qtask).

extern crate self as qtasks;

// meaning
mod alarm;
mod clock_hold;
mod error;
mod gather;
mod guard;
pub mod job;
pub mod json;
pub mod lifecycle;
mod limits;
mod pending;
mod retry;
mod telemetry;

// tasks
mod call;
mod co;
mod collect;
mod context;
mod end;
mod executor;
mod failure;
mod handler;
mod journal;
mod memo;
mod registry;
mod state;
mod task;
mod transacting;

// stores
pub mod store;

// a handler on one side, a store's transaction on the other
#[cfg(feature = "postgres")]
mod postgres_handlers;
#[cfg(feature = "sqlite")]
mod sqlite_handlers;

// processes
mod app;
mod attempt;
mod clock;
mod dispatcher;
mod enqueuing;
mod floor;
mod handle;
mod heartbeat;
mod held;
mod later;
mod outage;
mod patience;
mod pool;
mod pruner;
mod recorder;
mod rescue;
mod retrying;
mod signals;
mod stopping;
mod stream;
mod surroundings;
mod suspects;
mod threads;
mod unserved;
mod worker;

#[doc(hidden)]
#[path = "private.rs"]
pub mod __private;
pub mod prelude;
mod yielding;

#[cfg(feature = "postgres")]
pub use self::store::postgres;
#[cfg(feature = "sqlite")]
pub use self::store::sqlite;
pub use self::{
    app::{Builder, QueueTasks},
    call::{Call, CallOptions},
    clock::Clock,
    co::Co,
    collect::{Collect, Collection, Count, Declared, Last},
    context::TaskContext,
    error::{BoxError, Error, Result},
    executor::Value,
    failure::{IntoTaskError, TaskError},
    handle::{JobHandle, Status},
    handler::{Handler, Reply},
    job::JobId,
    limits::{Limits, OverLimit},
    retry::Retry,
    state::State,
    store::Filter,
    task::{Checkpoint, Generating, OnError, Resume, Task, TaskExecSchema},
    worker::{Worker, WorkerBuilder},
};
/// The time types that jobs and calls speak of: `call.at(..)` takes a `jiff::Timestamp`.
pub use jiff;
pub use qtasks_macros::qtask;

// The programs of the README run as doctests, where all that they use is there.
#[cfg(all(doctest, feature = "sqlite", feature = "postgres"))]
#[doc = include_str!("../../README.md")]
struct Readme;
