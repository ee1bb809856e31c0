//! The one thread that writes: it takes all commands that wait, applies them in one transaction, and answers once they
//! are durable. So a hundred callers share one wait for the disk.

pub(super) mod command;
#[cfg(test)]
mod lease_on_enqueue;
pub(super) mod queue;
mod release;
pub(super) mod tables;
#[cfg(test)]
mod tests;
pub(super) mod thread;
pub(super) mod wal;
mod writer;
