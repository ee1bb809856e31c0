//! A durable task queue whose tasks may `yield`.

// meaning
pub mod job;
pub mod json;
pub mod lifecycle;
mod limits;
mod retry;

mod error;

// stores
pub mod store;

pub use self::{
    error::{BoxError, Error, Result},
    job::JobId,
    limits::{Limits, OverLimit},
    retry::Retry,
};
