//! What is known of a task before it runs.

pub(crate) mod collect;
