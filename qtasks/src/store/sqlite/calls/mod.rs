//! The calls of the store, each with what it does to the tables. Those that change something are carried out in a transaction
//! of the writer.

pub(super) mod count;
pub(super) mod enqueue;
pub(super) mod expire;
pub(super) mod find;
pub(super) mod keys;
pub(super) mod lease;
pub(super) mod note;
pub(super) mod place;
pub(super) mod prune;
pub(super) mod rate;
pub(super) mod read;
pub(super) mod record;
pub(super) mod settle;
pub(super) mod transact;
