//! The calls of the store: what each sends to the server, and what the answer means.

pub(super) mod claim;
pub(super) mod counts;
pub(super) mod enqueue;
pub(super) mod expire;
pub(super) mod find;
pub(super) mod lease;
pub(super) mod note;
pub(super) mod place;
pub(super) mod prune;
pub(super) mod rates;
pub(super) mod read;
pub(super) mod record;
pub(super) mod settle;
