//! Jobs and what becomes of them: values and decisions, without a store, a clock or a runtime.

pub(crate) mod card;
pub(crate) mod find;
pub mod job;
pub mod json;
pub mod lifecycle;
pub(crate) mod limits;
pub(crate) mod pause;
pub(crate) mod pending;
pub(crate) mod result;
pub(crate) mod retry;
pub(crate) mod schedule;
pub(crate) mod search;
pub(crate) mod spelling;
pub mod unique;
