//! Schedules as a program has them in hand: what they are and do, how they are made, and why one does not fire.

pub(crate) mod handle;
pub(crate) mod making;
pub(crate) mod why;
