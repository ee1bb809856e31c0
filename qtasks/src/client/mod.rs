//! What a program has in hand that uses the queue: the application, its jobs, and their steps as they come.

pub(crate) mod app;
pub(crate) mod enqueuing;
pub(crate) mod handle;
pub(crate) mod in_task;
pub(crate) mod statement;
pub(crate) mod stream;
