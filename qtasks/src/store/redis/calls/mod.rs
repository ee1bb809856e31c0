//! The calls of the store: what goes to the server, and what its answer means.

pub(super) mod enqueue;
pub(super) mod lease;
pub(super) mod prune;
pub(super) mod read;
pub(super) mod record;
pub(super) mod settle;
