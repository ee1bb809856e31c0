//! What a program that uses the queue has in hand: the application, its jobs, and their steps as they become durable.

pub(crate) mod app;
pub(crate) mod builder;
pub(crate) mod editing;
pub(crate) mod enqueuing;
pub(crate) mod find;
pub(crate) mod handle;
pub(crate) mod in_task;
pub(crate) mod known;
pub(crate) mod pages;
pub(crate) mod pausing;
pub(crate) mod run;
pub(crate) mod schedules;
pub(crate) mod statement;
pub(crate) mod stream;
pub(crate) mod unserved;
pub(crate) mod watch;
pub(crate) mod why;
