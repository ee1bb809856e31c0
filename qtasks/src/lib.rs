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
//! # Where to look
//!
//! | to | see |
//! | --- | --- |
//! | write a task | [`qtask`](macro@qtask), [`yield_!`], [`State`], [`TaskContext`], [`TaskError`] |
//! | enqueue jobs, watch them and get results | [`QueueTasks`], [`CallOptions`], [`JobHandle`] |
//! | run workers | [`QueueTasks::worker`], [`WorkerBuilder`], [`Worker`] |
//! | choose a store, by its URL | [`QueueTasks::open`]; `sqlite`, `postgres` and `store::Redis` for what each promises |
//! | put something around all attempts | [`Around`], [`Builder::around`] |
//! | see what is there | [`QueueTasks::find`], [`QueueTasks::counts`], [`QueueTasks::workers`], [`JobHandle::why`], [`job`] |
//! | stop something for a while | [`QueueTasks::pause`], [`Scope`], [`Pause`] |
//! | write a store | [`store`] |
//!
//! # Features
//!
//! | feature | brings |
//! | --- | --- |
//! | `sqlite`, on by default | the store `sqlite:PATH` |
//! | `postgres` | the store `postgres://USER:PASSWORD@HOST/DATABASE` |
//! | `redis`, `redis-tls` | the stores `redis://HOST` and `rediss://HOST` |
//! | `metrics` | counts and times of jobs, by the facade `metrics` |
//! | `opentelemetry` | counts, times and traces by OpenTelemetry's conventions for messaging |
//! | `conformance` | the tests that every store passes, for a store of your own |

// Which feature an item needs shows on docs.rs.
#![cfg_attr(docsrs, feature(doc_cfg))]

extern crate self as qtasks;

#[doc(hidden)]
#[path = "macro_support.rs"]
pub mod __private;
mod around;
mod client;
mod clock;
mod environment;
mod error;
mod execution;
mod model;
pub mod prelude;
mod runtime;
mod schema;
pub mod store;
mod task;
mod telemetry;
mod worker;

#[cfg(feature = "postgres")]
#[doc(inline)]
pub use self::store::postgres;
#[cfg(feature = "sqlite")]
#[doc(inline)]
pub use self::store::sqlite;
pub use self::{
    around::{Around, Ended, NewJobInfo, Next, Reject},
    client::{
        app::QueueTasks,
        builder::Builder,
        editing::Editing,
        find::{Finding, Search},
        handle::{JobHandle, Status},
        known::WorkerInfo,
        pausing::Pausing,
        schedules::{handle::Schedule, making::Scheduling, why::WhySchedule},
        statement::Statement,
        watch::Update,
        why::Why,
    },
    clock::Clock,
    error::{BoxError, Error, Result},
    execution::{co::Co, context::TaskContext, handler::Handler, state::State, stopped::TaskError},
    model::{
        card::{TaskCard, UniqueCard, WorkerCard},
        job::{self, AfterFailure, Parents},
        json,
        limits::{Limits, OverLimit},
        pause::{Pause, Scope},
        retry::Retry,
        schedule::{Missed, Overlap, ScheduleError, ScheduleOptions},
        search::SearchError,
        unique::{self, Duplicate},
    },
    schema::{
        Checkpoint, Generating, OnError, Resume, ScheduleSchema, TaskExecSchema, UniqueSchema,
        collect::{Collect, Collection, Count, Last},
        returns::Value,
    },
    task::{
        Task,
        call::{AnyCall, Call, CallOptions},
    },
    telemetry::trace::{TraceRelation, Traces},
    worker::{Worker, WorkerBuilder},
};
#[doc(inline)]
pub use self::{
    model::job::JobId,
    store::{Budget, Find, JobCounts, LaneCounts, Page},
};
// What signatures and tests of stores name, and no user needs to.
#[doc(hidden)]
pub use self::{
    execution::stopped::IntoTaskError,
    model::lifecycle,
    schema::{collect::Declared, returns::Reply},
};
/// The time types that jobs and calls speak of: `call.at(..)` takes a `jiff::Timestamp`.
pub use jiff;
pub use qtasks_macros::qtask;

// The programs in the documents need these two stores.
#[cfg(all(doctest, feature = "sqlite", feature = "postgres"))]
mod documents;
