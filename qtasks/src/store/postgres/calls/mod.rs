//! The calls of the store, each with its statements.

pub(super) mod after;
pub(super) mod counts;
mod done;
pub(super) mod enqueue;
pub(super) mod expire;
pub(super) mod find;
pub(super) mod keys;
pub(super) mod lease;
pub(super) mod mark;
pub(super) mod notes;
pub(super) mod place;
pub(super) mod prune;
pub(super) mod rates;
pub(super) mod read;
pub(super) mod record;
pub(super) mod settle;
pub(super) mod transact;
