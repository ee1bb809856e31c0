//! A durable task queue whose tasks may `yield`.

// meaning
pub mod job;
pub mod json;
pub mod lifecycle;
mod limits;
mod retry;

mod error;

// tasks
mod co;
mod collect;
mod context;
mod executor;
mod failure;
mod handler;
mod registry;
mod tape;
mod task;

// stores
pub mod store;

pub use self::{
    error::{BoxError, Error, Result},
    job::JobId,
    limits::{Limits, OverLimit},
    retry::Retry,
};
