//! Jobs in a SQLite file: no server, and any number of processes on one machine.
//!
//! The file may be the application's own: everything of qtasks is named `qtasks_*`. Then
//! [`QueueTasks::enqueue_in`](crate::QueueTasks::enqueue_in) lets a job be enqueued exactly if the application's own
//! transaction commits; and so does an insertion into the view `qtasks_enqueue`, for any program in any language that opens
//! the file:
//!
//! ```sql
//! SELECT id FROM qtasks_new_id; -- Before, if the program wants to know it: an insertion into a view returns nothing.
//! INSERT INTO qtasks_enqueue (id, task, args, options)
//!     VALUES (?1, 'report', '{"month": 5}', '{"queue": "reports", "priority": 9, "delay": 60}');
//! INSERT INTO qtasks_enqueue (task, args) VALUES ('welcome', '{"user": "Ada"}');
//! ```
//!
//! `args` and `options` are JSON as text, and `id` is a UUID as text or as 16 bytes. The options are `queue`, `priority`,
//! `delay` (seconds), `at` (a time in ISO 8601, in UTC where it names no zone), `max_time` and `expires` (seconds),
//! `traceparent` (the span that the call belongs to, as W3C has it) and `id` (in place of the column). A queue, a priority or an
//! `expires` that is missing or null is that of the card of the task, and `default`, 0 and none where there is no card: a card is the [note](crate::store::Note) of the kind
//! `task` that has the task's name, with a value like `{"queue": "mail", "priority": 3, "expires": 600}`. All else that is missing or null is
//! now, none, and a new id. The arguments may have 1 MiB. Where a job
//! of this id is there already, of the same task and with the same arguments, it is the job of this call and stays as it is;
//! another one is an error, as is what cannot be meant. `changes()`, `last_insert_rowid()` and `RETURNING` say nothing of the
//! job. Workers are notified of it by the commit. [`QueueTasks::statement`](crate::QueueTasks::statement) makes such an insertion of a
//! call in Rust, with the options of its task.
//!
//! The program that inserts needs SQLite 3.38 or newer. Older versions refuse a connection with `PRAGMA trusted_schema = OFF`
//! there (`unsafe use of json_valid()`), and a file whose text is UTF-16 takes ids as bytes only.

mod access;
mod after;
mod batcher;
mod calls;
mod connection;
mod encoding;
mod ends;
mod enqueue_in;
mod error;
mod files;
#[cfg(test)]
mod fixture;
#[cfg(unix)]
mod folder;
mod handler;
mod holding;
mod identity;
mod insert;
mod notify;
mod pool;
mod presence;
mod renewal;
mod schema;
mod sql;
mod steps;
mod store;
mod tally;
mod transaction;
mod url;

pub use rusqlite;

pub use self::{store::Sqlite, transaction::Transaction};
