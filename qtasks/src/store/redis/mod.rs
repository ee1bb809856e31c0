//! Jobs on a Redis server: many processes on many machines.

mod account;
mod batcher;
mod calls;
mod connection;
mod encoding;
mod error;
mod large;
mod notify;
mod presence;
mod runtime;
mod scripts;
mod server;
mod store;
#[cfg(feature = "redis-tls")]
mod tls;
mod url;

pub use self::store::Redis;
