//! Jobs in a Postgres database: any number of processes on any number of machines.
//!
//! All of qtasks stands in a schema of its own, so the database may be the application's own. Then
//! [`QueueTasks::enqueue_in`](crate::QueueTasks::enqueue_in) lets a job be enqueued exactly if the application's own
//! transaction commits; and so does the SQL function `qtasks.enqueue`, for any client in any language:
//!
//! ```sql
//! SELECT qtasks.enqueue('welcome', '{"user": "Ada"}');
//! SELECT qtasks.enqueue('report', '{"month": 5}', '{"queue": "reports", "priority": 9, "delay": 60}');
//! ```
//!
//! The function gives the id of the job. Its options are `queue`, `priority`, `delay` (seconds), `at` (a time), `max_time`
//! and `expires` (seconds), `id` and `traceparent` (the span that enqueues the job). An option that is left out or null is what the
//! card of the task says, for `queue`, `priority` and `expires`, which every program writes that runs the task; where there is no card,
//! it is `default`, 0 and none; and else now, none, a new id, and no span. If a job of this id is
//! there already, of the same task and with the same arguments, it is the job of this call and stays as it is; any other job
//! of this id is an error. [`QueueTasks::statement`](crate::QueueTasks::statement) turns a call in Rust into such a
//! statement, with the options of its task.
//!
//! # The role
//!
//! The role that opens the store first owns the schema and brings the tables up to date later. It needs `CREATE` on the
//! database, once. This gives another role all that a program with workers needs, also for handlers in transactions, which
//! need rights on the application's own tables besides:
//!
//! ```sql
//! GRANT USAGE ON SCHEMA qtasks TO worker;
//! GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA qtasks TO worker;
//! ```
//!
//! After an update of qtasks its owner opens the store first, and the second line is said again for tables that are new. A
//! client that only calls `qtasks.enqueue`, which runs with the rights of its caller, needs this:
//!
//! ```sql
//! GRANT USAGE ON SCHEMA qtasks TO shop;
//! GRANT INSERT, SELECT (id, task, args) ON qtasks.jobs TO shop; -- To read is for calls with an `id`.
//! GRANT INSERT ON qtasks.deltas TO shop; -- By which the jobs of each queue and task are counted.
//! GRANT SELECT ON qtasks.cards TO shop; -- Which say in what queue a task is, if the call does not.
//! GRANT EXECUTE ON FUNCTION qtasks.enqueue TO shop; -- As all have it by default.
//! ```

mod account;
mod batcher;
mod calls;
mod encoding;
mod enqueue_in;
mod error;
mod folding;
mod handler;
mod leases;
mod line;
mod lookout;
mod notify;
mod pool;
mod presence;
mod schema;
mod server;
mod session;
mod shared;
mod store;
mod tls;
mod transaction;
mod url;
mod waiters;
mod watermark;

pub use tokio_postgres;

pub use self::{
    enqueue_in::{Enqueueing, InSchema},
    store::Postgres,
    transaction::Transaction,
};
