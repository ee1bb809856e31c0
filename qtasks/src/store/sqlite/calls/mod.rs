//! The calls of the store that change something: each is carried out in a transaction of the writer.

pub(super) mod enqueue;
pub(super) mod lease;
pub(super) mod record;
pub(super) mod transact;
