//! The calls of the store, each with its statements.

pub(super) mod enqueue;
pub(super) mod lease;
pub(super) mod mark;
pub(super) mod prune;
pub(super) mod read;
pub(super) mod record;
pub(super) mod settle;
pub(super) mod transact;
