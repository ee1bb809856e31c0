//! Jobs in memory: for tests, for `memory:` URLs, and to say what every other store must answer.

mod after;
mod contents;
mod entry;
mod index;
mod keys;
mod store;
mod waits;

pub use self::store::Memory;
