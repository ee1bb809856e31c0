//! The files by which workers show that they live: each keeps one locked beside the database, and writes the number of
//! its last renewal into another.
//!
//! In the folder `<database>-workers` a worker has `<id>.lock`, which it keeps locked as long as it lives, and
//! `<id>.beat`: the number, as 8 bytes, the lowest first. They are two, since on Windows others cannot read a file that
//! is locked. The operating system frees the lock of a process at the moment when that ends, whatever ends it. No
//! process is looked for by its id, which may be that of another one by now.
//!
//! A worker is known to be gone when its lock file is there and free: its process has ended, or it has left. One whose
//! lock cannot be looked at, or is not there, may live, as may one without a number: the folder may have been emptied.
//! A lock file says which file it is, by its inode: a free one that is a copy of another proves nothing either.
//! Whether such a worker is silent shows in its number alone. No times are compared. With each renewal a worker makes again
//! what is not there, or not its own.
//!
//! # How a worker learns that its jobs are taken
//!
//! The transaction that takes the jobs of a silent worker leaves the mark `<id>.judged`, and then reads the number once
//! more: the jobs are taken only if it has not changed. A worker that renews does it the other way round: it writes its
//! number, and then looks for the mark. So either the taker sees the new number, or the worker sees the mark, and reads
//! behind the taker's transaction which jobs it still has.
//!
//! Where the lock is free, or not there, no mark is needed: a worker that comes back then has to make its lock anew,
//! and after that it reads its leases in the same way.

mod folder;
#[cfg(test)]
mod tests;
mod watch;
mod workers;

pub(super) use self::workers::Workers;
