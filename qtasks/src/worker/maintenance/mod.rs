//! What a worker does beside its jobs, from time to time.

pub(crate) mod pruner;
pub(crate) mod unserved;
