//! What a worker does beside its jobs, from time to time.

mod declaring;
mod expiring;
pub(crate) mod pruner;
pub(crate) mod scheduler;
pub(crate) mod unserved;
